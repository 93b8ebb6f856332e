package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// clusterNodes are there from the beginning; one more comes and goes.
	clusterNodes = 3
	replicas     = 3
)

// cluster is three nodes on one machine, and a fourth at times. Each of the three reaches each other one through a proxy
// of its own, so that any way can be cut in either direction; clients reach the nodes themselves.
type cluster struct {
	// The index is the node's id less one.
	nodes   []*broker
	proxies map[[2]int]*proxy
	// disks are those of the nodes, one each, the fourth's too; without them no disk can be made full.
	disks []*smallDisk
	// hurt are the nodes that a fault has in hand now.
	hurt map[int]bool
	// joined says that the fourth node is one of the cluster; it is the last of nodes then.
	joined *broker
	// leaves says that the fourth node was told to leave, and ends by itself.
	leaves bool
}

// newCluster prepares the nodes; what they have in common with a single broker comes from the command line.
func (p *program) newCluster(name string) (*cluster, error) {
	c := &cluster{proxies: map[[2]int]*proxy{}, hurt: map[int]bool{}}
	if err := c.mountDisks(p, name); err != nil {
		p.Skip(name+": disks that become full", fmt.Sprintf("no small file system can be mounted here: %v", err))
	}
	peers := make([]int, clusterNodes)
	for n := range clusterNodes {
		b, err := p.clusterBroker(c, name, n)
		if err != nil {
			return c, err
		}
		peers[n] = b.port + 1
		c.nodes = append(c.nodes, b)
	}
	for from := range clusterNodes {
		var voters []string
		for to := range clusterNodes {
			address := fmt.Sprintf("127.0.0.1:%d", peers[to])
			if from != to {
				way, err := newProxy(address)
				if err != nil {
					return c, err
				}
				c.proxies[[2]int{from, to}] = way
				address = way.address()
			}
			voters = append(voters, fmt.Sprintf("%d@%s", to+1, address))
		}
		c.nodes[from].becomeNode(from+1, strings.Join(voters, ","), peers[from])
	}
	return c, nil
}

// mountDisks gives each node a file system of its own, or none of them.
func (c *cluster) mountDisks(p *program, name string) error {
	for n := range clusterNodes + 1 {
		disk, err := mountSmall(p.directory, fmt.Sprintf("%s-%d-disk", name, n+1), clusterDiskMB)
		if err != nil {
			return errors.Join(err, c.unmountDisks())
		}
		c.disks = append(c.disks, disk)
	}
	fmt.Printf("%s: each node has %s of %d MiB\n", name, c.disks[0].kind, clusterDiskMB)
	return nil
}

func (c *cluster) unmountDisks() error {
	var all error
	for _, disk := range c.disks {
		all = errors.Join(all, disk.unmount())
	}
	c.disks = nil
	return all
}

// clusterBroker is node n on its own disk, if it has one; its log is where the space does not end.
func (p *program) clusterBroker(c *cluster, name string, n int) (*broker, error) {
	b, err := p.broker(fmt.Sprintf("%s-%d", name, n+1))
	if err != nil || n >= len(c.disks) {
		return b, err
	}
	log := b.log
	b = newBroker(p.command, filepath.Join(c.disks[n].mount, "data"), b.port)
	b.log = log
	return b, nil
}

// becomeNode adds to the command line what a single broker does not need.
func (b *broker) becomeNode(id int, voters string, peerPort int) {
	b.command = append(slices.Clone(b.command),
		"--set", fmt.Sprintf("node.id=%d", id),
		"--set", "controller.quorum.voters="+voters,
		"--set", fmt.Sprintf("corelane.peer.listener=127.0.0.1:%d", peerPort),
		"--set", fmt.Sprintf("default.replication.factor=%d", replicas),
		"--set", "min.insync.replicas=2")
}

// end ends all processes; the disks stay where they are.
func (c *cluster) end() {
	for _, b := range c.nodes {
		b.end()
	}
	for _, way := range c.proxies {
		way.close()
	}
}

