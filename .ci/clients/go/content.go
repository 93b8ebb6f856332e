package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// content puts the whole corpus through an idempotent producer in all codecs, reads it back and
// seeks in it by time.
func (s *session) content() {
	topic := s.name("content")
	s.Run("content: create topic", func() error {
		forever := "-1" // the corpus is dated in the past
		return s.createTopic(topic, corpusPartitions, map[string]*string{"retention.ms": &forever})
	})
	for i, codec := range codecs {
		s.Run("content: produce "+codec.name, func() error {
			return s.produceCorpus(topic, codec, i*perCodec)
		})
	}
	s.Run("content: every record once, in order, unchanged", func() error {
		return s.consumeCorpus(topic)
	})
	s.Run("content: earliest and latest offsets", func() error { return s.corpusEnds(topic) })
	s.Run("content: offsets for times", func() error { return s.corpusTimes(topic) })
}

func (s *session) produceCorpus(topic string, codec codec, first int) error {
	client, err := s.client(
		kgo.ProducerBatchCompression(codec.codec),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var lock sync.Mutex
	var problems []error
	for number := first; number < first+perCodec; number++ {
		client.Produce(context.Background(), corpusRecord(topic, number), func(r *kgo.Record, err error) {
			if err == nil {
				err = checks.Same(fmt.Sprintf("offset of record %d", number), int64(number/corpusPartitions), r.Offset)
			}
			if err != nil {
				lock.Lock()
				defer lock.Unlock()
				problems = append(problems, err)
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems, the first: %w", len(problems), problems[0])
	}
	return nil
}

func (s *session) consumeCorpus(topic string) error {
	client, err := s.client(
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	next := make([]int64, corpusPartitions)
	for seen := 0; seen < total; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d records: %w", seen, err)
		}
		for _, record := range fetches.Records() {
			if err := checks.Same("next offset", next[record.Partition], record.Offset); err != nil {
				return err
			}
			if err := verify(record); err != nil {
				return err
			}
			next[record.Partition]++
			seen++
		}
	}
	quiet, cancelQuiet := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelQuiet()
	return checks.Same("records after the last one", 0, client.PollFetches(quiet).NumRecords())
}

func (s *session) corpusEnds(topic string) error {
	return s.withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		starts, err := admin.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		latest, err := admin.ListMaxTimestampOffsets(ctx, topic)
		if err != nil {
			return err
		}
		for partition := range int32(corpusPartitions) {
			start, _ := starts.Lookup(topic, partition)
			end, _ := ends.Lookup(topic, partition)
			last, _ := latest.Lookup(topic, partition)
			if err := errors.Join(
				start.Err, end.Err, last.Err,
				checks.Same("earliest", int64(0), start.Offset),
				checks.Same("latest", corpusLength(partition), end.Offset),
				checks.Same("of the largest timestamp", corpusLength(partition)-1, last.Offset),
			); err != nil {
				return fmt.Errorf("partition %d: %w", partition, err)
			}
		}
		return nil
	})
}

func (s *session) corpusTimes(topic string) error {
	for _, wanted := range []int{-5, 0, 1, 19_999, 20_000, 43_210, 77_777, total - 1, total} {
		if err := s.timesFrom(topic, wanted); err != nil {
			return fmt.Errorf("time %d: %w", wanted, err)
		}
	}
	return s.consumeFromTime(topic, 43_210)
}

func (s *session) timesFrom(topic string, wanted int) error {
	return s.withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		found, err := admin.ListOffsetsAfterMilli(ctx, firstTimestamp+int64(wanted), topic)
		if err != nil {
			return err
		}
		for partition := range int32(corpusPartitions) {
			number := max(wanted, 0)
			for int32(number%corpusPartitions) != partition {
				number++
			}
			// kadm answers with the end offset where no record is that late.
			expected := min(int64(number/corpusPartitions), corpusLength(partition))
			at, _ := found.Lookup(topic, partition)
			if err := checks.Same(fmt.Sprintf("partition %d", partition), expected, at.Offset); err != nil {
				return err
			}
			if number < total {
				if err := checks.Same("timestamp", firstTimestamp+int64(number), at.Timestamp); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// consumeFromTime starts a consumer at a time, and its first record must be the first at that time.
func (s *session) consumeFromTime(topic string, wanted int) error {
	partition := int32(wanted % corpusPartitions)
	start := kgo.NewOffset().AfterMilli(firstTimestamp + int64(wanted))
	client, err := s.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: start}}))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fetches := client.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		return err
	}
	record := fetches.Records()[0]
	return errors.Join(checks.Same("offset read", int64(wanted/corpusPartitions), record.Offset), verify(record))
}
