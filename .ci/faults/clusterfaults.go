package main

import (
	"errors"
	"syscall"
	"time"
)

// askLimit is how long a fault looks for its victim while another one lasts, which may leave no majority.
const askLimit = 3 * time.Second

// errNoVictim ends what a second fault has begun: the first one has taken all nodes in hand.
var errNoVictim = errors.New("no node is left that a fault could meet")

// hit takes a node in hand, so that no second fault does the same.
func (s *siege) hit(n int) *broker {
	s.cluster.hurt[n] = true
	return s.cluster.nodes[n]
}

// victim is the wanted node if no fault has it in hand yet, or else a random one of the others.
func (s *siege) victim(wanted int) (int, error) {
	untouched := s.cluster.untouched()
	for _, n := range untouched {
		if n == wanted {
			return n, nil
		}
	}
	if len(untouched) == 0 {
		return 0, errNoVictim
	}
	return untouched[s.random.IntN(len(untouched))], nil
}

func (s *siege) anyNode() (int, error) {
	return s.victim(-1)
}

// founder is one of the first three nodes, whose ways and disks are ours: the one that is wanted, if it can be.
func (s *siege) founder(wanted int) (int, error) {
	var founders []int
	for _, n := range s.cluster.untouched() {
		if n == wanted && n < clusterNodes {
			return n, nil
		}
		if n < clusterNodes {
			founders = append(founders, n)
		}
	}
	if len(founders) == 0 {
		return 0, errNoVictim
	}
	return founders[s.random.IntN(len(founders))], nil
}

func (s *siege) anyFounder() (int, error) {
	return s.founder(-1)
}

func (s *siege) leadingFounder() (int, error) {
	n, err := s.leader()
	if err != nil {
		return n, err
	}
	return s.founder(n)
}

// leader leads some partition of the load and, if there is such a node, not the metadata.
func (s *siege) leader() (int, error) {
	led, controller := s.cluster.led(askLimit), s.cluster.controller(askLimit)
	places := loadPlaces()
	s.random.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	for _, at := range places {
		n, known := led[at]
		if known && n != controller && !s.cluster.hurt[n] {
			return s.victim(n)
		}
	}
	return s.anyNode()
}

// follower leads as few partitions of the load as any node, best none at all, and not the metadata.
func (s *siege) follower() (int, error) {
	led, controller := s.cluster.led(askLimit), s.cluster.controller(askLimit)
	leads := make([]int, len(s.cluster.nodes))
	for _, n := range led {
		if n < len(leads) {
			leads[n]++
		}
	}
	best := -1
	for _, n := range s.cluster.untouched() {
		if n != controller && (best < 0 || leads[n] < leads[best]) {
			best = n
		}
	}
	return s.victim(best)
}

func (s *siege) controllerNode() (int, error) {
	return s.victim(s.cluster.controller(askLimit))
}

// to does something to one node.
func to(which func(*siege) (int, error), do func(s *siege, n int) (func() error, error)) func(*siege) (func() error, error) {
	return func(s *siege) (func() error, error) {
		n, err := which(s)
		if err != nil {
			return nil, err
		}
		s.hit(n)
		return do(s, n)
	}
}

func killNode(s *siege, n int) (func() error, error) {
	return nil, s.cluster.nodes[n].kill()
}

// killAtOnce sends all signals before it waits for any end.
func killAtOnce(s *siege, nodes []int) error {
	var all error
	for _, n := range nodes {
		all = errors.Join(all, s.hit(n).signal(syscall.SIGKILL))
	}
	for _, n := range nodes {
		_, err := s.cluster.nodes[n].wait(10 * time.Second)
		all = errors.Join(all, err)
	}
	return all
}

var faults = []fault{
	{name: "kill -9 of a leader", do: to((*siege).leader, killNode)},
	{name: "kill -9 of a follower", do: to((*siege).follower, killNode)},
	{name: "kill -9 of the controller", do: to((*siege).controllerNode, killNode)},
	{name: "kill -9 of two nodes", do: func(s *siege) (func() error, error) {
		nodes := s.cluster.untouched()
		s.random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		return nil, killAtOnce(s, nodes[:min(2, len(nodes))])
	}},
	{name: "kill -9 of all nodes", do: func(s *siege) (func() error, error) {
		var nodes []int
		for n, b := range s.cluster.nodes {
			if b.alive() {
				nodes = append(nodes, n)
			}
		}
		return nil, killAtOnce(s, nodes)
	}},
	{name: "SIGTERM of a leader", do: to((*siege).leader, func(s *siege, n int) (func() error, error) {
		return nil, stop(s.cluster.nodes[n])
	})},
	{name: "a pause of 5 s", do: to((*siege).leader, func(s *siege, n int) (func() error, error) {
		b := s.cluster.nodes[n]
		err := b.signal(syscall.SIGSTOP)
		time.Sleep(5 * time.Second)
		return func() error {
			if !b.alive() {
				return nil // killed while it stood still
			}
			return b.signal(syscall.SIGCONT)
		}, err
	})},
	{name: "a leader cut off with clients of its own", do: to((*siege).leadingFounder, isolateWithClients),
		settle: releaseStranded},
	{name: "a one-way cut", do: to((*siege).leadingFounder, func(s *siege, n int) (func() error, error) {
		outwards := s.random.IntN(2)
		for way, proxy := range s.cluster.proxies {
			if way[outwards] == n {
				proxy.sever()
			}
		}
		time.Sleep(2 * time.Second)
		return s.cluster.healWays, nil
	})},
	{name: "a wiped disk", heavy: true, do: to((*siege).anyFounder, func(s *siege, n int) (func() error, error) {
		b := s.cluster.nodes[n]
		return nil, errors.Join(b.kill(), clean(b.data))
	}), settle: func(s *siege) error { return s.cluster.wholeAgain() }},
	{name: "a rolling restart", alone: true, do: func(s *siege) (func() error, error) {
		for n := range s.cluster.nodes {
			if err := errors.Join(stop(s.hit(n)), s.cluster.start()); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}},
	{name: "a full disk", heavy: true, possible: func(s *siege) bool { return len(s.cluster.disks) > 0 },
		do: to((*siege).leadingFounder, fillDisk), settle: needTheFullOne},
	{name: fourthJoins, heavy: true, possible: func(s *siege) bool { return s.cluster.joined == nil }, do: join,
		settle: settleMoves},
	{name: fourthLeaves, heavy: true, possible: func(s *siege) bool { return s.cluster.joined != nil }, do: leave,
		settle: letGo},
	{name: fourthIsDecommissioned, heavy: true, possible: func(s *siege) bool { return s.cluster.joined == nil },
		do: joinAndDecommission, settle: hasGone},
}