// addresses are those of all nodes, as clients take them.
func (c *cluster) addresses() string {
	var all []string
	for _, b := range c.nodes {
		all = append(all, b.address())
	}
	return strings.Join(all, ",")
}

func (c *cluster) healWays() error {
	for _, way := range c.proxies {
		way.heal()
	}
	return nil
}

// start starts the nodes that do not run, and waits until all serve.
func (c *cluster) start() error {
	for _, b := range c.founders() {
		if !b.alive() {
			if err := b.launch(); err != nil {
				return err
			}
		}
	}
	for _, b := range c.founders() {
		if err := b.ready(); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(b.log), err)
		}
	}
	return c.startFourthToo()
}

// founders are the first three nodes.
func (c *cluster) founders() []*broker {
	return c.nodes[:clusterNodes]
}

// startFourthToo does so if the fourth node is one of the cluster and was not let go.
func (c *cluster) startFourthToo() error {
	b := c.joined
	if b == nil {
		return nil
	}
	if !b.alive() {
		if left, err := c.hasLeft(b); left || err != nil {
			return err
		}
		if err := b.launch(); err != nil {
			return err
		}
	}
	if err := b.ready(); err != nil {
		// It may be let go at this very moment.
		if left, _ := c.hasLeft(b); !left {
			return fmt.Errorf("%s: %w", filepath.Base(b.log), err)
		}
	}
	return nil
}

// untouched are the nodes that no fault has in hand, and that run.
func (c *cluster) untouched() []int {
	var all []int
	for n, b := range c.nodes {
		if !c.hurt[n] && b.alive() {
			all = append(all, n)
		}
	}
	return all
}

