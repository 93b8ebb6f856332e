package corelane.clients;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What operators and frameworks ask of the Admin client, with its refusals. */
final class Administration {
    private static final int RECORDS = 100;

    private final Session session;
    private final Checks checks;
    private final String topic;
    private final String group;
    private final TopicPartition first;
    private final ConfigResource resource;

    Administration(Session session, Checks checks) {
        this.session = session;
        this.checks = checks;
        this.topic = session.name("admin");
        this.group = session.name("admin-group");
        this.first = new TopicPartition(topic, 0);
        this.resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private interface AdminCheck {
        void run(Admin admin) throws Exception;
    }

    private void check(Admin admin, String name, AdminCheck check) {
        checks.check("admin: " + name, () -> check.run(admin));
    }

    void run() {
        try (Admin admin = session.admin()) {
            check(admin, "describe cluster", this::cluster);
            check(admin, "create topic", this::create);
            check(admin, "create topic refused", this::createRefused);
            check(admin, "validate only creates nothing", this::validateOnly);
            check(admin, "describe and list topics", this::describe);
            check(admin, "describe configs", this::describeConfigs);
            check(admin, "incremental alter configs", this::alterConfigs);
            String why = whyNotCompacted(admin);
            if (why == null) {
                check(admin, "append to and subtract from a list config", this::alterLists);
            } else {
                checks.skip("admin: append to and subtract from a list config", why);
            }
            check(admin, "create partitions", this::createPartitions);
            check(admin, "list offsets", this::listOffsets);
            check(admin, "delete records", this::deleteRecords);
            check(admin, "list and describe groups", this::groups);
            check(admin, "alter and delete group offsets", this::groupOffsets);
            check(admin, "delete groups", this::deleteGroups);
            check(admin, "describe log directories", this::logDirectories);
            check(admin, "delete topic, and a new one gets a new id", this::deleteTopic);
        }
    }

    private void cluster(Admin admin) throws Exception {
        var cluster = admin.describeCluster();
        Checks.that(!cluster.nodes().get().isEmpty(), "no nodes");
        Checks.that(!cluster.clusterId().get().isEmpty(), "no cluster id");
        Checks.that(cluster.controller().get() != null, "no controller");
    }

    private void create(Admin admin) throws Exception {
        NewTopic wanted = new NewTopic(topic, 3, (short) 1)
                .configs(Map.of("retention.ms", "3600000", "segment.bytes", "1048576"));
        CreateTopicsResult made = admin.createTopics(List.of(wanted));
        Checks.same("partitions", 3, made.numPartitions(topic).get());
        Checks.same("replication factor", 1, made.replicationFactor(topic).get());
        Checks.that(!made.topicId(topic).get().equals(Uuid.ZERO_UUID), "no topic id");
        Checks.same("retention.ms", "3600000", made.config(topic).get().get("retention.ms").value());
        Session.visible(admin, topic, 3);
    }

    private void createRefused(Admin admin) throws Exception {
        Checks.refused(TopicExistsException.class, () -> create(admin, new NewTopic(topic, 1, (short) 1)));
        Checks.refused(InvalidTopicException.class,
                () -> create(admin, new NewTopic("not a/topic", 1, (short) 1)));
        Checks.refused(InvalidPartitionsException.class,
                () -> create(admin, new NewTopic(topic + "-none", 0, (short) 1)));
        Checks.refused(InvalidReplicationFactorException.class,
                () -> create(admin, new NewTopic(topic + "-far", 1, (short) 9)));
        Checks.refused(InvalidConfigurationException.class, () -> create(admin,
                new NewTopic(topic + "-odd", 1, (short) 1).configs(Map.of("no.such.config", "1"))));
        Checks.refused(InvalidConfigurationException.class, () -> create(admin,
                new NewTopic(topic + "-odd", 1, (short) 1).configs(Map.of("retention.ms", "soon"))));
    }

    private static Void create(Admin admin, NewTopic wanted) throws Exception {
        return admin.createTopics(List.of(wanted)).all().get();
    }

    private void validateOnly(Admin admin) throws Exception {
        String name = topic + "-dry";
        admin.createTopics(List.of(new NewTopic(name, 2, (short) 1)),
                new CreateTopicsOptions().validateOnly(true)).all().get();
        Checks.that(!admin.listTopics().names().get().contains(name), "it was created");
    }

    private void describe(Admin admin) throws Exception {
        Checks.that(admin.listTopics().names().get().contains(topic), "not listed");
        TopicDescription found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Checks.same("partitions", 3, found.partitions().size());
        found.partitions().forEach(partition -> {
            Checks.that(partition.leader() != null, "partition %d has no leader", partition.partition());
            Checks.same("replicas", 1, partition.replicas().size());
            Checks.same("in-sync replicas", 1, partition.isr().size());
        });
        Checks.refused(UnknownTopicOrPartitionException.class,
                () -> admin.describeTopics(List.of(topic + "-absent")).allTopicNames().get());
    }

    private ConfigEntry entry(Admin admin, String name) throws Exception {
        Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        ConfigEntry entry = config.get(name);
        Checks.that(entry != null, "%s is not described", name);
        return entry;
    }

    private void describeConfigs(Admin admin) throws Exception {
        Checks.same("retention.ms", "3600000", entry(admin, "retention.ms").value());
        Checks.same("source of retention.ms", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG,
                entry(admin, "retention.ms").source());
        Checks.same("cleanup.policy", "delete", entry(admin, "cleanup.policy").value());
        Checks.that(entry(admin, "cleanup.policy").isDefault(), "cleanup.policy is not a default");
        String node = admin.describeCluster().nodes().get().iterator().next().idString();
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, node);
        Config config = admin.describeConfigs(List.of(broker)).all().get().get(broker);
        Checks.that(config.get("message.max.bytes") != null, "the broker has no message.max.bytes");
    }

