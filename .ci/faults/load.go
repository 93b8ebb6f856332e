package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	loadTopics     = 3
	loadPartitions = 4
	loadGroup      = "faults"
	groupMembers   = 2
	// visitTime is how long a visiting member stays, and how long it stays away.
	visitTime = 4 * time.Second
	// Each producer sends one record per pause: together about 3,000 records a second.
	sendPause = time.Millisecond
	// patience is how long clients may need to find a restarted broker again.
	patience = 60 * time.Second
)

var codecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}

// load is clients at work while the broker comes and goes: idempotent producers, a reader of every
// partition, and a consumer group that commits. They report to the history.
type load struct {
	address string
	history *history

	stopProducers context.CancelFunc
	producers     sync.WaitGroup
	stopReaders   context.CancelFunc
	readers       sync.WaitGroup

	acknowledged atomic.Int64
	read         atomic.Int64
	commits      atomic.Int64

	lock     sync.Mutex
	problems []error
	// When each partition last acknowledged a record, and the longest wait for one since the gaps were begun anew.
	last    map[place]time.Time
	longest map[place]time.Duration
	// When each partition last acknowledged a record at all.
	heard map[place]time.Time
}

func loadTopic(number int) string {
	return fmt.Sprintf("faults-%d", number)
}

func loadPlaces() []place {
	var places []place
	for topic := range loadTopics {
		for partition := range int32(loadPartitions) {
			places = append(places, place{loadTopic(topic), partition})
		}
	}
	return places
}

// value holds the id at its front; the rest only has weight.
func (i id) value() []byte {
	value := make([]byte, 120)
	binary.BigEndian.PutUint32(value, uint32(i.producer))
	binary.BigEndian.PutUint64(value[4:], uint64(i.sequence))
	return value
}

func idOf(value []byte) (id, error) {
	if len(value) != 120 {
		return id{}, fmt.Errorf("a value of %d bytes, which no producer sent", len(value))
	}
	return id{
		producer: int32(binary.BigEndian.Uint32(value)),
		sequence: int64(binary.BigEndian.Uint64(value[4:])),
	}, nil
}

func loadTopicNames() []string {
	var names []string
	for number := range loadTopics {
		names = append(names, loadTopic(number))
	}
	return names
}

func createLoadTopics(address string) error {
	return withAdmin(address, func(ctx context.Context, admin *kadm.Client) error {
		for number := range loadTopics {
			answer, err := admin.CreateTopic(ctx, loadPartitions, -1, nil, loadTopic(number))
			if err := errors.Join(err, answer.Err); err != nil {
				return err
			}
		}
		return nil
	})
}

func withAdmin(address string, call func(context.Context, *kadm.Client) error) error {
	return withClient(address, func(ctx context.Context, client *kgo.Client) error {
		return call(ctx, kadm.NewClient(client))
	})
}

func withClient(address string, call func(context.Context, *kgo.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(address, ",")...), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return call(ctx, client)
}

// startLoad starts all clients. Producer numbers begin at firstProducer, so that a later load in the
// same log does not repeat the ids of an earlier one.
func startLoad(address string, h *history, firstProducer int32) (*load, error) {
	l := &load{address: address, history: h, heard: map[place]time.Time{}}
	l.beginGaps()
	producing, stopProducers := context.WithCancel(context.Background())
	reading, stopReaders := context.WithCancel(context.Background())
	l.stopProducers, l.stopReaders = stopProducers, stopReaders
	for number := range loadTopics {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(strings.Split(address, ",")...),
			kgo.DefaultProduceTopic(loadTopic(number)),
			kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(codecs[number%len(codecs)]),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			// Without this the client answers a lost sequence with a new producer id and may repeat.
			kgo.StopProducerOnDataLossDetected(),
			kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
			// What is measured is how soon the brokers go on, not how seldom this client asks who leads.
			kgo.MetadataMinAge(50*time.Millisecond),
			kgo.DisableClientMetrics(),
		)
		if err != nil {
			return l, err
		}
		l.producers.Go(func() { l.produce(producing, client, number, firstProducer+int32(number)) })
	}
	l.readers.Go(func() { l.tail(reading) })
	for range groupMembers {
		l.readers.Go(func() { l.consume(reading) })
	}
	l.readers.Go(func() { l.visit(reading) })
	return l, nil
}

