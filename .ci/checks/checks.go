// Package checks counts named checks and prints one PASS or FAIL line for each, for every Go suite.
package checks

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Checks counts; it may be shared by goroutines.
type Checks struct {
	passed, failed, skipped atomic.Int64
}

// Run counts what check gives under its name.
func (c *Checks) Run(name string, check func() error) {
	start := time.Now()
	if err := check(); err != nil {
		c.failed.Add(1)
		fmt.Printf("FAIL %s: %v\n", name, err)
		return
	}
	c.passed.Add(1)
	fmt.Printf("PASS %s (%.1f s)\n", name, time.Since(start).Seconds())
}

// Failed says whether a check has failed so far.
func (c *Checks) Failed() bool {
	return c.failed.Load() > 0
}

// Skip counts a check that this machine cannot do, and says why.
func (c *Checks) Skip(name, why string) {
	c.skipped.Add(1)
	fmt.Printf("SKIP %s: %s\n", name, why)
}

// Close prints the sum and gives the exit code.
func (c *Checks) Close() int {
	sum := fmt.Sprintf("%d passed, %d failed", c.passed.Load(), c.failed.Load())
	if skipped := c.skipped.Load(); skipped > 0 {
		sum += fmt.Sprintf(", %d skipped", skipped)
	}
	fmt.Println(sum)
	if c.failed.Load() > 0 {
		return 1
	}
	return 0
}

// Same is nil when both are equal.
func Same[T comparable](what string, expected, actual T) error {
	if expected != actual {
		return fmt.Errorf("%s: expected %v, got %v", what, expected, actual)
	}
	return nil
}

// Eventually polls until the condition holds; what says what was waited for in vain.
func Eventually(what string, limit time.Duration, condition func() (bool, error)) error {
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