    private void alter(Admin admin, String name, String value, OpType operation) throws Exception {
        Collection<AlterConfigOp> operations =
                List.of(new AlterConfigOp(new ConfigEntry(name, value), operation));
        admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
    }

    private void configBecomes(Admin admin, String name, String value) throws Exception {
        Checks.eventually(name + " = " + value, Duration.ofSeconds(10),
                () -> entry(admin, name).value().equals(value));
    }

    private void alterConfigs(Admin admin) throws Exception {
        alter(admin, "retention.ms", "7200000", OpType.SET);
        configBecomes(admin, "retention.ms", "7200000");
        Checks.same("segment.bytes (untouched)", "1048576", entry(admin, "segment.bytes").value());
        alter(admin, "retention.ms", "", OpType.DELETE);
        configBecomes(admin, "retention.ms", "604800000");
        Checks.refused(InvalidConfigurationException.class, () -> {
            alter(admin, "retention.ms", "-7", OpType.SET);
            return "accepted";
        });
    }

    private void alterLists(Admin admin) throws Exception {
        alter(admin, "cleanup.policy", "compact", OpType.APPEND);
        configBecomes(admin, "cleanup.policy", "delete,compact");
        alter(admin, "cleanup.policy", "compact", OpType.SUBTRACT);
        configBecomes(admin, "cleanup.policy", "delete");
    }

    /** A compacted topic is created on paper only; a broker without compaction says so. */
    private String whyNotCompacted(Admin admin) {
        try {
            NewTopic wanted = new NewTopic(topic + "-compacted", 1, (short) 1)
                    .configs(Map.of("cleanup.policy", "compact"));
            admin.createTopics(List.of(wanted), new CreateTopicsOptions().validateOnly(true)).all().get();
            return null;
        } catch (Exception refused) {
            return refused.getMessage();
        }
    }

