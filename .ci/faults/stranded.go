package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stranded is a producer and a reader that reach one node only, until they are let free. What the node promises them is
// judged like everything else: a leader that does not know that it is one no more must not acknowledge, nor show what
// will not stay.
type stranded struct {
	client *kgo.Client
	at     place
	free   atomic.Bool

	stop context.CancelFunc
	work sync.WaitGroup
	// acknowledged counts, for people to see that isolation was what it says.
	acknowledged atomic.Int64
}

// strand begins a client at a partition that the node leads, and comes back when a first record is acknowledged.
func (s *siege) strand(n int) (*stranded, error) {
	at := place{loadTopic(0), 0}
	for candidate, leader := range s.cluster.led(askLimit) {
		if leader == n {
			at = candidate
		}
	}
	only := s.cluster.nodes[n].address()
	c := &stranded{at: at}
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(only),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != only && !c.free.Load() {
				// As through a broken cable, only sooner.
				time.Sleep(100 * time.Millisecond)
				err := os.NewSyscallError("connect", syscall.ETIMEDOUT)
				return nil, &net.OpError{Op: "dial", Net: network, Err: err}
			}
			return dialer.DialContext(ctx, network, address)
		}),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.StopProducerOnDataLossDetected(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.topic: {at.partition: kgo.NewOffset().AtEnd()}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		return nil, err
	}
	c.client = client
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	producer := s.producerIDs(1)
	c.work.Go(func() { c.produce(ctx, s, producer) })
	c.work.Go(func() { c.read(ctx, s) })
	// It may be that another one leads by now; then the client has to wait, which is no harm.
	for deadline := time.Now().Add(askLimit); c.acknowledged.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	return c, nil
}

func (c *stranded) produce(ctx context.Context, s *siege, producer int32) {
	for sequence := int64(0); ctx.Err() == nil; sequence++ {
		record := id{producer, sequence}
		sent := &kgo.Record{Topic: c.at.topic, Partition: c.at.partition, Value: record.value()}
		c.client.Produce(context.Background(), sent, func(sent *kgo.Record, err error) {
			if err != nil {
				s.load.problem("stranded producer %d: %v of %v: %w", producer, record, c.at, err)
				return
			}
			s.history.acknowledge(c.at, record, sent.Offset)
			c.acknowledged.Add(1)
		})
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *stranded) read(ctx context.Context, s *siege) {
	for ctx.Err() == nil {
		c.client.PollFetches(ctx).EachRecord(func(record *kgo.Record) {
			read, err := idOf(record.Value)
			if err != nil {
				s.load.problem("stranded reader: %v offset %d: %w", c.at, record.Offset, err)
				return
			}
			s.history.observe(c.at, record.Offset, read)
		})
	}
}

// release lets the client go where it wants, and waits until all that it sent is acknowledged.
func (c *stranded) release() error {
	c.free.Store(true)
	c.stop()
	c.work.Wait()
	defer c.client.Close()
	flush, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.client.Flush(flush); err != nil {
		return fmt.Errorf("stranded producer: records are still unanswered after %s: %w", patience, err)
	}
	return nil
}

// isolateWithClients cuts a leader off from the other nodes (of the first three: a fourth still reaches it) together
// with a producer and a reader that know no other node. The other clients reach both sides.
func isolateWithClients(s *siege, n int) (func() error, error) {
	clients, err := s.strand(n)
	if err != nil {
		return nil, err
	}
	s.stranded = clients
	for way, proxy := range s.cluster.proxies {
		if way[0] == n || way[1] == n {
			proxy.sever()
		}
	}
	// What was on its way has come by then.
	time.Sleep(time.Second)
	before := clients.acknowledged.Load()
	time.Sleep(time.Second)
	return func() error {
		inTheDark := clients.acknowledged.Load() - before
		err := s.cluster.healWays()
		if s.cluster.joined == nil && inTheDark > 0 {
			err = fmt.Errorf("a node without a majority acknowledged %d records", inTheDark)
		}
		return err
	}, nil
}

// releaseStranded waits until what clients behind a cut had begun has come to its end.
func releaseStranded(s *siege) error {
	clients := s.stranded
	s.stranded = nil
	return clients.release()
}
