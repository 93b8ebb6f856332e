package main

import (
	"fmt"
	"sync/atomic"
	"time"
)

// checks counts named checks and prints one PASS or FAIL line for each.
type checks struct {
	passed, failed atomic.Int64
}

func (c *checks) run(name string, check func() error) {
	start := time.Now()
	if err := check(); err != nil {
		c.failed.Add(1)
		fmt.Printf("FAIL %s: %v\n", name, err)
		return
	}
	c.passed.Add(1)
	fmt.Printf("PASS %s (%.1f s)\n", name, time.Since(start).Seconds())
}

// close prints the sum and gives the exit code.
func (c *checks) close() int {
	fmt.Printf("%d passed, %d failed\n", c.passed.Load(), c.failed.Load())
	if c.failed.Load() > 0 {
		return 1
	}
	return 0
}

func same[T comparable](what string, expected, actual T) error {
	if expected != actual {
		return fmt.Errorf("%s: expected %v, got %v", what, expected, actual)
	}
	return nil
}

// eventually polls until the condition holds; what says what was waited for in vain.
func eventually(what string, limit time.Duration, condition func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		holds, err := condition()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if holds {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
