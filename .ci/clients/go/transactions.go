package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transactions asks for them only where they are offered.
func (s *session) transactions() {
	const endTransaction = 26
	s.unless("transactions", endTransaction, "EndTxn", s.advertisedTransactions)
}

// advertisedTransactions commits and aborts, and reads with both isolation levels.
func (s *session) advertisedTransactions() {
	topic := s.name("transactions")
	s.Run("transactions: commit and abort", func() error {
		if err := s.createTopic(topic, 2, nil); err != nil {
			return err
		}
		return s.commitAndAbort(topic)
	})
	s.Run("transactions: consume, transform, produce exactly once", func() error {
		return s.transform(topic, s.name("transformed"))
	})
}

const transactionRounds = 20

func (s *session) commitAndAbort(topic string) error {
	client, err := s.client(
		kgo.TransactionalID(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var kept []string
	for round := range transactionRounds {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		outcome, value := kgo.TryCommit, "kept-"+strconv.Itoa(round)
		if round%2 == 1 {
			outcome, value = kgo.TryAbort, "dropped-"+strconv.Itoa(round)
		} else {
			kept = append(kept, value)
		}
		for partition := range int32(2) {
			if err := produceOne(client, topic, partition, value); err != nil {
				return err
			}
		}
		if err := client.EndTransaction(ctx, outcome); err != nil {
			return err
		}
	}
	for partition := range int32(2) {
		committed, err := s.readValues(topic, partition, kgo.ReadCommitted(), len(kept))
		if err != nil {
			return err
		}
		if !slices.Equal(kept, committed) {
			return fmt.Errorf("committed records of partition %d: %v", partition, committed)
		}
		all, err := s.readValues(topic, partition, kgo.ReadUncommitted(), transactionRounds)
		if err != nil {
			return err
		}
		if err := checks.Same("all records", transactionRounds, len(all)); err != nil {
			return err
		}
	}
	return nil
}

// readValues reads a partition until it has so many values, and then whatever else comes at once.
func (s *session) readValues(topic string, partition int32, isolation kgo.IsolationLevel, count int) ([]string, error) {
	start := map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}
	client, err := s.client(kgo.ConsumePartitions(start), kgo.FetchIsolationLevel(isolation))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var values []string
	for {
		fetches := client.PollFetches(ctx)
		err := fetches.Err()
		fetches.EachRecord(func(record *kgo.Record) { values = append(values, string(record.Value)) })
		switch {
		case len(values) >= count && (err != nil || fetches.Empty()):
			return values, nil
		case err != nil:
			return nil, fmt.Errorf("after %d of %d values: %w", len(values), count, err)
		case len(values) >= count:
			ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
		}
	}
}

// transform moves the committed records of one topic to another inside transactions that hold the
// group's offsets too; the first attempt is aborted, so its records must come again.
func (s *session) transform(source, target string) error {
	if err := s.createTopic(target, 1, nil); err != nil {
		return err
	}
	transactor, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(strings.Split(s.bootstrap, ",")...),
		kgo.TransactionalID(target),
		kgo.ConsumerGroup(target),
		kgo.ConsumeTopics(source),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.DefaultProduceTopic(target),
	)
	if err != nil {
		return err
	}
	defer transactor.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	outcome := kgo.TryAbort
	for moved := 0; moved < transactionRounds; {
		fetches := transactor.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d records: %w", moved, err)
		}
		if err := transactor.Begin(); err != nil {
			return err
		}
		var produced []error
		fetches.EachRecord(func(record *kgo.Record) {
			copied := &kgo.Record{Value: record.Value}
			produced = append(produced, transactor.ProduceSync(ctx, copied).FirstErr())
		})
		if err := errors.Join(produced...); err != nil {
			return err
		}
		committed, err := transactor.End(ctx, outcome)
		if err != nil {
			return err
		}
		if committed {
			moved += fetches.NumRecords()
		}
		outcome = kgo.TryCommit
	}
	values, err := s.readValues(target, 0, kgo.ReadCommitted(), transactionRounds)
	if err != nil {
		return err
	}
	slices.Sort(values)
	unique := len(slices.Compact(slices.Clone(values)))
	return errors.Join(
		checks.Same("transformed records", transactionRounds, len(values)),
		// Each kept value stands in both source partitions.
		checks.Same("different values", transactionRounds/2, unique),
	)
}
