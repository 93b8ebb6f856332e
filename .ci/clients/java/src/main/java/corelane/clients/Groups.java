package corelane.clients;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Members join and leave while records flow, under each rebalance protocol that the client has. */
final class Groups {
    private static final int PARTITIONS = 6;
    private static final Duration PATIENCE = Duration.ofSeconds(45);
    private static final Map<String, Map<String, Object>> PROTOCOLS = Map.of(
            "eager",
            Map.of("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor"),
            "cooperative",
            Map.of("partition.assignment.strategy",
                    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
            "consumer",
            Map.of("group.protocol", "consumer"));

    private final Session session;
    private final Checks checks;

    Groups(Session session, Checks checks) {
        this.session = session;
        this.checks = checks;
    }

    void run() {
        List<Thread> running = new ArrayList<>();
        PROTOCOLS.forEach((protocol, config) -> {
            if (protocol.equals("consumer")
                    && !session.advertised().contains(Advertised.CONSUMER_GROUP_HEARTBEAT)) {
                checks.skip("groups: consumer", "the broker does not advertise ConsumerGroupHeartbeat");
                return;
            }
            Thread thread = new Thread(() -> runProtocol(protocol, config), protocol);
            thread.start();
            running.add(thread);
        });
        for (Thread thread : running) {
            try {
                thread.join();
            } catch (InterruptedException interrupted) {
                throw new IllegalStateException(interrupted);
            }
        }
        checks.check("groups: a static member comes back without a rebalance", this::staticMember);
    }

    private void runProtocol(String protocol, Map<String, Object> config) {
        String topic = session.name("group-" + protocol);
        Map<String, Object> member = new HashMap<>(config);
        member.put("group.id", topic);
        if (!protocol.equals("consumer")) {
            // The broker decides both under the consumer protocol, and the client refuses them.
            member.put("session.timeout.ms", "15000");
            member.put("heartbeat.interval.ms", "500");
        }
        GroupLedger ledger = new GroupLedger();
        checks.check("groups: " + protocol + ": rebalance while records flow",
                () -> rebalance(topic, member, ledger));
        checks.check("groups: " + protocol + ": every record handled, no partition owned twice",
                ledger::verify);
        checks.check("groups: " + protocol + ": committed offsets reach the end",
                () -> committed(topic));
        checks.check("groups: " + protocol + ": resumes where it stopped",
                () -> resume(topic, member));
    }

    private void rebalance(String topic, Map<String, Object> config, GroupLedger ledger) throws Exception {
        session.createTopic(topic, PARTITIONS, Map.of());
        AtomicBoolean enough = new AtomicBoolean();
        Thread producing = new Thread(() -> produceUntil(topic, enough, ledger), topic + "-producer");
        producing.start();
        List<GroupMember> members = new ArrayList<>();
        try {
            for (int i = 0; i < 3; i++) {
                members.add(new GroupMember(topic + "-" + i, session, topic, config, ledger));
                balanced(members);
            }
            members.remove(0).leave();
            balanced(members);
            members.add(new GroupMember(topic + "-3", session, topic, config, ledger));
            balanced(members);
            enough.set(true);
            producing.join();
            Checks.eventually("all records handled: " + ledger, PATIENCE, ledger::complete);
        } finally {
            enough.set(true);
            producing.join();
            for (GroupMember member : members) {
                member.leave();
            }
        }
        for (GroupMember member : members) {
            member.rethrow();
        }
    }

    /** All partitions are owned, each member has its share, and each goes on handling records. */
    private static void balanced(List<GroupMember> members) throws Exception {
        Checks.eventually("balance among " + members, PATIENCE, () -> {
            int owned = 0;
            for (GroupMember member : members) {
                member.rethrow();
                int has = member.owned();
                if (has < PARTITIONS / members.size()) {
                    return false;
                }
                owned += has;
            }
            return owned == PARTITIONS;
        });
        for (GroupMember member : members) {
            long handled = member.handled();
            Checks.eventually("progress of " + member, PATIENCE, () -> {
                member.rethrow();
                return member.handled() > handled;
            });
        }
    }

    private void produceUntil(String topic, AtomicBoolean enough, GroupLedger ledger) {
        try (KafkaProducer<byte[], byte[]> producer = session.producer(Map.of())) {
            for (int number = 0; !enough.get(); number++) {
                ledger.produced(send(producer, topic, number));
                Thread.sleep(2);
            }
        } catch (Exception problem) {
            ledger.producerFailed(problem);
        }
    }

    private static TopicPartition send(KafkaProducer<byte[], byte[]> producer, String topic, int number)
            throws Exception {
        int partition = number % PARTITIONS;
        producer.send(new ProducerRecord<>(topic, partition, null, ("record-" + number).getBytes())).get();
        return new TopicPartition(topic, partition);
    }

    private void committed(String topic) throws Exception {
        try (Admin admin = session.admin(); KafkaConsumer<byte[], byte[]> reader = session.consumer(Map.of())) {
            Map<TopicPartition, OffsetAndMetadata> committed =
                    admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
            Checks.same("partitions with a committed offset", PARTITIONS, committed.size());
            reader.endOffsets(committed.keySet()).forEach((partition, end) ->
                    Checks.same("committed offset of " + partition, end, committed.get(partition).offset()));
        }
    }

    /** A new member of the old group gets exactly what was produced since the last commit. */
    private void resume(String topic, Map<String, Object> config) throws Exception {
        int extra = 60;
        try (KafkaProducer<byte[], byte[]> producer = session.producer(Map.of())) {
            for (int number = 0; number < extra; number++) {
                send(producer, topic, number);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(config)) {
            consumer.subscribe(List.of(topic));
            int[] seen = {0};
            Checks.eventually("the new records", PATIENCE, () -> {
                seen[0] += consumer.poll(Duration.ofMillis(200)).count();
                return seen[0] >= extra;
            });
            Checks.same("records after the resume", extra, seen[0] + consumer.poll(Duration.ofMillis(300)).count());
            consumer.commitSync();
        }
    }

    private void staticMember() throws Exception {
        String topic = session.name("group-static");
        session.createTopic(topic, 2, Map.of());
        Map<String, Object> config = Map.of(
                "group.id", topic,
                "group.instance.id", "instance-1",
                "session.timeout.ms", "30000",
                "heartbeat.interval.ms", "500",
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        int before = generation(topic, config);
        // A static member that closes does not leave the group, so its return starts no generation.
        Checks.same("generation", before, generation(topic, config));
        try (Admin admin = session.admin()) {
            String instance = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic)
                    .members().iterator().next().groupInstanceId().orElse("none");
            Checks.same("instance id", "instance-1", instance);
        }
    }

    private int generation(String topic, Map<String, Object> config) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(config)) {
            consumer.subscribe(List.of(topic));
            Checks.eventually("an assignment", PATIENCE, () -> {
                consumer.poll(Duration.ofMillis(100));
                return consumer.assignment().size() == 2;
            });
            return consumer.groupMetadata().generationId();
        }
    }
}
