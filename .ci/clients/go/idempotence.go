package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// idempotence sends batches by hand, since no client repeats or skips a sequence on purpose.
func (s *session) idempotence() {
	s.Run("idempotence: a repeated batch gets its old offset, a gap is refused", func() error {
		// From version 13 on topics travel by id; these requests name them.
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(0, 12)
		client, err := s.client(kgo.MaxVersions(versions))
		if err != nil {
			return err
		}
		defer client.Close()
		topic := s.name("idempotence")
		if err := s.createTopic(topic, 1, nil); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return sequences(ctx, client, topic)
	})
}

func sequences(ctx context.Context, client *kgo.Client, topic string) error {
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionTimeoutMillis = -1
	producer, err := init.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(producer.ErrorCode); err != nil {
		return err
	}
	send := func(sequence int32) (int64, error) {
		return produceBatch(ctx, client, topic, batch{producer.ProducerID, producer.ProducerEpoch, sequence, 3})
	}
	// Five batches are what a producer may have in flight, so the broker must know each of them.
	for sequence := int32(0); sequence < 15; sequence += 3 {
		at, err := send(sequence)
		if err != nil {
			return err
		}
		if err := checks.Same("offset", int64(sequence), at); err != nil {
			return err
		}
	}
	for sequence := int32(0); sequence < 15; sequence += 3 {
		at, err := send(sequence)
		if err != nil {
			return fmt.Errorf("repeated sequence %d: %w", sequence, err)
		}
		if err := checks.Same("offset of a repeated batch", int64(sequence), at); err != nil {
			return err
		}
	}
	_, gap := send(18)
	if err := refused(kerr.OutOfOrderSequenceNumber, gap); err != nil {
		return err
	}
	_, fenced := produceBatch(ctx, client, topic, batch{producer.ProducerID, producer.ProducerEpoch + 1, 5, 3})
	if err := refused(kerr.OutOfOrderSequenceNumber, fenced); err != nil {
		return fmt.Errorf("a new epoch that starts at sequence 5: %w", err)
	}
	at, err := produceBatch(ctx, client, topic, batch{producer.ProducerID, producer.ProducerEpoch + 1, 0, 3})
	if err != nil {
		return fmt.Errorf("a new epoch: %w", err)
	}
	_, older := send(15)
	return errors.Join(
		checks.Same("offset under the new epoch", int64(15), at),
		refused(kerr.InvalidProducerEpoch, older),
	)
}

type batch struct {
	producer int64
	epoch    int16
	sequence int32
	records  int
}

func (b batch) encode() []byte {
	var records []byte
	for i := range b.records {
		record := kmsg.Record{OffsetDelta: int32(i), Value: []byte("value")}
		// The length is a varint of what follows it, and small enough to be one byte long.
		record.Length = int32(len(record.AppendTo(nil)) - 1)
		records = record.AppendTo(records)
	}
	now := time.Now().UnixMilli()
	encoded := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1,
		Magic:                2,
		LastOffsetDelta:      int32(b.records - 1),
		FirstTimestamp:       now,
		MaxTimestamp:         now,
		ProducerID:           b.producer,
		ProducerEpoch:        b.epoch,
		FirstSequence:        b.sequence,
		NumRecords:           int32(b.records),
		Records:              records,
	}
	const beforeLength, beforeChecksum = 12, 21
	raw := encoded.AppendTo(nil)
	encoded.Length = int32(len(raw) - beforeLength)
	raw = encoded.AppendTo(nil)
	encoded.CRC = int32(crc32.Checksum(raw[beforeChecksum:], crc32.MakeTable(crc32.Castagnoli)))
	return encoded.AppendTo(nil)
}

// produceBatch gives the base offset that the broker answered with. A lead may move meanwhile, as every client knows.
func produceBatch(ctx context.Context, client *kgo.Client, topic string, b batch) (int64, error) {
	for {
		at, err := tryBatch(ctx, client, topic, b)
		if !errors.Is(err, kerr.NotLeaderForPartition) || ctx.Err() != nil {
			return at, err
		}
		client.ForceMetadataRefresh()
		time.Sleep(100 * time.Millisecond)
	}
}

func tryBatch(ctx context.Context, client *kgo.Client, topic string, b batch) (int64, error) {
	request := kmsg.NewPtrProduceRequest()
	request.Acks = -1
	request.TimeoutMillis = 10_000
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = b.encode()
	wanted := kmsg.NewProduceRequestTopic()
	wanted.Topic = topic
	wanted.Partitions = append(wanted.Partitions, partition)
	request.Topics = append(request.Topics, wanted)
	answer, err := request.RequestWith(ctx, client)
	if err != nil {
		return -1, err
	}
	for _, topic := range answer.Topics {
		for _, partition := range topic.Partitions {
			return partition.BaseOffset, kerr.ErrorForCode(partition.ErrorCode)
		}
	}
	return -1, errors.New("the answer names no partition")
}
