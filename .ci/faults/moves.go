package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A fourth node comes, is given replicas, gives them back and is let go. It comes back with the same id and an empty
// disk each time, which the cluster takes for another node.

const (
	fourthJoins  = "a fourth node joins and is given partitions"
	fourthLeaves = "the fourth node is emptied and let go"
	fourth       = int32(clusterNodes + 1)
)

// startFourth starts the fourth node, on an empty disk.
func (s *siege) startFourth() error {
	c := s.cluster
	// On a disk of its own as well: a cluster fills no node whose disk is nearly full, as the machine's may be.
	b, err := s.program.clusterBroker(c, "cluster", clusterNodes)
	if err != nil {
		return err
	}
	var voters []string
	for n := range clusterNodes {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", n+1, c.nodes[n].port+1))
	}
	b.becomeNode(int(fourth), strings.Join(voters, ","), b.port+1)
	if err := b.launch(); err != nil {
		return err
	}
	c.joined, c.nodes = b, append(c.nodes, b)
	return b.ready()
}

// join starts the fourth node and asks for moves of about half of all partitions to it.
func join(s *siege) (func() error, error) {
	if err := s.startFourth(); err != nil {
		return nil, err
	}
	return nil, s.cluster.move(func(partition kadm.PartitionDetail) []int32 {
		if slices.Contains(partition.Replicas, fourth) || s.random.IntN(2) == 0 {
			return nil
		}
		wanted := slices.Clone(partition.Replicas)
		wanted[s.random.IntN(len(wanted))] = fourth
		return wanted
	})
}

// settleMoves waits until no partition moves any more and all replicas are whole.
func settleMoves(s *siege) error {
	if err := s.cluster.arrived(); err != nil {
		return err
	}
	return s.cluster.wholeAgain()
}

// leave begins to empty the fourth node, by hand: the cluster would fill it again before it is ended.
func leave(s *siege) (func() error, error) {
	if err := s.cluster.balance(false); err != nil {
		return nil, err
	}
	return nil, s.emptyFourth()
}

// balance switches on or off that replicas move by themselves.
func (c *cluster) balance(on bool) error {
	return withAdmin(c.addresses(), func(ctx context.Context, admin *kadm.Client) error {
		value := strconv.FormatBool(on)
		set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "corelane.balance.enable", Value: &value}}
		return again(ctx, "balancing cannot be switched", func() error {
			answer, err := admin.AlterBrokerConfigs(ctx, set)
			if err == nil {
				_, err = answer.On("", func(one *kadm.AlterConfigsResponse) error { return one.Err })
			}
			return err
		})
	})
}

// again tries until it is accepted or the time is over: what is refused was perhaps asked while the controller changed.
func again(ctx context.Context, otherwise string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", otherwise, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// emptyFourth asks for moves of all that the fourth node has.
func (s *siege) emptyFourth() error {
	return s.cluster.move(func(partition kadm.PartitionDetail) []int32 {
		at := slices.Index(partition.Replicas, fourth)
		if at < 0 {
			return nil
		}
		wanted := slices.Clone(partition.Replicas)
		for n := range int32(clusterNodes) {
			if !slices.Contains(wanted, n+1) {
				wanted[at] = n + 1
				return wanted
			}
		}
		return slices.Delete(wanted, at, at+1) // it was one replica more than there were
	})
}

// letGo waits until the fourth node holds nothing, ends it, and has the cluster forget it.
func letGo(s *siege) error {
	c := s.cluster
	deadline := time.Now().Add(patience)
	for {
		if err := c.arrived(); err != nil {
			return err
		}
		held, err := c.heldByFourth()
		if err != nil {
			return err
		}
		if held == 0 {
			break
		}
		// A topic was made meanwhile, or a move was lost with the controller that was asked for it.
		if time.Now().After(deadline) {
			return fmt.Errorf("node %d still holds %d replicas", fourth, held)
		}
		if err := s.emptyFourth(); err != nil {
			return err
		}
	}
	if s.random.IntN(2) == 0 {
		if err := c.joined.kill(); err != nil {
			return err
		}
	} else if err := stop(c.joined); err != nil {
		return err
	}
	data := c.joined.data
	c.joined, c.nodes = nil, c.nodes[:clusterNodes]
	if err := c.unregister(fourth); err != nil {
		return err
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	return c.balance(true)
}

// unregister tries until the cluster has noticed that the node does not run.
func (c *cluster) unregister(node int32) error {
	return withClient(c.addresses(), func(ctx context.Context, client *kgo.Client) error {
		request := kmsg.NewPtrUnregisterBrokerRequest()
		request.BrokerID = node
		return again(ctx, fmt.Sprintf("node %d is not let go", node), func() error {
			answer, err := request.RequestWith(ctx, client)
			if err == nil {
				err = kerr.ErrorForCode(answer.ErrorCode)
			}
			if errors.Is(err, kerr.BrokerIDNotRegistered) {
				return nil // An earlier try had its way, and its answer was lost.
			}
			return err
		})
	})
}

// move asks for the replicas that wanted gives for each partition that holds anything; nil leaves one where it is.
func (c *cluster) move(wanted func(kadm.PartitionDetail) []int32) error {
	return withAdmin(c.addresses(), func(ctx context.Context, admin *kadm.Client) error {
		metadata, err := admin.Metadata(ctx)
		if err != nil {
			return err
		}
		var request kadm.AlterPartitionAssignmentsReq
		for _, topic := range metadata.Topics {
			for _, partition := range topic.Partitions.Sorted() {
				if target := wanted(partition); target != nil {
					request.Assign(topic.Topic, partition.Partition, target)
				}
			}
		}
		return again(ctx, "moves are not accepted", func() error {
			answer, err := admin.AlterPartitionAssignments(ctx, request)
			if err == nil {
				err = answer.Error()
			}
			return err
		})
	})
}

// arrived waits until no partition is listed as moving.
func (c *cluster) arrived() error {
	return withClient(c.addresses(), func(ctx context.Context, client *kgo.Client) error {
		request := kmsg.NewPtrListPartitionReassignmentsRequest() // of all topics, as it names none
		return again(ctx, "partitions still move", func() error {
			answer, err := request.RequestWith(ctx, client)
			if err == nil {
				err = kerr.ErrorForCode(answer.ErrorCode)
			}
			if err != nil || len(answer.Topics) == 0 {
				return err
			}
			var moving []string
			for _, topic := range answer.Topics {
				moving = append(moving, fmt.Sprintf("%s %v", topic.Topic, topic.Partitions))
			}
			return errors.New(strings.Join(moving, ", "))
		})
	})
}

// heldByFourth counts the partitions that have a replica on the fourth node.
func (c *cluster) heldByFourth() (int, error) {
	held := 0
	err := c.ask(patience, nil, func(metadata kadm.Metadata) bool {
		held = 0
		metadata.Topics.EachPartition(func(partition kadm.PartitionDetail) {
			if slices.Contains(partition.Replicas, fourth) {
				held++
			}
		})
		return len(metadata.Topics) > 0
	})
	return held, err
}
