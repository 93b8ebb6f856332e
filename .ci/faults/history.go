package main

import (
	"errors"
	"fmt"
	"sync"
)

// place is where records lie.
type place struct {
	topic     string
	partition int32
}

// id names a record for ever: who produced it, and which one of his in this partition it is.
type id struct {
	producer int32
	sequence int64
}

// unseen stands where no record has been read; producers count from one.
var unseen id

// maxOffset bounds what an answer can make the history hold: 100 million records, far above what any load sends.
const maxOffset = 100_000_000

// What the checker can find. Each is tested on a history that has exactly this fault.
var (
	errLost       = errors.New("an acknowledged record is not in the log")
	errMoved      = errors.New("an acknowledged record lies at another offset")
	errDuplicated = errors.New("a record is in the log twice")
	errReordered  = errors.New("records of one producer are out of order")
	errRewritten  = errors.New("an offset had another value before")
	errGap        = errors.New("an offset between two records has no record")
	errWentBack   = errors.New("a committed group offset went back")
)

// maxViolations bounds what is kept; one broken promise usually shows thousands of times.
const maxViolations = 20

type acknowledgement struct {
	id     id
	offset int64
}

// history is everything that clients were told: acknowledged records, records read at any time, and
// committed offsets. It judges, and knows nothing of brokers or clients.
type history struct {
	lock         sync.Mutex
	acknowledged map[place][]acknowledgement
	// read[place][offset] is the one value that this offset may ever have; unseen where nobody has read yet.
	read       map[place][]id
	committed  map[place]int64
	violations []error
	dropped    int
}

func newHistory() *history {
	return &history{
		acknowledged: map[place][]acknowledgement{},
		read:         map[place][]id{},
		committed:    map[place]int64{},
	}
}

func (h *history) violate(kind error, format string, arguments ...any) {
	if len(h.violations) == maxViolations {
		h.dropped++
		return
	}
	h.violations = append(h.violations, fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, arguments...)))
}

// acknowledge records a promise of the broker.
func (h *history) acknowledge(at place, record id, offset int64) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.acknowledged[at] = append(h.acknowledged[at], acknowledgement{record, offset})
}

// observe records that a reader saw a record, at any time and in any life of the broker.
func (h *history) observe(at place, offset int64, record id) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if offset < 0 || offset > maxOffset {
		h.violate(errGap, "%v offset %d: no partition is that long", at, offset)
		return
	}
	known := h.read[at]
	for int64(len(known)) <= offset {
		known = append(known, unseen)
	}
	h.read[at] = known
	if before := known[offset]; before != unseen && before != record {
		h.violate(errRewritten, "%v offset %d was %v and is %v", at, offset, before, record)
		return
	}
	known[offset] = record
}

// commit records an acknowledged commit of a group offset.
func (h *history) commit(at place, offset int64) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.committed[at] = max(h.committed[at], offset)
}

// promises is what had been committed before a question is asked, to judge its answer by.
func (h *history) promises() map[place]int64 {
	h.lock.Lock()
	defer h.lock.Unlock()
	copied := make(map[place]int64, len(h.committed))
	for at, offset := range h.committed {
		copied[at] = offset
	}
	return copied
}

// fetched judges a committed offset that the broker gave against an earlier promise.
func (h *history) fetched(at place, promised, offset int64) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if offset < promised {
		h.violate(errWentBack, "%v was committed at %d and is at %d", at, promised, offset)
	}
	h.committed[at] = max(h.committed[at], offset)
}

// log is one partition read from its start to its end, by offset.
type entry struct {
	offset int64
	id     id
}

// judge compares one complete read of a partition with everything that was promised about it.
func (h *history) judge(at place, log []entry) {
	for _, e := range log {
		h.observe(at, e.offset, e.id)
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	found := make(map[id]int64, len(log))
	last := map[int32]int64{}
	for i, e := range log {
		if i > 0 && e.offset != log[i-1].offset+1 {
			h.violate(errGap, "%v between %d and %d", at, log[i-1].offset, e.offset)
		}
		if first, twice := found[e.id]; twice {
			h.violate(errDuplicated, "%v %v at %d and %d", at, e.id, first, e.offset)
			continue
		}
		found[e.id] = e.offset
		if before, known := last[e.id.producer]; known && e.id.sequence < before {
			h.violate(errReordered, "%v offset %d: %v after sequence %d", at, e.offset, e.id, before)
		}
		last[e.id.producer] = e.id.sequence
	}
	for _, promise := range h.acknowledged[at] {
		switch offset, present := found[promise.id]; {
		case !present:
			h.violate(errLost, "%v %v, acknowledged at %d", at, promise.id, promise.offset)
		case offset != promise.offset:
			h.violate(errMoved, "%v %v from %d to %d", at, promise.id, promise.offset, offset)
		}
	}
	// A record that a reader once saw was committed, acknowledged or not: it may not vanish either.
	for offset, record := range h.read[at] {
		if record == unseen {
			continue
		}
		if where, present := found[record]; !present || where != int64(offset) {
			h.violate(errLost, "%v %v, read at %d", at, record, offset)
		}
	}
}

// verdict is nil if nothing was found.
func (h *history) verdict() error {
	h.lock.Lock()
	defer h.lock.Unlock()
	if len(h.violations) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations: %w", len(h.violations)+h.dropped, errors.Join(h.violations...))
}

// verdictOf is the verdict on some kinds only, so that each promise has a line of its own.
func (h *history) verdictOf(kinds ...error) error {
	h.lock.Lock()
	defer h.lock.Unlock()
	var found []error
	for _, violation := range h.violations {
		for _, kind := range kinds {
			if errors.Is(violation, kind) {
				found = append(found, violation)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations, the first: %w", len(found), found[0])
}

func (h *history) acknowledgements() int {
	h.lock.Lock()
	defer h.lock.Unlock()
	sum := 0
	for _, promises := range h.acknowledged {
		sum += len(promises)
	}
	return sum
}
