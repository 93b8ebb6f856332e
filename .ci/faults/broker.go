package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// startLimit is far above what a broker needs, so that only a broker that does not come is late.
const startLimit = 60 * time.Second

// broker is one broker process at a time on one data directory and one port.
type broker struct {
	command []string
	data    string
	port    int
	log     string

	lock sync.Mutex
	run  *exec.Cmd
	// Closed when the process has ended.
	exited chan struct{}
}

// newBroker fills the placeholders {data}, {port} and {next} (the port after it) of the command line.
func newBroker(template []string, data string, port int) *broker {
	b := &broker{data: data, port: port, log: data + ".log"}
	for _, word := range template {
		word = strings.ReplaceAll(word, "{data}", data)
		word = strings.ReplaceAll(word, "{port}", strconv.Itoa(port))
		b.command = append(b.command, strings.ReplaceAll(word, "{next}", strconv.Itoa(port+1)))
	}
	return b
}

func (b *broker) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port))
}

// launch starts the process without waiting for it to serve.
func (b *broker) launch() error {
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	run := exec.Command(b.command[0], b.command[1:]...)
	run.Stdout, run.Stderr = log, log
	// The broker must not outlive this program, however this program ends.
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := run.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = run.Wait() // How it ended is in its state.
		close(exited)
	}()
	b.lock.Lock()
	b.run, b.exited = run, exited
	b.lock.Unlock()
	return nil
}

// start launches the broker and waits until it answers a client.
func (b *broker) start() error {
	if err := b.launch(); err != nil {
		return err
	}
	return b.ready()
}

func (b *broker) ready() error {
	deadline := time.Now().Add(startLimit)
	for time.Now().Before(deadline) {
		if !b.alive() {
			return fmt.Errorf("the broker ended while it started: %s", b.lastLines())
		}
		if b.answers() == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the broker did not serve within %s: %s", startLimit, b.lastLines())
}

// answers asks for the cluster's metadata on a fresh connection.
func (b *broker) answers() error {
	connection, err := net.DialTimeout("tcp", b.address(), time.Second)
	if err != nil {
		return err // far cheaper to learn here than from a client that tries again
	}
	connection.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.address()), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
	if err == nil && len(metadata.Brokers) == 0 {
		return errors.New("no broker is registered yet")
	}
	return err
}

func (b *broker) pid() int {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.run.Process.Pid
}

func (b *broker) alive() bool {
	b.lock.Lock()
	defer b.lock.Unlock()
	if b.run == nil {
		return false
	}
	select {
	case <-b.exited:
		return false
	default:
		return true
	}
}

func (b *broker) signal(signal syscall.Signal) error {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.run.Process.Signal(signal)
}

// wait gives the exit code; a death by signal counts as 128 + signal, as in a shell.
func (b *broker) wait(limit time.Duration) (int, error) {
	select {
	case <-b.exited:
	case <-time.After(limit):
		return 0, fmt.Errorf("the broker still runs after %s", limit)
	}
	status := b.run.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

func (b *broker) kill() error {
	if err := b.signal(syscall.SIGKILL); err != nil {
		return err
	}
	_, err := b.wait(10 * time.Second)
	return err
}

// end makes sure that nothing is left running.
func (b *broker) end() {
	if b.alive() {
		_ = b.kill()
	}
}

func (b *broker) lastLines() string {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], " | ")
}

// panicked tells what the log says of a panic.
func (b *broker) panicked() error {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err
	}
	if at := strings.Index(string(text), "panicked at"); at >= 0 {
		return fmt.Errorf("%s: %s", filepath.Base(b.log), text[at:min(len(text), at+400)])
	}
	return nil
}

// residentBytes is the memory that the process holds.
func (b *broker) residentBytes() (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.pid()), "statm"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

const (
	// Below the ports that the system gives to outgoing connections: one of these would take the port of a broker that is
	// down for a moment.
	lowestPort  = 21000
	highestPort = 21998
)

// freePort gives a port that is free now, and whose successor is too: a node needs two.
func freePort() (int, error) {
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		first, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		second, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		first.Close()
		if err == nil {
			second.Close()
			return port, nil
		}
	}
	return 0, errors.New("no two free ports in a row")
}
