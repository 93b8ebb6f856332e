package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// administration asks what operators ask, with the refusals.
func (s *session) administration() {
	topic := s.name("admin")
	type step struct {
		name string
		call func(context.Context, *kadm.Client, string) error
	}
	for _, step := range []step{
		{"describe cluster", describeCluster},
		{"api versions", apiVersions},
		{"create topic", createTopic},
		{"describe and alter configs", configs},
		{"create partitions", createPartitions},
		{"list offsets and delete records", s.deleteRecords},
		{"groups: commit, list, describe, delete offsets, delete", groupAdministration},
		{"log directories", logDirectories},
		{"delete topic", deleteTopic},
	} {
		s.Run("admin: "+step.name, func() error {
			return s.withAdmin(func(ctx context.Context, admin *kadm.Client) error {
				return step.call(ctx, admin, topic)
			})
		})
	}
}

func refused(expected error, actual error) error {
	if !errors.Is(actual, expected) {
		return fmt.Errorf("expected %v, got %v", expected, actual)
	}
	return nil
}

func describeCluster(ctx context.Context, admin *kadm.Client, _ string) error {
	metadata, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if metadata.Cluster == "" || len(metadata.Brokers) == 0 || metadata.Controller < 0 {
		return fmt.Errorf("incomplete metadata: %+v", metadata)
	}
	return nil
}

func apiVersions(ctx context.Context, admin *kadm.Client, _ string) error {
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return err
	}
	for _, broker := range versions {
		if broker.Err != nil {
			return broker.Err
		}
		// Some librdkafka versions cannot produce otherwise (KAFKA-18659).
		minimum, _ := broker.KeyMinVersion(0)
		if err := checks.Same("advertised minimum of Produce", int16(0), minimum); err != nil {
			return err
		}
	}
	return nil
}

func createTopic(ctx context.Context, admin *kadm.Client, topic string) error {
	retention := "3600000"
	made, err := admin.CreateTopic(ctx, 3, -1, map[string]*string{"retention.ms": &retention}, topic)
	if err != nil {
		return err
	}
	if made.ID == (kadm.TopicID{}) {
		return errors.New("no topic id")
	}
	_, exists := admin.CreateTopic(ctx, 1, 1, nil, topic)
	_, invalid := admin.CreateTopic(ctx, 1, 1, nil, "not a/topic")
	_, tooFar := admin.CreateTopic(ctx, 1, 9, nil, topic+"-far")
	return errors.Join(
		checks.Same("partitions", int32(3), made.NumPartitions),
		checks.Same("replication factor", replication(), made.ReplicationFactor),
		refused(kerr.TopicAlreadyExists, exists),
		refused(kerr.InvalidTopicException, invalid),
		refused(kerr.InvalidReplicationFactor, tooFar),
	)
}

// replication is what the brokers give a topic that asks for none: REPLICATION, or 1.
func replication() int16 {
	factor, err := strconv.ParseInt(os.Getenv("REPLICATION"), 10, 16)
	if err != nil {
		return 1
	}
	return int16(factor)
}

func config(ctx context.Context, admin *kadm.Client, topic, name string) (string, error) {
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	resource, err := described.On(topic, nil)
	if err != nil {
		return "", err
	}
	for _, entry := range resource.Configs {
		if entry.Key == name {
			return entry.MaybeValue(), resource.Err
		}
	}
	return "", errors.Join(resource.Err, fmt.Errorf("%s is not described", name))
}

func alter(ctx context.Context, admin *kadm.Client, topic string, change kadm.AlterConfig) error {
	answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err != nil {
		return err
	}
	answer, err := answers.On(topic, nil)
	return errors.Join(err, answer.Err)
}