// beginGaps forgets how long partitions have waited for acknowledgements so far.
func (l *load) beginGaps() {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.last, l.longest = map[place]time.Time{}, map[place]time.Duration{}
	for _, at := range loadPlaces() {
		l.last[at] = time.Now()
	}
}

func (l *load) noteGap(at place) {
	l.lock.Lock()
	defer l.lock.Unlock()
	now := time.Now()
	l.longest[at] = max(l.longest[at], now.Sub(l.last[at]))
	l.last[at], l.heard[at] = now, now
}

// longestGap is the longest time that one of these partitions went without an acknowledgement since the gaps were begun
// anew.
func (l *load) longestGap(of func(place) bool) (longest time.Duration, where place) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for at, last := range l.last {
		if !of(at) {
			continue
		}
		if gap := max(l.longest[at], time.Since(last)); gap > longest {
			longest, where = gap, at
		}
	}
	return longest, where
}

func (l *load) problem(format string, arguments ...any) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if len(l.problems) < maxViolations {
		l.problems = append(l.problems, fmt.Errorf(format, arguments...))
	}
}

func (l *load) problemsSoFar() error {
	l.lock.Lock()
	defer l.lock.Unlock()
	return errors.Join(l.problems...)
}

func (l *load) produce(ctx context.Context, client *kgo.Client, topic int, producer int32) {
	defer client.Close()
	sequences := make([]int64, loadPartitions)
	for number := 0; ctx.Err() == nil; number++ {
		partition := int32(number % loadPartitions)
		record := id{producer, sequences[partition]}
		sequences[partition]++
		at := place{loadTopic(topic), partition}
		// Not the loop's context: a record that was started must come to its end.
		client.Produce(context.Background(), &kgo.Record{Partition: partition, Value: record.value()},
			func(sent *kgo.Record, err error) {
				if err != nil {
					l.problem("producer %d: %v of %v: %w", producer, record, at, err)
					return
				}
				l.history.acknowledge(at, record, sent.Offset)
				l.noteGap(at)
				l.acknowledged.Add(1)
			})
		time.Sleep(sendPause)
	}
	flush, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.Flush(flush); err != nil {
		l.problem("producer %d: records are still unanswered after %s: %w", producer, patience, err)
	}
}

// tail reads everything as it comes, through all lives of the broker. It never resets: an offset that
// was served and is then out of range is a broken promise.
func (l *load) tail(ctx context.Context) {
	start := map[string]map[int32]kgo.Offset{}
	for _, at := range loadPlaces() {
		if start[at.topic] == nil {
			start[at.topic] = map[int32]kgo.Offset{}
		}
		start[at.topic][at.partition] = kgo.NewOffset().At(0)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(l.address, ",")...),
		kgo.ConsumePartitions(start),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		l.problem("reader: %w", err)
		return
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			if ctx.Err() == nil && !passing(err) {
				l.problem("reader: %s %d: %w", topic, partition, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			read, err := idOf(record.Value)
			if err != nil {
				l.problem("reader: %s %d offset %d: %w", record.Topic, record.Partition, record.Offset, err)
				return
			}
			l.history.observe(place{record.Topic, record.Partition}, record.Offset, read)
			l.read.Add(1)
		})
	}
}

// consume is a member of the group: it reads, commits, and remembers what the broker confirmed.
func (l *load) consume(ctx context.Context) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(l.address, ",")...),
		kgo.ConsumerGroup(loadGroup),
		kgo.ConsumeTopics(loadTopicNames()...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.SessionTimeout(20*time.Second),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		l.problem("group member: %w", err)
		return
	}
	defer client.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 1000)
		if records := fetches.Records(); len(records) > 0 {
			l.commit(ctx, client, records)
		}
		client.AllowRebalance()
	}
}

// visit is one member more that comes for a few seconds at a time, so that the group is never long without a rebalance.
func (l *load) visit(ctx context.Context) {
	for ctx.Err() == nil {
		stay, cancel := context.WithTimeout(ctx, visitTime)
		l.consume(stay)
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(visitTime):
		}
	}
}

func (l *load) commit(ctx context.Context, client *kgo.Client, records []*kgo.Record) {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// A refused or lost commit promises nothing; only a confirmed one counts.
	if client.CommitRecords(limited, records...) != nil {
		return
	}
	for _, record := range records {
		l.history.commit(place{record.Topic, record.Partition}, record.Offset+1)
	}
	l.commits.Add(1)
}

