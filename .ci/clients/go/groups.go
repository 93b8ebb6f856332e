package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	groupPartitions = 6
	patience        = 45 * time.Second
)

// tormented: nodes are killed meanwhile.
var tormented = os.Getenv("TORMENTED") != ""

var protocols = map[string][]kgo.Opt{
	"eager":       classic(kgo.RangeBalancer()),
	"cooperative": classic(kgo.CooperativeStickyBalancer()),
	"consumer":    {kgo.ServerSideBalancer()},
}

// classic gives the options of a classic group. A member that leaves while its coordinator is dead says so once and in
// vain: it is waited for until its session ends, and all sessions begin anew with each coordinator, so they are short.
func classic(balancer kgo.GroupBalancer) []kgo.Opt {
	return []kgo.Opt{
		kgo.Balancers(balancer),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.SessionTimeout(15 * time.Second),
	}
}

// groups lets members join and leave while records flow, under each rebalance protocol.
func (s *session) groups() {
	var running sync.WaitGroup
	for protocol, options := range protocols {
		const consumerGroupHeartbeat = 68
		if protocol == "consumer" {
			// Without it franz-go falls back to a classic group, which would prove nothing here.
			running.Go(func() {
				s.unless("groups: consumer", consumerGroupHeartbeat, "ConsumerGroupHeartbeat", func() {
					s.protocol(protocol, options)
				})
			})
			continue
		}
		running.Go(func() { s.protocol(protocol, options) })
	}
	running.Wait()
}

func (s *session) protocol(protocol string, options []kgo.Opt) {
	topic := s.name("group-" + protocol)
	l := newLedger()
	s.Run("groups: "+protocol+": rebalance while records flow", func() error {
		return s.rebalance(topic, options, l)
	})
	s.Run("groups: "+protocol+": every record handled, no partition owned twice", l.verify)
	s.Run("groups: "+protocol+": committed offsets reach the end", func() error {
		return s.committedEverything(topic)
	})
	s.Run("groups: "+protocol+": resumes where it stopped", func() error {
		return s.resume(topic, options)
	})
}

// ledger is what a group was given, who owned it and what it handled, as its members report it.
type ledger struct {
	lock       sync.Mutex
	produced   map[int32]int64
	next       map[int32]int64
	following  map[int32]int64
	committed  map[int32]int64
	owners     map[int32]string
	violations []error
}

func newLedger() *ledger {
	return &ledger{
		produced:  map[int32]int64{},
		next:      map[int32]int64{},
		following: map[int32]int64{},
		committed: map[int32]int64{},
		owners:    map[int32]string{},
	}
}

func (l *ledger) violation(format string, arguments ...any) {
	l.violations = append(l.violations, fmt.Errorf(format, arguments...))
}

func (l *ledger) assigned(member string, partition int32) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if owner, owned := l.owners[partition]; owned && owner != member {
		l.violation("partition %d given to %s while %s owned it", partition, member, owner)
	}
	l.owners[partition] = member
}

func (l *ledger) released(member string, partition int32) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.owners[partition] == member {
		delete(l.owners, partition)
	}
}

// handled expects each record once, even across rebalances: members commit before they let go. While nodes are killed a
// member may lose its membership before it can commit. What it has handled comes again then, to the next owner, but
// nothing of what it has committed.
func (l *ledger) handled(member string, record *kgo.Record) {
	l.lock.Lock()
	defer l.lock.Unlock()
	partition, offset := record.Partition, record.Offset
	expected, committed := l.next[partition], l.committed[partition]
	again := tormented && committed <= offset && offset < expected
	if offset != expected && !again {
		l.violation("%s got offset %d of %d instead of %d; committed: %d", member, offset, partition, expected, committed)
	}
	l.next[partition] = offset + 1
	l.following[partition] = max(l.following[partition], offset+1)
}

// hasCommitted takes what a member knows to be committed.
func (l *ledger) hasCommitted(offsets map[string]map[int32]kgo.EpochOffset) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, partitions := range offsets {
		for partition, committed := range partitions {
			l.committed[partition] = max(l.committed[partition], committed.Offset)
		}
	}
}

