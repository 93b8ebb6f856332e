package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const clusterNodes = 3

// cluster is three nodes on one machine. Each reaches each other one through a proxy of its own, so that any way
// can be cut in either direction; clients reach the nodes themselves.
type cluster struct {
	nodes   []*broker
	proxies map[[2]int]*proxy
}

// newCluster prepares the nodes; what they have in common with a single broker comes from the command line.
func (p *program) newCluster(name string) (*cluster, error) {
	c := &cluster{proxies: map[[2]int]*proxy{}}
	peers := make([]int, clusterNodes)
	for n := range clusterNodes {
		b, err := p.broker(fmt.Sprintf("%s-%d", name, n+1))
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
		b := c.nodes[from]
		b.command = append(slices.Clone(b.command),
			"--set", fmt.Sprintf("node.id=%d", from+1),
			"--set", "controller.quorum.voters="+strings.Join(voters, ","),
			"--set", fmt.Sprintf("corelane.peer.listener=127.0.0.1:%d", peers[from]),
			"--set", "default.replication.factor=3",
			"--set", "min.insync.replicas=2")
	}
	return c, nil
}

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

func (c *cluster) healWays() {
	for _, way := range c.proxies {
		way.heal()
	}
}

// start starts the nodes that do not run, and waits until all serve.
func (c *cluster) start() error {
	for _, b := range c.nodes {
		if !b.alive() {
			if err := b.launch(); err != nil {
				return err
			}
		}
	}
	for _, b := range c.nodes {
		if err := b.ready(); err != nil {
			return err
		}
	}
	return nil
}

// leader is the node that leads a random partition of the load, controller the one that leads the metadata.
func (p *program) leader(c *cluster) (int, error) {
	places := loadPlaces()
	at := places[p.random.IntN(len(places))]
	return c.ask(func(metadata kadm.Metadata) int32 {
		return metadata.Topics[at.topic].Partitions[at.partition].Leader
	}, at.topic)
}

func (c *cluster) controller() (int, error) {
	return c.ask(func(metadata kadm.Metadata) int32 { return metadata.Controller })
}

