package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// clusterDiskMB holds what the load writes in half an hour several times over.
	clusterDiskMB = 3072
	// bulkTopic is what a full disk is met with soon: the load alone would take long to use up what a node had reserved.
	bulkTopic = "bulk"
	// bulkMost is far more than a node can have reserved in its journal.
	bulkMost = 512
	// bulkBehind is written behind the back of the full node, which follows until it cannot any more.
	bulkBehind = 128
	// bulkPatience is how long that may take on a machine that has much else to do.
	bulkPatience = 2 * time.Minute
)

// fillDisk takes all the space of a node. It must refuse to lead writes, or give the lead away, and must not hold up
// partitions that other nodes lead.
func fillDisk(s *siege, n int) (func() error, error) {
	c := s.cluster
	bulk, err := newBulk(c.addresses())
	if err != nil {
		return nil, err
	}
	defer bulk.client.Close()
	its, _, err := ledBy(c, n)
	if err != nil {
		return nil, err
	}
	s.filled = c.nodes[n]
	disk := c.disks[n]
	if err := disk.fill(); err != nil {
		return nil, err
	}
	if len(its) > 0 {
		if err := bulk.writeUntilRefused(c, n, its[0]); err != nil {
			return disk.free, err
		}
	}
	if err := bulk.writeBehind(c, n); err != nil {
		return disk.free, err
	}
	var elsewhere []place
	for at, leader := range c.led(askLimit) {
		if leader != n {
			elsewhere = append(elsewhere, at)
		}
	}
	if err := s.load.progressOf(elsewhere); err != nil {
		return disk.free, fmt.Errorf("partitions that other nodes lead, while the disk is full: %w", err)
	}
	return disk.free, nil
}

// needTheFullOne kills another node when the one whose disk was full has caught up: nothing goes on then without it.
func needTheFullOne(s *siege) error {
	if err := s.load.progress(); err != nil {
		return fmt.Errorf("no progress when there is space again: %w", err)
	}
	if err := s.cluster.wholeAgain(); err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(s.cluster.nodes), func(b *broker) bool { return b == s.filled })
	if err := others[s.random.IntN(len(others))].kill(); err != nil {
		return err
	}
	if err := s.load.progress(); err != nil {
		return fmt.Errorf("no progress with the node whose disk was full, without another: %w", err)
	}
	return s.cluster.start()
}

// freeDisks gives all space back, if a failure left a disk full.
func (c *cluster) freeDisks() error {
	var all error
	for _, disk := range c.disks {
		if disk.isFilled() {
			all = errors.Join(all, disk.free())
		}
	}
	return all
}

// bulk writes large records, none of them twice, into a topic that keeps little.
type bulk struct {
	client *kgo.Client
	value  []byte
}

func newBulk(addresses string) (*bulk, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(addresses, ",")...),
		kgo.DefaultProduceTopic(bulkTopic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.DisableIdempotentWrite(),
		kgo.RecordRetries(0),
		kgo.ProduceRequestTimeout(5*time.Second),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.DisableClientMetrics(),
	)
	return &bulk{client, make([]byte, diskRecordBytes)}, err
}

func createBulkTopic(addresses string) error {
	return withAdmin(addresses, func(ctx context.Context, admin *kadm.Client) error {
		configs := map[string]*string{
			"retention.bytes": kadm.StringPtr("8388608"),
			"segment.bytes":   kadm.StringPtr("4194304"),
		}
		_, err := admin.CreateTopic(ctx, clusterNodes, -1, configs, bulkTopic)
		return err
	})
}

// ledBy gives the partitions of bulkTopic that the node leads, and those that others lead.
func ledBy(c *cluster, n int) (its, others []int32, err error) {
	err = c.ask(patience, []string{bulkTopic}, func(metadata kadm.Metadata) bool {
		its, others = nil, nil
		for _, found := range metadata.Topics[bulkTopic].Partitions {
			switch {
			case int(found.Leader) == n+1:
				its = append(its, found.Partition)
			case found.Leader > 0:
				others = append(others, found.Partition)
			}
		}
		return len(others) > 0
	})
	return its, others, err
}

// writeBehind writes to a partition that another node leads: the two that have room are a majority.
func (b *bulk) writeBehind(c *cluster, full int) error {
	_, others, err := ledBy(c, full)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(bulkPatience)
	for written := 0; written < bulkBehind; {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		said := b.client.ProduceSync(ctx, &kgo.Record{Partition: others[0], Value: b.value}).FirstErr()
		cancel()
		if said == nil {
			written++
			continue
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s took %d records while node %d is full: %w", bulkTopic, written, full+1, said)
		}
		// The lead may have moved, perhaps to the full node.
		if _, others, err = ledBy(c, full); err != nil {
			return err
		}
	}
	return nil
}

// writeUntilRefused gives nil when the node refuses with an error that clients retry, or leads no more.
func (b *bulk) writeUntilRefused(c *cluster, n int, partition int32) error {
	for written := range bulkMost {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := b.client.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: b.value}).FirstErr()
		cancel()
		if err == nil {
			continue
		}
		var refusal *kerr.Error
		if errors.As(err, &refusal) && (refusal == kerr.UnknownServerError || !refusal.Retriable) {
			return fmt.Errorf("not a right refusal: %w", err)
		}
		fmt.Printf("a full disk: after %d records of %d KiB node %d said: %v\n", written, diskRecordBytes>>10, n+1, err)
		return nil
	}
	its, _, err := ledBy(c, n)
	if err != nil {
		return err
	}
	if slices.Contains(its, partition) {
		return fmt.Errorf("node %d took %d records of %d KiB with a full disk", n+1, bulkMost, diskRecordBytes>>10)
	}
	fmt.Printf("a full disk: node %d gave the lead away\n", n+1)
	return nil
}
