package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fault is something that happens to a cluster under load.
type fault struct {
	name string
	// possible is nil where it always is.
	possible func(s *siege) bool
	// do brings it about, and gives what lifts it, if that takes more than starting nodes again. Lifting waits for
	// nothing, since it may be another fault that has to be lifted first.
	do func(s *siege) (lift func() error, err error)
	// settle waits, when all faults are lifted, until it is over for good. Nil: all nodes serve, clients go on.
	settle func(s *siege) error
	// heavy: not while another one lasts; alone: none begins while it lasts either.
	heavy, alone bool
}

// atOnce stands between the names of faults that overlap.
const atOnce = " + "

// siege is one cluster, its clients, and what has been done to it.
type siege struct {
	*program
	cluster *cluster
	load    *load
	history *history
	// producers counts those who have written, so that no two have one id.
	producers int32
	// stranded are clients behind a cut, until it is lifted.
	stranded *stranded
	// filled is the node whose disk was full last.
	filled *broker
	// gaps are the longest waits for an acknowledgement, for each kind of fault, until everything went on after it.
	gaps map[string][]time.Duration
}

// producerIDs reserves ids for that many producers and gives the first.
func (s *siege) producerIDs(count int32) int32 {
	first := s.producers + 1
	s.producers += count
	return first
}

// rounds does each fault in every round once, in random order.
func (s *siege) rounds() {
	wanted := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return !s.wants(f)
	})
	for round := range s.clusterRounds {
		s.random.Shuffle(len(wanted), func(i, j int) { wanted[i], wanted[j] = wanted[j], wanted[i] })
		comes, goes := indexOf(wanted, fourthJoins), indexOf(wanted, fourthLeaves)
		if 0 <= goes && goes < comes {
			wanted[comes], wanted[goes] = wanted[goes], wanted[comes]
			comes, goes = goes, comes
		}
		// There is one fourth node at a time.
		if between := indexOf(wanted, fourthIsDecommissioned); comes < between && between < goes {
			wanted[between], wanted[goes] = wanted[goes], wanted[between]
		}
		for _, f := range wanted {
			words := fmt.Sprintf("cluster: %s, round %d", f.name, round+1)
			if f.possible != nil && !f.possible(s) {
				s.Skip(words, "not possible here, see above")
				continue
			}
			s.Run(words, func() error { return s.survive(f) })
			if s.Failed() {
				return // What follows would say the same.
			}
		}
	}
}

// mix draws faults until the time is over; every third comes with a second one that begins while it lasts.
func (s *siege) mix() error {
	drawn := map[string]int{}
	for end := time.Now().Add(s.program.mix); time.Now().Before(end); {
		together := []fault{s.draw(func(f fault) bool { return true })}
		if !together[0].alone && s.random.IntN(3) == 0 {
			together = append(together, s.draw(func(f fault) bool {
				return !f.alone && !f.heavy && f.name != together[0].name
			}))
		}
		for _, f := range together {
			drawn[f.name]++
		}
		if err := s.survive(together...); err != nil {
			return fmt.Errorf("%s: %w", namesOf(together), err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(drawn)) {
		fmt.Printf("mix: %3d times %s\n", drawn[name], name)
	}
	return nil
}

func (s *siege) wants(f fault) bool {
	return slices.ContainsFunc(strings.Split(s.only, ","), func(part string) bool { return strings.Contains(f.name, part) })
}

func (s *siege) draw(suits func(fault) bool) fault {
	var suited []fault
	for _, f := range faults {
		if suits(f) && s.wants(f) && (f.possible == nil || f.possible(s)) {
			suited = append(suited, f)
		}
	}
	return suited[s.random.IntN(len(suited))]
}

func indexOf(all []fault, name string) int {
	return slices.IndexFunc(all, func(f fault) bool { return f.name == name })
}

func namesOf(together []fault) string {
	var names []string
	for _, f := range together {
		names = append(names, f.name)
	}
	return strings.Join(names, atOnce)
}

// survive brings faults about one after another, lets them last, lifts them, and waits until all goes on.
func (s *siege) survive(together ...fault) error {
	c, l := s.cluster, s.load
	if err := l.progress(); err != nil {
		return fmt.Errorf("no progress before: %w", err)
	}
	s.sleepUpTo(time.Second)
	led := c.led(patience)
	clear(c.hurt)
	l.beginGaps()
	var lifts []func() error
	var failed error
	for number, f := range together {
		lift, err := f.do(s)
		if lift != nil {
			lifts = append(lifts, lift)
		}
		if number > 0 && errors.Is(err, errNoVictim) {
			together = together[:number]
			break
		}
		if failed = err; failed != nil {
			failed = fmt.Errorf("%s: %w", f.name, err)
			break
		}
		time.Sleep(time.Second)
		s.sleepUpTo(time.Second)
	}
	s.tellGap(namesOf(together), led)
	for _, lift := range lifts {
		failed = errors.Join(failed, lift())
	}
	if failed != nil {
		return failed
	}
	if err := c.start(); err != nil {
		return err
	}
	for _, f := range together {
		if f.settle != nil {
			if err := f.settle(s); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	if err := l.progress(); err != nil {
		return fmt.Errorf("no progress after: %w", err)
	}
	s.noteGap(namesOf(together))
	for _, b := range c.nodes {
		if !b.alive() {
			return fmt.Errorf("%s ended by itself: %s", filepath.Base(b.log), b.lastLines())
		}
		if err := b.panicked(); err != nil {
			return err
		}
	}
	return checkCommitted(c.addresses(), s.history)
}

func (s *siege) sleepUpTo(limit time.Duration) {
	time.Sleep(time.Duration(s.random.Int64N(int64(limit))))
}

// tellGap tells how long partitions waited while it lasted: all of them, and those that were led by nodes which the
// fault has not touched.
func (s *siege) tellGap(name string, led map[place]int) {
	longest, where := s.load.longestGap(func(place) bool { return true })
	elsewhere, _ := s.load.longestGap(func(at place) bool {
		leader, known := led[at]
		return known && !s.cluster.hurt[leader]
	})
	fmt.Printf("%s: longest wait for an acknowledgement while it lasts: %d ms (%v); of partitions led elsewhere: %d ms\n",
		name, longest.Milliseconds(), where, elsewhere.Milliseconds())
}

func (s *siege) noteGap(name string) {
	if s.gaps == nil {
		s.gaps = map[string][]time.Duration{}
	}
	longest, _ := s.load.longestGap(func(place) bool { return true })
	s.gaps[name] = append(s.gaps[name], longest)
}

// tellGaps sums up the waits; several faults at once are one line together.
func (s *siege) tellGaps() {
	rows := map[string][]time.Duration{}
	for name, gaps := range s.gaps {
		if strings.Contains(name, atOnce) {
			name = "two at once"
		}
		rows[name] = append(rows[name], gaps...)
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		gaps := rows[name]
		slices.SortFunc(gaps, cmp.Compare[time.Duration])
		fmt.Printf("longest wait: %-50s %3d times, median %5d ms, worst %5d ms\n", name, len(gaps),
			gaps[len(gaps)/2].Milliseconds(), gaps[len(gaps)-1].Milliseconds())
	}
}
