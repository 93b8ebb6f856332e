package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// twoOnOneDirectory starts a second process on data that is in use.
func (p *program) twoOnOneDirectory() {
	p.withBroker("twice", func(first *broker) {
		p.Run("twice: a second process on the same data ends with code 1 and says why", func() error {
			port, err := freePort()
			if err != nil {
				return err
			}
			second := newBroker(p.command, first.data, port)
			second.log = first.data + ".second.log"
			defer second.end()
			if err := second.launch(); err != nil {
				return err
			}
			code, err := second.wait(startLimit)
			if err != nil {
				return err
			}
			said, err := os.ReadFile(second.log)
			if err != nil {
				return err
			}
			if code != 1 || len(strings.TrimSpace(string(said))) == 0 {
				return fmt.Errorf("exit code %d, said %q", code, said)
			}
			if strings.Contains(string(said), "panicked") {
				return fmt.Errorf("it panicked: %s", said)
			}
			return nil
		})
		p.Run("twice: the first one still serves", func() error {
			time.Sleep(200 * time.Millisecond)
			return first.answers()
		})
	})
}