// ask asks any node until the answer makes sense.
func (c *cluster) ask(limit time.Duration, topics []string, sensible func(kadm.Metadata) bool) error {
	return withAdmin(c.addresses(), func(_ context.Context, admin *kadm.Client) error {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		for {
			metadata, err := admin.Metadata(ctx, topics...)
			if err == nil && sensible(metadata) {
				return nil
			}
			if ctx.Err() != nil {
				return errors.Join(errors.New("no node knows leaders"), err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// led says which node leads each partition of the load, as far as one is known.
func (c *cluster) led(limit time.Duration) map[place]int {
	found := map[place]int{}
	// Without an answer nothing is known, which is one of the answers.
	_ = c.ask(limit, loadTopicNames(), func(metadata kadm.Metadata) bool {
		clear(found)
		for _, at := range loadPlaces() {
			leader := int(metadata.Topics[at.topic].Partitions[at.partition].Leader) - 1
			if leader >= 0 {
				found[at] = leader
			}
		}
		return len(found) == len(loadPlaces())
	})
	return found
}

// controller is the node that leads the metadata; -1 if nobody knows.
func (c *cluster) controller(limit time.Duration) int {
	found := -1
	_ = c.ask(limit, []string{}, func(metadata kadm.Metadata) bool {
		found = int(metadata.Controller) - 1
		return found >= 0 && found < len(c.nodes)
	})
	return found
}

// wholeAgain waits until every partition has all its replicas back on the disks that count: only then may
// another disk be lost.
func (c *cluster) wholeAgain() error {
	deadline := time.Now().Add(patience)
	var last error
	for time.Now().Before(deadline) {
		if last = errors.Join(c.replicasAgree(), c.quorumAgrees()); last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("replicas are not whole after %s: %w", patience, last)
}

// replicasAgree asks that all replicas are in sync by the word of their leaders, and holds the size that each one reports
// against that of the others. They are asked one after another while producers go on, and cut their files at other places,
// so that they differ a little.
func (c *cluster) replicasAgree() error {
	return withAdmin(c.addresses(), func(ctx context.Context, admin *kadm.Client) error {
		metadata, err := admin.Metadata(ctx)
		if err != nil {
			return err
		}
		described, err := admin.DescribeAllLogDirs(ctx, nil)
		if err != nil {
			return err
		}
		sizes := map[place]map[int32]int64{}
		described.Each(func(dir kadm.DescribedLogDir) {
			dir.Topics.Each(func(partition kadm.DescribedLogDirPartition) {
				at := place{partition.Topic, partition.Partition}
				if sizes[at] == nil {
					sizes[at] = map[int32]int64{}
				}
				sizes[at][dir.Broker] = partition.Size
			})
		})
		for _, topic := range metadata.Topics {
			for _, partition := range topic.Partitions {
				at := place{topic.Topic, partition.Partition}
				for _, node := range partition.Replicas {
					if !slices.Contains(partition.ISR, node) {
						return fmt.Errorf("%v is not in sync on node %d", at, node)
					}
				}
				if removesItsPast(topic.Topic) {
					continue
				}
				var largest int64
				for _, size := range sizes[at] {
					largest = max(largest, size)
				}
				for _, node := range partition.Replicas {
					if size := sizes[at][node]; size < largest-largest/10-(64<<10) || (size == 0 && largest > 0) {
						return fmt.Errorf("%v has %d bytes on node %d, and %d elsewhere", at, size, node, largest)
					}
				}
			}
		}
		return nil
	})
}

// removesItsPast says that the start of a topic's partitions moves while it is written. What lies below it goes by whole
// segments, which each node has cut elsewhere: at a restart, at a full disk. Sizes say nothing of it then: one node may keep
// all of an only segment of which another one has removed the half.
func removesItsPast(topic string) bool {
	// The first keeps little, the other is begun anew when it has grown far beyond what it means.
	return topic == bulkTopic || topic == "__consumer_offsets"
}

// quorumAgrees asks the same of the metadata.
func (c *cluster) quorumAgrees() error {
	return withClient(c.addresses(), func(ctx context.Context, client *kgo.Client) error {
		request := kmsg.NewPtrDescribeQuorumRequest()
		topic := kmsg.NewDescribeQuorumRequestTopic()
		topic.Topic = "__cluster_metadata"
		topic.Partitions = append(topic.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
		request.Topics = append(request.Topics, topic)
		answer, err := request.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
			return err
		}
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					return err
				}
				caughtUp := 0
				for _, voter := range partition.CurrentVoters {
					if voter.LogEndOffset >= partition.HighWatermark {
						caughtUp++
					}
				}
				if caughtUp < clusterNodes {
					return fmt.Errorf("%d voters have the metadata up to %d", caughtUp, partition.HighWatermark)
				}
				return nil
			}
		}
		return errors.New("no node describes the quorum")
	})
}

// clusterUnderLoad does every fault so often, in random order, while clients work; then a random mix of them.
func (p *program) clusterUnderLoad() {
	name := "cluster"
	c, err := p.newCluster(name)
	h := newHistory()
	s := &siege{program: p, cluster: c, history: h}
	defer func() {
		c.end()
		if !p.Failed() {
			p.Run(name+": disks are given back", c.unmountDisks)
		}
	}()
	p.Run(name+": three nodes find each other, load starts", func() error {
		if err != nil {
			return err
		}
		if err := c.start(); err != nil {
			return err
		}
		if err := errors.Join(createLoadTopics(c.addresses()), createBulkTopic(c.addresses())); err != nil {
			return err
		}
		if s.load, err = startLoad(c.addresses(), h, s.producerIDs(loadTopics)); err != nil {
			return err
		}
		return s.load.progress()
	})
	if p.Failed() {
		if s.load != nil {
			s.load.abandon()
		}
		return
	}
	s.rounds()
	if p.mix > 0 && !p.Failed() {
		p.Run(fmt.Sprintf("%s: a random mix for %s", name, p.mix), s.mix)
	}
	s.tellGaps()
	p.Run(name+": no client met an error that it should not see", s.load.finish)
	p.Run(name+": complete read", func() error {
		err := errors.Join(c.healWays(), c.freeDisks())
		if err := errors.Join(err, c.start()); err != nil {
			return err
		}
		if err := checkCommitted(c.addresses(), h); err != nil {
			return err
		}
		return readAll(c.addresses(), h)
	})
	p.verdicts(name, h)
}

// clean removes what a node had, its disk's file system aside.
func clean(data string) error {
	return errors.Join(os.RemoveAll(data), os.MkdirAll(data, 0o755))
}