// passing errors are those of a broker that is away.
func passing(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		kgo.IsRetryableBrokerErr(err)
}

// progress waits until each partition has acknowledged, and reads and commits went on: every part of the load works.
func (l *load) progress() error {
	return l.progressOf(loadPlaces())
}

// progressOf asks for acknowledgements of these partitions only.
func (l *load) progressOf(places []place) error {
	begin := time.Now()
	read, commits := l.read.Load(), l.commits.Load()
	for time.Since(begin) < patience {
		if err := l.problemsSoFar(); err != nil {
			return err
		}
		if len(l.silentSince(begin, places)) == 0 && l.read.Load() > read && l.commits.Load() > commits {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("within %s: %d reads, %d commits, and no acknowledgement of %v", patience,
		l.read.Load()-read, l.commits.Load()-commits, l.silentSince(begin, places))
}

// silentSince are those of the partitions that have acknowledged nothing since then.
func (l *load) silentSince(begin time.Time, places []place) []place {
	l.lock.Lock()
	defer l.lock.Unlock()
	var silent []place
	for _, at := range places {
		if !l.heard[at].After(begin) {
			silent = append(silent, at)
		}
	}
	return silent
}

// abandon ends all clients without judging anything.
func (l *load) abandon() {
	l.stopReaders()
	l.stopProducers()
}

// finish lets the producers come to their end, then stops the readers.
func (l *load) finish() error {
	l.stopProducers()
	l.producers.Wait()
	l.stopReaders()
	l.readers.Wait()
	return l.problemsSoFar()
}

// checkCommitted asks for the group's offsets and holds them against all commits confirmed before.
func checkCommitted(address string, h *history) error {
	promised := h.promises()
	return withAdmin(address, func(ctx context.Context, admin *kadm.Client) error {
		for {
			answer, err := admin.FetchOffsets(ctx, loadGroup)
			if err != nil {
				if ctx.Err() != nil {
					return err
				}
				time.Sleep(50 * time.Millisecond) // the coordinator is still loading
				continue
			}
			for at, offset := range promised {
				found, present := answer.Lookup(at.topic, at.partition)
				if !present {
					found.At = -1
				}
				h.fetched(at, offset, found.At)
			}
			return nil
		}
	})
}

// readAll reads every partition completely and judges it; producers must have come to their end.
func readAll(address string, h *history) error {
	return eachPartition(address, h.judge)
}

// reread reads everything once more while producers go on, so it can only find rewritten offsets.
func reread(address string, h *history) error {
	return eachPartition(address, func(at place, log []entry) {
		for _, e := range log {
			h.observe(at, e.offset, e.id)
		}
	})
}

// eachPartition reads every partition from its start to the end that it has now.
func eachPartition(address string, use func(place, []entry)) error {
	ends := map[place]int64{}
	if err := withAdmin(address, func(ctx context.Context, admin *kadm.Client) error {
		for {
			err := listEnds(ctx, admin, ends)
			if err == nil || ctx.Err() != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond) // leaders are still being elected
		}
	}); err != nil {
		return err
	}
	for _, at := range loadPlaces() {
		log, err := readPartition(address, at, ends[at])
		if err != nil {
			return fmt.Errorf("%v: %w", at, err)
		}
		use(at, log)
	}
	return nil
}

func listEnds(ctx context.Context, admin *kadm.Client, ends map[place]int64) error {
	listed, err := admin.ListEndOffsets(ctx, loadTopicNames()...)
	if err != nil {
		return err
	}
	for _, at := range loadPlaces() {
		end, found := listed.Lookup(at.topic, at.partition)
		if !found || end.Err != nil {
			return fmt.Errorf("no end offset of %v: %w", at, end.Err)
		}
		ends[at] = end.Offset
	}
	return nil
}

func readPartition(address string, at place, end int64) ([]entry, error) {
	if end == 0 {
		return nil, nil
	}
	start := map[string]map[int32]kgo.Offset{at.topic: {at.partition: kgo.NewOffset().At(0)}}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(address, ",")...),
		kgo.ConsumePartitions(start),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var log []entry
	for len(log) == 0 || log[len(log)-1].offset < end-1 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(log), end, err)
		}
		for _, record := range fetches.Records() {
			read, err := idOf(record.Value)
			if err != nil {
				return nil, fmt.Errorf("offset %d: %w", record.Offset, err)
			}
			log = append(log, entry{record.Offset, read})
		}
	}
	return log, nil
}