func (l *ledger) complete() (bool, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return maps.Equal(l.produced, l.following), nil
}

func (l *ledger) verify() error {
	l.lock.Lock()
	defer l.lock.Unlock()
	if len(l.produced) == 0 {
		return errors.New("nothing was produced")
	}
	if !maps.Equal(l.produced, l.following) {
		l.violation("produced %v, handled %v", l.produced, l.following)
	}
	if len(l.violations) > 0 {
		return fmt.Errorf("%d violations, the first: %w", len(l.violations), l.violations[0])
	}
	return nil
}

// member is a consumer that reports to the ledger and commits before it lets a partition go.
type member struct {
	name    string
	client  *kgo.Client
	ledger  *ledger
	owned   atomic.Int64
	handled atomic.Int64
	problem atomic.Pointer[error]
	stop    context.CancelFunc
	stopped chan struct{}
}

func (s *session) join(name, topic string, options []kgo.Opt, l *ledger) (*member, error) {
	m := &member{name: name, ledger: l, stopped: make(chan struct{})}
	client, err := s.client(append([]kgo.Opt{
		kgo.ConsumerGroup(topic),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(m.onAssigned),
		kgo.OnPartitionsRevoked(m.onRevoked),
		kgo.OnPartitionsLost(m.onLost),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	m.client = client
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go m.consume(ctx)
	return m, nil
}

func (m *member) consume(ctx context.Context) {
	defer close(m.stopped)
	for {
		fetches := m.client.PollRecords(ctx, 500)
		if ctx.Err() != nil {
			m.client.CloseAllowingRebalance()
			return
		}
		if err := problem(fetches); err != nil {
			m.problem.Store(&err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			m.ledger.handled(m.name, record)
			m.handled.Add(1)
		})
		m.commit(ctx)
		m.client.AllowRebalance()
	}
}

// problem is the first error of a poll that a consumer cannot go on from. While nodes are killed a group may not be
// reached for a moment; the client says so, and goes on to join.
func problem(fetches kgo.Fetches) error {
	for _, fetched := range fetches.Errors() {
		var session *kgo.ErrGroupSession
		if !tormented || !errors.As(fetched.Err, &session) {
			return fetched.Err
		}
	}
	return nil
}

// commit may lose against a rebalance; the revocation then commits the same offsets again.
func (m *member) commit(ctx context.Context) {
	if m.client.CommitUncommittedOffsets(ctx) == nil {
		m.ledger.hasCommitted(m.client.CommittedOffsets())
	}
}

func (m *member) onAssigned(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
	for _, partitions := range assigned {
		for _, partition := range partitions {
			m.ledger.assigned(m.name, partition)
			m.owned.Add(1)
		}
	}
}

func (m *member) onRevoked(ctx context.Context, client *kgo.Client, revoked map[string][]int32) {
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		err = fmt.Errorf("commit at a revocation: %w", err)
		m.problem.Store(&err)
	} else {
		m.ledger.hasCommitted(client.CommittedOffsets())
	}
	m.onLost(ctx, client, revoked)
}

func (m *member) onLost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	for _, partitions := range lost {
		for _, partition := range partitions {
			m.ledger.released(m.name, partition)
			m.owned.Add(-1)
		}
	}
}

func (m *member) leave() {
	m.stop()
	<-m.stopped
}

func (m *member) err() error {
	if problem := m.problem.Load(); problem != nil {
		return fmt.Errorf("%s: %w", m.name, *problem)
	}
	return nil
}

func (s *session) rebalance(topic string, options []kgo.Opt, l *ledger) error {
	if err := s.createTopic(topic, groupPartitions, nil); err != nil {
		return err
	}
	enough := make(chan struct{})
	produced := make(chan error, 1)
	go func() { produced <- s.produceUntil(topic, enough, l) }()
	members, err := s.joinAndLeave(topic, options, l)
	close(enough)
	err = errors.Join(err, <-produced)
	if err == nil {
		err = checks.Eventually("all records handled", patience, l.complete)
	}
	for _, m := range members {
		m.leave()
		err = errors.Join(err, m.err())
	}
	return err
}

// joinAndLeave grows the group to three, lets the first leave and another one join.
func (s *session) joinAndLeave(topic string, options []kgo.Opt, l *ledger) ([]*member, error) {
	var members []*member
	for i := range 4 {
		if i == 3 {
			members[0].leave()
			if err := members[0].err(); err != nil {
				return members, err
			}
			members = members[1:]
			if err := balanced(members); err != nil {
				return members, err
			}
		}
		m, err := s.join(fmt.Sprintf("member %d", i), topic, options, l)
		if err != nil {
			return members, err
		}
		members = append(members, m)
		if err := balanced(members); err != nil {
			return members, err
		}
	}
	return members, nil
}

// balanced waits until all partitions are owned, each member has its share and goes on with it.
func balanced(members []*member) error {
	err := checks.Eventually(fmt.Sprintf("balance of %d members", len(members)), patience, func() (bool, error) {
		owned := int64(0)
		for _, m := range members {
			has := m.owned.Load()
			if m.err() != nil || has < int64(groupPartitions/len(members)) {
				return false, m.err()
			}
			owned += has
		}
		return owned == groupPartitions, nil
	})
	for _, m := range members {
		if err != nil {
			return err
		}
		handled := m.handled.Load()
		err = checks.Eventually("progress of "+m.name, patience, func() (bool, error) {
			return m.handled.Load() > handled, m.err()
		})
	}
	return err
}

func (s *session) produceUntil(topic string, enough <-chan struct{}, l *ledger) error {
	client, err := s.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	for number := 0; ; number++ {
		select {
		case <-enough:
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		partition := int32(number % groupPartitions)
		if err := produceOne(client, topic, partition, "record-"+strconv.Itoa(number)); err != nil {
			return err
		}
		l.lock.Lock()
		l.produced[partition]++
		l.lock.Unlock()
	}
}

func produceOne(client *kgo.Client, topic string, partition int32, value string) error {
	record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
	return client.ProduceSync(context.Background(), record).FirstErr()
}

func (s *session) committedEverything(group string) error {
	return s.withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		committed, err := admin.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		ends, err := admin.ListEndOffsets(ctx, group)
		if err != nil {
			return err
		}
		for partition := range int32(groupPartitions) {
			at, found := committed.Lookup(group, partition)
			end, _ := ends.Lookup(group, partition)
			if !found {
				return fmt.Errorf("partition %d has no committed offset", partition)
			}
			if err := checks.Same(fmt.Sprintf("partition %d", partition), end.Offset, at.At); err != nil {
				return err
			}
		}
		return nil
	})
}

// resume starts a new member of the old group, which gets exactly what came since the last commit; while nodes are killed
// some of it perhaps twice.
func (s *session) resume(topic string, options []kgo.Opt) error {
	const extra = 60
	client, err := s.client(append([]kgo.Opt{
		kgo.ConsumerGroup(topic),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, options...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	for number := range extra {
		if err := produceOne(client, topic, int32(number%groupPartitions), "extra"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := map[[2]int64]int{}
	for len(seen) < extra {
		fetches := client.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), problem(fetches)); err != nil {
			return fmt.Errorf("after %d records: %w", len(seen), err)
		}
		count(fetches, seen)
	}
	quiet, cancelQuiet := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelQuiet()
	count(client.PollFetches(quiet), seen)
	for _, times := range seen {
		if times > 1 && !tormented {
			return fmt.Errorf("a record came %d times", times)
		}
	}
	return checks.Same("records after the resume", extra, len(seen))
}

// count adds how often each record came, by partition and offset.
func count(fetches kgo.Fetches, seen map[[2]int64]int) {
	fetches.EachRecord(func(record *kgo.Record) {
		seen[[2]int64{int64(record.Partition), record.Offset}]++
	})
}
