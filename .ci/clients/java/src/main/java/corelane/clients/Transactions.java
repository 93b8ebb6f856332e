package corelane.clients;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;

/** Transactions across partitions and group offsets, seen by both isolation levels. */
final class Transactions {
    private final Session session;
    private final Checks checks;
    private final String topic;

    Transactions(Session session, Checks checks) {
        this.session = session;
        this.checks = checks;
        this.topic = session.name("transactions");
    }

    void run() {
        if (!session.advertised().contains(Advertised.END_TRANSACTION)) {
            checks.skip("transactions", "the broker does not advertise EndTxn");
            return;
        }
        checks.check("transactions: commit and abort", this::commitAndAbort);
        checks.check("transactions: read_committed stops at an open one", this::open);
        checks.check("transactions: group offsets commit with the records", this::offsets);
        checks.check("transactions: the older producer is fenced", this::fenced);
    }

    private KafkaProducer<byte[], byte[]> producer(String id) {
        KafkaProducer<byte[], byte[]> producer = session.producer(Map.of("transactional.id", id));
        producer.initTransactions();
        return producer;
    }

    private void send(KafkaProducer<byte[], byte[]> producer, String value) {
        for (int partition = 0; partition < 2; partition++) {
            producer.send(new ProducerRecord<>(topic, partition, null, value.getBytes()));
        }
    }

    private void commitAndAbort() throws Exception {
        session.createTopic(topic, 2, Map.of());
        try (KafkaProducer<byte[], byte[]> producer = producer(session.name("txn-a"))) {
            for (int round = 0; round < 20; round++) {
                producer.beginTransaction();
                send(producer, (round % 2 == 0 ? "kept-" : "dropped-") + round);
                if (round % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.flush();
                    producer.abortTransaction();
                }
            }
        }
        for (int partition = 0; partition < 2; partition++) {
            List<String> kept = read(partition, "read_committed", 10);
            Checks.same("committed records", 10, kept.size());
            for (int i = 0; i < kept.size(); i++) {
                Checks.same("committed record " + i, "kept-" + 2 * i, kept.get(i));
            }
            Checks.same("all records", 20, read(partition, "read_uncommitted", 20).size());
        }
    }

    private List<String> read(int partition, String isolation, int count) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of("isolation.level", isolation))) {
            TopicPartition source = new TopicPartition(topic, partition);
            consumer.assign(List.of(source));
            consumer.seekToBeginning(List.of(source));
            List<String> values = new ArrayList<>();
            Checks.eventually(count + " records", Duration.ofSeconds(20), () -> {
                collect(consumer, values);
                return values.size() >= count;
            });
            collect(consumer, values);
            return values;
        }
    }

    private static void collect(KafkaConsumer<byte[], byte[]> consumer, List<String> values) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
            values.add(new String(record.value()));
        }
    }

    private void open() throws Exception {
        TopicPartition source = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> open = producer(session.name("txn-open"));
                KafkaProducer<byte[], byte[]> plain = session.producer(Map.of());
                KafkaConsumer<byte[], byte[]> committed =
                        session.consumer(Map.of("isolation.level", "read_committed"))) {
            long stable = committed.endOffsets(List.of(source)).get(source);
            open.beginTransaction();
            send(open, "late");
            open.flush();
            plain.send(new ProducerRecord<>(topic, 0, null, "after".getBytes())).get();
            Checks.same("last stable offset", stable, committed.endOffsets(List.of(source)).get(source));
            open.commitTransaction();
            List<String> kept = read(0, "read_committed", 12);
            Checks.same("the last two", List.of("late", "after"), kept.subList(10, kept.size()));
        }
    }

    private void offsets() throws Exception {
        String group = session.name("txn-group");
        TopicPartition source = new TopicPartition(topic, 0);
        ConsumerGroupMetadata member = new ConsumerGroupMetadata(group);
        try (KafkaProducer<byte[], byte[]> producer = producer(session.name("txn-b"));
                Admin admin = session.admin()) {
            producer.beginTransaction();
            send(producer, "with-offset");
            producer.sendOffsetsToTransaction(Map.of(source, new OffsetAndMetadata(7)), member);
            producer.commitTransaction();
            // The markers of a committed transaction are written after its answer.
            Checks.eventually("committed offset 7", Duration.ofSeconds(10),
                    () -> committed(admin, group, source) == 7);
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(source, new OffsetAndMetadata(9)), member);
            producer.abortTransaction();
            Checks.same("offset after an abort", 7L, committed(admin, group, source));
        }
    }

    private static long committed(Admin admin, String group, TopicPartition partition) throws Exception {
        var options = new org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions().requireStable(true);
        OffsetAndMetadata found = admin.listConsumerGroupOffsets(group, options)
                .partitionsToOffsetAndMetadata().get().get(partition);
        return found == null ? -1 : found.offset();
    }

    private void fenced() throws Exception {
        String id = session.name("txn-c");
        try (KafkaProducer<byte[], byte[]> older = producer(id)) {
            older.beginTransaction();
            send(older, "never");
            older.flush();
            try (KafkaProducer<byte[], byte[]> newer = producer(id)) {
                newer.beginTransaction();
                send(newer, "newer");
                newer.commitTransaction();
            }
            try {
                send(older, "never");
                older.commitTransaction();
                throw new AssertionError("the older producer could commit");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                // Which of the two depends on whether its produce or its commit was refused first.
            }
        }
        Checks.that(!read(1, "read_committed", 13).contains("never"), "an aborted record was read");
    }
}
