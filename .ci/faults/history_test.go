package main

import (
	"errors"
	"testing"
)

// The tests are the same as what the program proves before it judges a broker.
func TestCheckerFindsEachFault(t *testing.T) {
	for _, trial := range trials() {
		t.Run(trial.name, func(t *testing.T) {
			if err := trial.run(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestViolationsAreBounded(t *testing.T) {
	h := newHistory()
	for range 3 * maxViolations {
		h.fetched(trialPlace, 2, 1)
	}
	if len(h.violations) != maxViolations || h.dropped != 2*maxViolations {
		t.Fatalf("kept %d, dropped %d", len(h.violations), h.dropped)
	}
	if err := h.verdict(); !errors.Is(err, errWentBack) {
		t.Fatal(err)
	}
}