func (c *cluster) ask(which func(kadm.Metadata) int32, topics ...string) (int, error) {
	found := -1
	err := withAdmin(c.addresses(), func(ctx context.Context, admin *kadm.Client) error {
		for ctx.Err() == nil {
			metadata, err := admin.Metadata(ctx, topics...)
			if err == nil {
				if found = int(which(metadata)) - 1; found >= 0 && found < len(c.nodes) {
					return nil
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		return errors.New("no leader was found")
	})
	return found, err
}

// fault is something that happens to a cluster under load. It gives back what ends it.
type fault struct {
	name string
	do   func(p *program, c *cluster) (undo func() error, err error)
}

func killNode(c *cluster, n int) (func() error, error) {
	return c.start, c.nodes[n].kill()
}

var faults = []fault{
	{"kill -9 of a leader", func(p *program, c *cluster) (func() error, error) {
		n, err := p.leader(c)
		if err != nil {
			return nil, err
		}
		return killNode(c, n)
	}},
	{"kill -9 of the controller", func(p *program, c *cluster) (func() error, error) {
		n, err := c.controller()
		if err != nil {
			return nil, err
		}
		return killNode(c, n)
	}},
	{"kill -9 of a node", func(p *program, c *cluster) (func() error, error) {
		return killNode(c, p.random.IntN(clusterNodes))
	}},
	{"kill -9 of two nodes", func(p *program, c *cluster) (func() error, error) {
		n := p.random.IntN(clusterNodes)
		return c.start, errors.Join(c.nodes[n].kill(), c.nodes[(n+1)%clusterNodes].kill())
	}},
	{"kill -9 of all nodes", func(p *program, c *cluster) (func() error, error) {
		var all error
		for _, b := range c.nodes {
			all = errors.Join(all, b.kill())
		}
		return c.start, all
	}},
	{"SIGTERM of a leader", func(p *program, c *cluster) (func() error, error) {
		n, err := p.leader(c)
		if err != nil {
			return nil, err
		}
		return c.start, stop(c.nodes[n])
	}},
	{"a pause of 5 s", func(p *program, c *cluster) (func() error, error) {
		n, err := p.leader(c)
		if err != nil {
			return nil, err
		}
		err = c.nodes[n].signal(syscall.SIGSTOP)
		time.Sleep(5 * time.Second)
		return func() error { return c.nodes[n].signal(syscall.SIGCONT) }, err
	}},
	{"a leader cut off with its clients", func(p *program, c *cluster) (func() error, error) {
		n, err := p.leader(c)
		if err != nil {
			return nil, err
		}
		for way, proxy := range c.proxies {
			if way[0] == n || way[1] == n {
				proxy.sever()
			}
		}
		time.Sleep(2 * time.Second)
		return func() error { c.healWays(); return nil }, nil
	}},
	{"a one-way cut", func(p *program, c *cluster) (func() error, error) {
		n, err := p.leader(c)
		if err != nil {
			return nil, err
		}
		outwards := p.random.IntN(2)
		for way, proxy := range c.proxies {
			if way[outwards] == n {
				proxy.sever()
			}
		}
		time.Sleep(2 * time.Second)
		return func() error { c.healWays(); return nil }, nil
	}},
	{"a wiped disk", func(p *program, c *cluster) (func() error, error) {
		n := p.random.IntN(clusterNodes)
		if err := c.nodes[n].kill(); err != nil {
			return nil, err
		}
		data := c.nodes[n].data
		if err := errors.Join(os.RemoveAll(data), os.MkdirAll(data, 0o755)); err != nil {
			return nil, err
		}
		return func() error { return errors.Join(c.start(), c.wholeAgain()) }, nil
	}},
	{"a rolling restart", func(p *program, c *cluster) (func() error, error) {
		for n := range c.nodes {
			if err := stop(c.nodes[n]); err != nil {
				return nil, err
			}
			if err := c.start(); err != nil {
				return nil, err
			}
		}
		return c.start, nil
	}},
}

// wholeAgain waits until every partition has all its replicas back on the disks that count: only then may
// another disk be lost.
func (c *cluster) wholeAgain() error {
	deadline := time.Now().Add(patience)
	var last error
	for time.Now().Before(deadline) {
		if last = c.replicasAgree(); last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("replicas are not whole after %s: %w", patience, last)
}

// replicasAgree holds the size that each node reports of each partition against that of the others.
func (c *cluster) replicasAgree() error {
	return withAdmin(c.addresses(), func(ctx context.Context, admin *kadm.Client) error {
		described, err := admin.DescribeAllLogDirs(ctx, nil)
		if err != nil {
			return err
		}
		counts := map[place]int{}
		described.Each(func(dir kadm.DescribedLogDir) {
			dir.Topics.Each(func(partition kadm.DescribedLogDirPartition) {
				if partition.Size > 0 {
					counts[place{partition.Topic, partition.Partition}]++
				}
			})
		})
		for _, at := range loadPlaces() {
			if counts[at] < clusterNodes {
				return fmt.Errorf("%v has data on %d nodes", at, counts[at])
			}
		}
		return nil
	})
}

// clusterUnderLoad does every fault so often, in random order, while clients work.
func (p *program) clusterUnderLoad() {
	name := "cluster"
	c, err := p.newCluster(name)
	defer c.end()
	h := newHistory()
	var l *load
	p.Run(name+": three nodes find each other, load starts", func() error {
		if err != nil {
			return err
		}
		if err := c.start(); err != nil {
			return err
		}
		if err := createLoadTopics(c.addresses()); err != nil {
			return err
		}
		if l, err = startLoad(c.addresses(), h, 1); err != nil {
			return err
		}
		return l.progress()
	})
	if l == nil {
		return
	}
	wanted := faults
	if p.only != "" {
		wanted = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !strings.Contains(f.name, p.only) })
	}
	for round := range p.clusterRounds {
		p.random.Shuffle(len(wanted), func(i, j int) { wanted[i], wanted[j] = wanted[j], wanted[i] })
		for _, f := range wanted {
			words := fmt.Sprintf("%s: %s, round %d", name, f.name, round+1)
			p.Run(words, func() error { return p.survive(c, l, h, f) })
			if p.Failed() {
				break // What follows would say the same.
			}
		}
		if p.Failed() {
			break
		}
	}
	p.Run(name+": no client met an error that it should not see", l.finish)
	p.Run(name+": complete read", func() error {
		c.healWays()
		if err := c.start(); err != nil {
			return err
		}
		if err := checkCommitted(c.addresses(), h); err != nil {
			return err
		}
		return readAll(c.addresses(), h)
	})
	p.verdicts(name, h)
}

func (p *program) survive(c *cluster, l *load, h *history, f fault) error {
	if err := l.progress(); err != nil {
		return fmt.Errorf("no progress before: %w", err)
	}
	time.Sleep(time.Duration(p.random.Int64N(int64(time.Second))))
	l.beginGaps()
	undo, err := f.do(p, c)
	if err != nil {
		return err
	}
	time.Sleep(time.Second + time.Duration(p.random.Int64N(int64(time.Second))))
	fmt.Printf("%s: longest wait for an acknowledgement while it lasts: %d ms\n", f.name, l.longestGap().Milliseconds())
	if err := undo(); err != nil {
		return err
	}
	if err := l.progress(); err != nil {
		return fmt.Errorf("no progress after: %w", err)
	}
	for _, b := range c.nodes {
		if !b.alive() {
			return fmt.Errorf("%s ended by itself: %s", filepath.Base(b.data), b.lastLines())
		}
	}
	return checkCommitted(c.addresses(), h)
}