    private void createPartitions(Admin admin) throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        Checks.eventually("5 partitions", Duration.ofSeconds(10), () -> admin.describeTopics(List.of(topic))
                .allTopicNames().get().get(topic).partitions().size() == 5);
        Checks.refused(InvalidPartitionsException.class,
                () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get());
    }

    private ListOffsetsResultInfo offset(Admin admin, OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(first, spec)).partitionResult(first).get();
    }

    private void listOffsets(Admin admin) throws Exception {
        long start = System.currentTimeMillis();
        try (KafkaProducer<byte[], byte[]> producer = session.producer(Map.of())) {
            for (int i = 0; i < RECORDS; i++) {
                // The largest timestamp lies in the middle, so it is not simply the last record.
                long timestamp = start + (i == 40 ? 5000 : i);
                producer.send(new ProducerRecord<>(topic, 0, timestamp, null, ("r" + i).getBytes()));
            }
        }
        Checks.same("earliest", 0L, offset(admin, OffsetSpec.earliest()).offset());
        Checks.same("latest", (long) RECORDS, offset(admin, OffsetSpec.latest()).offset());
        Checks.same("of the largest timestamp", 40L, offset(admin, OffsetSpec.maxTimestamp()).offset());
        Checks.same("for a timestamp", 10L, offset(admin, OffsetSpec.forTimestamp(start + 10)).offset());
        Checks.same("for a later timestamp", 40L, offset(admin, OffsetSpec.forTimestamp(start + 3000)).offset());
        Checks.same("after the last timestamp", -1L,
                offset(admin, OffsetSpec.forTimestamp(start + 9000)).offset());
    }

    private void deleteRecords(Admin admin) throws Exception {
        var deleted = admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(30)));
        Checks.same("low watermark", 30L, deleted.lowWatermarks().get(first).get().lowWatermark());
        Checks.same("earliest", 30L, offset(admin, OffsetSpec.earliest()).offset());
        Checks.same("latest", (long) RECORDS, offset(admin, OffsetSpec.latest()).offset());
        Checks.refused(OffsetOutOfRangeException.class,
                () -> admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(RECORDS + 1))).all().get());
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of())) {
            consumer.assign(List.of(first));
            consumer.seek(first, 5);
            long[] offset = {-1};
            Checks.eventually("a record", Duration.ofSeconds(10), () -> {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    offset[0] = offset[0] < 0 ? record.offset() : offset[0];
                }
                return offset[0] >= 0;
            });
            Checks.same("first offset after a reset", 30L, offset[0]);
        }
    }

    private ConsumerGroupDescription describeGroup(Admin admin) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private void groups(Admin admin) throws Exception {
        Map<String, Object> config = Map.of("group.id", group, "client.id", "admin-member");
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(config)) {
            consumer.subscribe(List.of(topic));
            Checks.eventually("the records", Duration.ofSeconds(30),
                    () -> consumer.poll(Duration.ofMillis(200)).count() > 0);
            consumer.commitSync();
            Checks.that(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)),
                    "the group is not listed");
            ConsumerGroupDescription found = describeGroup(admin);
            Checks.same("state", GroupState.STABLE, found.groupState());
            Checks.same("members", 1, found.members().size());
            var member = found.members().iterator().next();
            Checks.same("client id", "admin-member", member.clientId());
            Checks.same("assigned partitions", 5, member.assignment().topicPartitions().size());
            Checks.refused(GroupNotEmptyException.class,
                    () -> admin.deleteConsumerGroups(List.of(group)).all().get());
        }
        Checks.eventually("an empty group", Duration.ofSeconds(10),
                () -> describeGroup(admin).groupState() == GroupState.EMPTY);
    }

    private Map<TopicPartition, OffsetAndMetadata> committed(Admin admin) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }

    private void groupOffsets(Admin admin) throws Exception {
        Checks.same("committed", (long) RECORDS, committed(admin).get(first).offset());
        admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(42, "by hand"))).all().get();
        Checks.same("altered offset", 42L, committed(admin).get(first).offset());
        Checks.same("metadata", "by hand", committed(admin).get(first).metadata());
        admin.deleteConsumerGroupOffsets(group, Set.of(first)).all().get();
        Checks.same("deleted offset", null, committed(admin).get(first));
    }

    private void deleteGroups(Admin admin) throws Exception {
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Checks.that(admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals(group)),
                "the group is still listed");
    }

    private void logDirectories(Admin admin) throws Exception {
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        var found = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        boolean listed = found.values().stream().anyMatch(directory -> directory.error() == null
                && directory.replicaInfos().containsKey(first));
        Checks.that(listed, "%s lies in none of %s", first, found.keySet());
    }

    private void deleteTopic(Admin admin) throws Exception {
        Uuid before = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        admin.deleteTopics(List.of(topic)).all().get();
        Checks.eventually("the topic to go", Duration.ofSeconds(10),
                () -> !admin.listTopics().names().get().contains(topic));
        Checks.refused(UnknownTopicOrPartitionException.class,
                () -> admin.deleteTopics(List.of(topic)).all().get());
        Uuid after = admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).topicId(topic).get();
        Checks.that(!after.equals(before), "the new topic has the old one's id");
        Session.visible(admin, topic, 1);
        Checks.same("latest of the new topic", 0L, offset(admin, OffsetSpec.latest()).offset());
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(after))).all().get();
    }
}
