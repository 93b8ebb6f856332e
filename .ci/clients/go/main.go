// The franz-go client, unmodified, against the broker at BOOTSTRAP. PARTS may name some of its parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// session is one run against one broker: it opens clients and gives names that no run used before.
type session struct {
	checks.Checks
	bootstrap string
	run       string
}

func (s *session) name(purpose string) string {
	return "go-" + purpose + "-" + s.run
}

func (s *session) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(s.bootstrap, ",")...)}, options...)...)
}

// withAdmin opens a client for one call; admin work is rare enough that sharing one would buy nothing.
func (s *session) withAdmin(call func(context.Context, *kadm.Client) error) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return call(ctx, kadm.NewClient(client))
}

// advertises says whether the broker says that it serves an API. What it does not advertise is skipped
// and counted, while what it advertises must work.
func (s *session) advertises(key int16) (bool, error) {
	found := false
	err := s.withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		versions, err := admin.ApiVersions(ctx)
		for _, broker := range versions {
			_, has := broker.KeyMaxVersion(key)
			found = found || has
		}
		return err
	})
	return found, err
}

// unless skips a part of the suite when the broker does not advertise what it needs.
func (s *session) unless(part string, key int16, name string, run func()) {
	switch found, err := s.advertises(key); {
	case err != nil:
		s.Run(part, func() error { return err })
	case !found:
		s.Skip(part, "the broker does not advertise "+name)
	default:
		run()
	}
}

func (s *session) createTopic(topic string, partitions int32, configs map[string]*string) error {
	return s.withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, partitions, replication(), configs, topic)
		// A node that is killed takes the answer with it, and the client asks again.
		if err != nil && !(tormented && errors.Is(err, kerr.TopicAlreadyExists)) {
			return err
		}
		// The broker that serves a topic may hear of it later than the one that created it.
		return checks.Eventually("the new topic in the metadata", time.Minute, func() (bool, error) {
			topics, err := admin.ListTopics(ctx, topic)
			return topics[topic].Err == nil && len(topics[topic].Partitions) == int(partitions), err
		})
	})
}

func main() {
	bootstrap := os.Getenv("BOOTSTRAP")
	if bootstrap == "" {
		bootstrap = "127.0.0.1:9092"
	}
	s := &session{bootstrap: bootstrap, run: strconv.FormatInt(time.Now().UnixMilli(), 36)}
	parts := map[string]func(){
		"content":        s.content,
		"groups":         s.groups,
		"administration": s.administration,
		"idempotence":    s.idempotence,
		"transactions":   s.transactions,
	}
	wanted := os.Getenv("PARTS")
	if wanted == "" {
		wanted = "content,groups,administration,idempotence,transactions"
	}
	// Groups wait far more than they work, so all parts share the clock.
	var running sync.WaitGroup
	for _, name := range strings.Split(wanted, ",") {
		part, known := parts[name]
		if !known {
			fmt.Fprintf(os.Stderr, "no part is named %q\n", name)
			os.Exit(2)
		}
		running.Go(part)
	}
	running.Wait()
	os.Exit(s.Close())
}
