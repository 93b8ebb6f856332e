package main

import (
	"fmt"
	"syscall"
	"time"
)

// A life of the broker ends by a signal at a random moment under load; afterwards all promises are
// checked. SIGKILL and SIGTERM differ only in the ending.

func (p *program) killUnderLoad() {
	p.withBroker("kill", func(b *broker) {
		p.underLoad(b, "kill -9", p.rounds, func() error { return b.kill() })
	})
}

func (p *program) stopUnderLoad() {
	p.withBroker("stop", func(b *broker) {
		p.underLoad(b, "SIGTERM", 3, func() error { return stop(b) })
	})
}

func stop(b *broker) error {
	if err := b.signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := b.wait(30 * time.Second)
	if err != nil {
		return err
	}
	if !graceful(code) {
		return fmt.Errorf("exit code %d: %s", code, b.lastLines())
	}
	return nil
}

func (p *program) underLoad(b *broker, name string, rounds int, end func() error) {
	h := newHistory()
	var l *load
	p.Run(name+": load starts", func() error {
		if err := createLoadTopics(b.address()); err != nil {
			return err
		}
		var err error
		if l, err = startLoad(b.address(), h, 1); err != nil {
			return err
		}
		return l.progress()
	})
	if l == nil {
		return
	}
	p.Run(fmt.Sprintf("%s: %d rounds, and clients go on after each", name, rounds), func() error {
		for round := range rounds {
			if err := p.life(b, l, h, end); err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
			if round%10 == 9 {
				if err := reread(b.address(), h); err != nil {
					return fmt.Errorf("round %d: read again: %w", round+1, err)
				}
			}
		}
		return nil
	})
	p.Run(name+": no client met an error that it should not see", l.finish)
	p.Run(name+": last restart and complete read", func() error {
		if err := end(); err != nil {
			return err
		}
		if err := b.start(); err != nil {
			return err
		}
		if err := checkCommitted(b.address(), h); err != nil {
			return err
		}
		return readAll(b.address(), h)
	})
	p.verdicts(name, h)
}

// life lets the load work for a random while, ends the broker and starts it anew.
func (p *program) life(b *broker, l *load, h *history, end func() error) error {
	if err := l.progress(); err != nil {
		return fmt.Errorf("no progress: %w", err)
	}
	time.Sleep(time.Duration(p.random.Int64N(int64(1500 * time.Millisecond))))
	if !b.alive() {
		return fmt.Errorf("the broker ended by itself: %s", b.lastLines())
	}
	if err := end(); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	return checkCommitted(b.address(), h)
}

func (p *program) verdicts(name string, h *history) {
	for _, promise := range []struct {
		words string
		kinds []error
	}{
		{"every acknowledged or read record is there, at its offset", []error{errLost, errMoved}},
		{"every record is there once", []error{errDuplicated}},
		{"records of a producer are in order, offsets without a hole", []error{errReordered, errGap}},
		{"an offset has one value for ever", []error{errRewritten}},
		{"committed group offsets never go back", []error{errWentBack}},
	} {
		p.Run(name+": "+promise.words, func() error { return h.verdictOf(promise.kinds...) })
	}
	fmt.Printf("%s: %d records were acknowledged\n", name, h.acknowledgements())
}