func configs(ctx context.Context, admin *kadm.Client, topic string) error {
	set, bad := "7200000", "soon"
	if err := alter(ctx, admin, topic, kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: &set}); err != nil {
		return err
	}
	becomes := func(expected string) error {
		return checks.Eventually("retention.ms = "+expected, 10*time.Second, func() (bool, error) {
			// A broker may not have heard of a topic that the controller has just created.
			value, err := config(ctx, admin, topic, "retention.ms")
			return err == nil && value == expected, nil
		})
	}
	if err := becomes(set); err != nil {
		return err
	}
	wrong := alter(ctx, admin, topic, kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: &bad})
	if err := refused(kerr.InvalidConfig, wrong); err != nil {
		return err
	}
	if err := alter(ctx, admin, topic, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"}); err != nil {
		return err
	}
	return becomes("604800000")
}

func createPartitions(ctx context.Context, admin *kadm.Client, topic string) error {
	grown, err := admin.UpdatePartitions(ctx, 5, topic)
	if err != nil {
		return err
	}
	if err := grown.Error(); err != nil {
		return err
	}
	if err := checks.Eventually("5 partitions", 10*time.Second, func() (bool, error) {
		topics, err := admin.ListTopics(ctx, topic)
		return len(topics[topic].Partitions) == 5, err
	}); err != nil {
		return err
	}
	shrunk, err := admin.UpdatePartitions(ctx, 2, topic)
	if err != nil {
		return err
	}
	return refused(kerr.InvalidPartitions, shrunk.Error())
}

func (s *session) deleteRecords(ctx context.Context, admin *kadm.Client, topic string) error {
	client, err := s.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	for range 50 {
		if err := produceOne(client, topic, 0, "record"); err != nil {
			return err
		}
	}
	var until kadm.Offsets
	until.AddOffset(topic, 0, 20, -1)
	deleted, err := admin.DeleteRecords(ctx, until)
	if err != nil {
		return err
	}
	if err := deleted.Error(); err != nil {
		return err
	}
	low, _ := deleted.Lookup(topic, 0)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	start, _ := starts.Lookup(topic, 0)
	end, _ := ends.Lookup(topic, 0)
	return errors.Join(
		checks.Same("low watermark", int64(20), low.LowWatermark),
		checks.Same("earliest", int64(20), start.Offset),
		checks.Same("latest", int64(50), end.Offset),
	)
}

func groupAdministration(ctx context.Context, admin *kadm.Client, topic string) error {
	group := topic + "-group"
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 42, LeaderEpoch: -1, Metadata: "by hand"})
	offsets.AddOffset(topic, 1, 7, -1)
	if err := admin.CommitAllOffsets(ctx, group, offsets); err != nil {
		return err
	}
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	if _, found := listed[group]; !found {
		return errors.New("the group is not listed")
	}
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	if err := checks.Same("state", "Empty", described[group].State); err != nil {
		return err
	}
	if _, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {1: {}}}); err != nil {
		return err
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	first, _ := committed.Lookup(topic, 0)
	second, found := committed.Lookup(topic, 1)
	if found && second.At >= 0 {
		return fmt.Errorf("the deleted offset is still there: %d", second.At)
	}
	if err := errors.Join(
		checks.Same("offset", int64(42), first.At),
		checks.Same("metadata", "by hand", first.Metadata),
	); err != nil {
		return err
	}
	if _, err := admin.DeleteGroup(ctx, group); err != nil {
		return err
	}
	_, err = admin.DeleteGroup(ctx, group)
	return refused(kerr.GroupIDNotFound, err)
}

func logDirectories(ctx context.Context, admin *kadm.Client, topic string) error {
	var wanted kadm.TopicsSet
	wanted.Add(topic, 0)
	brokers, err := admin.DescribeAllLogDirs(ctx, wanted)
	if err != nil {
		return err
	}
	for _, directories := range brokers {
		for _, directory := range directories {
			if _, found := directory.Topics.Lookup(topic, 0); found {
				return directory.Err
			}
		}
	}
	return errors.New("the partition lies in no directory")
}

func deleteTopic(ctx context.Context, admin *kadm.Client, topic string) error {
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	if err := checks.Eventually("the topic to go", 10*time.Second, func() (bool, error) {
		topics, err := admin.ListTopics(ctx)
		return !topics.Has(topic), err
	}); err != nil {
		return err
	}
	_, err := admin.DeleteTopic(ctx, topic)
	return refused(kerr.UnknownTopicOrPartition, err)
}
