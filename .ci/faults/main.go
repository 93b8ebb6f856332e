// Faults on a real broker process, with unmodified clients at work: kill -9 under load, SIGTERM, a second
// process on the same data, a full disk, and hostile frames; and on three nodes, each of which is met by all that can
// happen to a machine.
//
//	faults [flags] -- COMMAND WITH {data}, {port} AND {next}
//
// It starts the broker itself, prints PASS or FAIL lines and the sum, and leaves no process behind.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"corelane/ci/checks"
)

type program struct {
	checks.Checks
	command   []string
	directory string
	random    *rand.Rand
	rounds    int
	diskMB    int
	memoryMB  int
	// How often each fault happens to the cluster, and part of the name of those that are wanted.
	clusterRounds int
	only          string
	mix           time.Duration
}

func main() {
	parts := flag.String("parts", "selftest,kill,stop,twice,hostile,disk", "what to do, comma-separated")
	rounds := flag.Int("rounds", 30, "how often the broker is killed")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of all random choices")
	directory := flag.String("directory", "", "where data and logs go (default: a new one under TMPDIR)")
	diskMB := flag.Int("disk-mb", 1536, "size of the disk that becomes full")
	memoryMB := flag.Int("memory-mb", 256, "how much memory hostile frames may cost the broker")
	clusterRounds := flag.Int("cluster-rounds", 10, "how often each fault happens to the cluster")
	mix := flag.Duration("mix", 0, "for how long the cluster meets random faults after its rounds")
	only := flag.String("only", "", "only the cluster's faults whose names hold one of these, comma-separated")
	flag.Parse()
	haveOwnMounts()
	p := &program{command: flag.Args(), rounds: *rounds, diskMB: *diskMB, memoryMB: *memoryMB}
	p.clusterRounds, p.only, p.mix = *clusterRounds, *only, *mix
	p.random = rand.New(rand.NewPCG(*seed, 1))
	fmt.Printf("seed %d\n", *seed)
	remove, err := p.workIn(*directory)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	code := p.runParts(strings.Split(*parts, ","))
	if code == 0 {
		remove()
	} else {
		fmt.Printf("data and logs are kept in %s\n", p.directory)
	}
	os.Exit(code)
}

// workIn makes the directory; what it gives removes it again if it was not named by the caller.
func (p *program) workIn(named string) (func(), error) {
	if named != "" {
		p.directory = named
		return func() {}, os.MkdirAll(named, 0o755)
	}
	made, err := os.MkdirTemp("", "faults-")
	p.directory = made
	return func() { os.RemoveAll(made) }, err
}

func (p *program) runParts(wanted []string) int {
	known := map[string]func(){
		"selftest": p.selftest,
		"kill":     p.killUnderLoad,
		"stop":     p.stopUnderLoad,
		"twice":    p.twoOnOneDirectory,
		"hostile":  p.hostileFrames,
		"disk":     p.diskFull,
		"cluster":  p.clusterUnderLoad,
	}
	for _, name := range wanted {
		part, found := known[name]
		if !found {
			fmt.Fprintf(os.Stderr, "no part is named %q\n", name)
			return 2
		}
		part()
	}
	return p.Close()
}

// broker prepares one on a free port with a data directory of its own; it is not started.
func (p *program) broker(name string) (*broker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(p.directory, name)
	return newBroker(p.command, data, port), os.MkdirAll(data, 0o755)
}

// withBroker runs a part on a broker that serves, and sees to its end.
func (p *program) withBroker(name string, part func(*broker)) {
	var b *broker
	p.Run(name+": broker starts", func() error {
		var err error
		if b, err = p.broker(name); err != nil {
			return err
		}
		return b.start()
	})
	if b == nil {
		return
	}
	defer b.end()
	if b.alive() {
		part(b)
	}
}

// graceful exit codes: 0, and what a JVM gives after a clean shutdown by SIGTERM.
func graceful(code int) bool {
	return code == 0 || code == 128+int(syscall.SIGTERM)
}
