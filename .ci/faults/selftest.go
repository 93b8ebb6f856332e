package main

import (
	"errors"
	"fmt"
)

// A checker that cannot fail proves nothing, so it is first shown histories with known faults.

var trialPlace = place{"topic", 0}

type trial struct {
	name     string
	expected error
	// log is what a reader finds at the end; the promises before it are always the same.
	log []entry
	// before adds what this trial needs to the history.
	before func(*history)
}

func entries(sequences ...int64) []entry {
	var log []entry
	for offset, sequence := range sequences {
		log = append(log, entry{int64(offset), id{1, sequence}})
	}
	return log
}

func trials() []trial {
	nothing := func(*history) {}
	unlucky := entries(0, 1, 2, 3)
	unlucky[3].offset = 4
	return []trial{
		{"a right history", nil, entries(0, 1, 2, 3), nothing},
		{"a right history with a record that was never acknowledged", nil, entries(0, 1, 2, 3, 4), nothing},
		{"a lost record in the middle", errLost, entries(0, 1, 3), nothing},
		{"a lost record at the end", errLost, entries(0, 1, 2), nothing},
		{"an empty log", errLost, nil, nothing},
		{"a duplicated record", errDuplicated, entries(0, 1, 2, 3, 2), nothing},
		{"a reordered record", errReordered, entries(0, 2, 1, 3), nothing},
		{"a record at another offset", errMoved, entries(9, 0, 1, 2, 3), nothing},
		{"a hole in the offsets", errGap, unlucky, nothing},
		{"an offset with two values", errRewritten, entries(0, 1, 2, 3), func(h *history) {
			h.observe(trialPlace, 3, id{1, 7})
		}},
		{"a record that was read and vanished", errLost, entries(0, 1, 2, 3), func(h *history) {
			h.observe(trialPlace, 4, id{1, 4})
		}},
		{"a committed offset that goes back", errWentBack, entries(0, 1, 2, 3), func(h *history) {
			h.commit(trialPlace, 3)
			h.fetched(trialPlace, h.promises()[trialPlace], 2)
		}},
		{"a committed offset that is gone", errWentBack, entries(0, 1, 2, 3), func(h *history) {
			h.commit(trialPlace, 3)
			h.fetched(trialPlace, h.promises()[trialPlace], -1)
		}},
		{"a committed offset that goes on", nil, entries(0, 1, 2, 3), func(h *history) {
			h.commit(trialPlace, 3)
			h.fetched(trialPlace, h.promises()[trialPlace], 4)
		}},
	}
}

func (t trial) run() error {
	h := newHistory()
	for sequence := range int64(4) {
		h.acknowledge(trialPlace, id{1, sequence}, sequence)
	}
	t.before(h)
	h.judge(trialPlace, t.log)
	switch verdict := h.verdict(); {
	case t.expected == nil:
		return verdict
	case !errors.Is(verdict, t.expected):
		return fmt.Errorf("expected %q, got %v", t.expected, verdict)
	}
	return nil
}

func (p *program) selftest() {
	for _, trial := range trials() {
		p.Run("checker: "+trial.name, trial.run)
	}
}
