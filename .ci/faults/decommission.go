package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A fourth node joins, and nobody tells anything to move: the cluster fills it by itself. Then one command takes it away:
// the cluster empties it, forgets it, and the process ends by itself. Clients must notice nothing of all this.

const (
	fourthIsDecommissioned = "a fourth node joins and is decommissioned"
	// fewReplicas are enough to see that the node is being filled; it is taken away again on the way, sometimes.
	fewReplicas = 6
	// orderLimit is how long the order may find no controller that takes it.
	orderLimit = 30 * time.Second
	// movePatience is how long the cluster may take to move what it moves by itself: it waits before it begins, and moves a
	// few partitions at a time.
	movePatience = 3 * time.Minute
)

// joinAndDecommission waits until the fourth node is filled, or half the time only until it begins to be, and gives the
// order.
func joinAndDecommission(s *siege) (func() error, error) {
	if err := s.startFourth(); err != nil {
		return nil, err
	}
	wanted, words := fewReplicas, "some replicas"
	if s.random.IntN(2) == 0 {
		wanted, words = s.cluster.evenShare(), "its share"
	}
	held, err := s.cluster.waitForReplicas(wanted)
	if err != nil {
		return nil, fmt.Errorf("the fourth node is to get %s: %w", words, err)
	}
	fmt.Printf("%s: it holds %d replicas when the order is given\n", fourthIsDecommissioned, held)
	s.cluster.leaves = true
	return nil, s.orderToLeave()
}

// evenShare is what a node of four has when replicas are even, or one less.
func (c *cluster) evenShare() int {
	partitions := 0
	// Without an answer a few replicas are enough.
	_ = c.ask(patience, nil, func(metadata kadm.Metadata) bool {
		partitions = 0
		metadata.Topics.EachPartition(func(kadm.PartitionDetail) { partitions++ })
		return partitions > 0
	})
	return max(fewReplicas, partitions*replicas/(clusterNodes+1)-1)
}

// waitForReplicas waits until so many replicas on the fourth node are in sync.
func (c *cluster) waitForReplicas(wanted int) (held int, err error) {
	err = c.ask(movePatience, nil, func(metadata kadm.Metadata) bool {
		held = 0
		metadata.Topics.EachPartition(func(partition kadm.PartitionDetail) {
			if slices.Contains(partition.ISR, fourth) {
				held++
			}
		})
		return held >= wanted
	})
	if err != nil {
		err = fmt.Errorf("%d replicas of %d came in %s: %w", held, wanted, movePatience, err)
	}
	return held, err
}

// orderToLeave is the operator's command, given again as long as no controller takes it.
func (s *siege) orderToLeave() error {
	deadline := time.Now().Add(orderLimit)
	for {
		order := exec.Command(s.command[0], "cluster", "decommission", fmt.Sprint(fourth),
			"--bootstrap", s.cluster.addresses())
		said, err := order.CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("corelane cluster decommission %d: %w: %s", fourth, err, said)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// hasLeft says whether the fourth node was decommissioned, and ended for that reason. One that another fault has killed on
// the way is still known to the cluster, fenced or not.
func (c *cluster) hasLeft(b *broker) (bool, error) {
	if b != c.joined || !c.leaves || b.alive() {
		return false, nil
	}
	known, err := c.knowsFourth()
	return !known, err
}

func (c *cluster) knowsFourth() (known bool, err error) {
	err = withClient(c.addresses(), func(ctx context.Context, client *kgo.Client) error {
		request := kmsg.NewPtrDescribeClusterRequest()
		request.IncludeFencedBrokers = true
		for {
			answer, err := request.RequestWith(ctx, client)
			if err == nil {
				err = kerr.ErrorForCode(answer.ErrorCode)
			}
			if err == nil && answer.ControllerID > 0 {
				known = slices.ContainsFunc(answer.Brokers, func(broker kmsg.DescribeClusterResponseBroker) bool {
					return broker.NodeID == fourth
				})
				return nil
			}
			if ctx.Err() != nil {
				return errors.Join(errors.New("nobody says which nodes there are"), err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	return known, err
}

// hasGone waits until the fourth node holds nothing, is forgotten, and has ended by itself.
func hasGone(s *siege) error {
	c := s.cluster
	b := c.joined
	for deadline := time.Now().Add(movePatience); ; {
		left, err := c.hasLeft(b)
		if err != nil {
			return err
		}
		if left {
			break
		}
		if time.Now().After(deadline) {
			held, err := c.heldByFourth()
			return errors.Join(fmt.Errorf("node %d has not left within %s and holds %d replicas", fourth, movePatience, held), err)
		}
		// It may have ended a moment before the cluster forgot it.
		time.Sleep(100 * time.Millisecond)
	}
	if code, err := b.wait(time.Second); err != nil || code != 0 {
		return errors.Join(fmt.Errorf("the node that was let go ended with code %d: %s", code, b.lastLines()), err)
	}
	if err := b.panicked(); err != nil {
		return err
	}
	if held, err := c.heldByFourth(); err != nil || held > 0 {
		return errors.Join(fmt.Errorf("%d partitions have a replica on a node that was let go", held), err)
	}
	c.joined, c.leaves, c.nodes = nil, false, c.nodes[:clusterNodes]
	return errors.Join(os.RemoveAll(b.data), c.wholeAgain())
}
