package corelane.clients;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;

/** Consumers with client.rack read from the replica in their rack (KIP-392); nodes need racks, each its own. */
final class Racks {
    private static final int PARTITIONS = 6;
    private static final int RECORDS = 20_000;
    private static final int VALUE_BYTES = 1_000;

    private final Session session;
    private final Checks checks;
    private final String topic;
    private List<Node> nodes;

    Racks(Session session, Checks checks) {
        this.session = session;
        this.checks = checks;
        this.topic = session.name("racks");
    }

    void run() {
        checks.check("racks: a topic on all nodes", this::create);
        checks.check("racks: produce", () -> produce(0, RECORDS));
        if (nodes == null) {
            return;
        }
        for (Node near : nodes) {
            checks.check("racks: the bulk comes from node " + near.id(), () -> readNear(near));
        }
        checks.check("racks: without a rack the leaders serve", this::readFromLeaders);
    }

    private List<TopicPartition> partitions() {
        return IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList();
    }

    private void create() throws Exception {
        try (Admin admin = session.admin()) {
            List<Node> found = List.copyOf(admin.describeCluster().nodes().get());
            Checks.that(found.size() >= 3, "three nodes are needed, not %d", found.size());
            long racks = found.stream().map(Node::rack).distinct().filter(rack -> rack != null).count();
            Checks.same("racks", (long) found.size(), racks);
            NewTopic wanted = new NewTopic(topic, PARTITIONS, (short) found.size());
            admin.createTopics(List.of(wanted)).all().get();
            Session.visible(admin, topic, PARTITIONS);
            nodes = found;
        }
    }

    /** Values that do not compress, so that bytes on the wire can be counted. */
    private void produce(int first, int end) throws Exception {
        Random random = new Random(first);
        try (KafkaProducer<byte[], byte[]> producer = session.producer(Map.of())) {
            List<Future<RecordMetadata>> answers = new ArrayList<>();
            for (int number = first; number < end; number++) {
                byte[] value = new byte[VALUE_BYTES];
                random.nextBytes(value);
                answers.add(producer.send(new ProducerRecord<>(topic, number % PARTITIONS, null, value)));
            }
            for (Future<RecordMetadata> answer : answers) {
                answer.get();
            }
        }
    }

    private void readNear(Node near) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of("client.rack", near.rack()))) {
            Map<Integer, Long> ends = read(consumer);
            double total = bytesFrom(consumer, nodes);
            double there = bytesFrom(consumer, List.of(near));
            Checks.that(there >= 0.9 * total, "%.0f of %.0f bytes came from node %d", there, total, near.id());
            // What comes in meanwhile comes from there too, and soon.
            int more = 10 * PARTITIONS;
            produce(0, more);
            int[] seen = {0};
            Checks.eventually("new records", Duration.ofSeconds(30), () -> {
                seen[0] += take(consumer, ends);
                return seen[0] >= more;
            });
            double others = bytesFrom(consumer, nodes) - bytesFrom(consumer, List.of(near));
            Checks.that(others <= 0.1 * total, "%.0f bytes came from other nodes", others);
        }
    }

    private void readFromLeaders() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of())) {
            read(consumer);
            long leaders = consumer.partitionsFor(topic).stream().map(info -> info.leader().id()).distinct().count();
            double total = bytesFrom(consumer, nodes);
            long serving = nodes.stream().filter(node -> bytesFrom(consumer, List.of(node)) > 0.1 * total).count();
            Checks.same("nodes that served", leaders, serving);
        }
    }

    /** Reads what was produced at first from the beginning, and gives the next offset of each partition. */
    private Map<Integer, Long> read(KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        consumer.assign(partitions());
        consumer.seekToBeginning(partitions());
        Map<Integer, Long> next = new HashMap<>();
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions());
        long wanted = ends.values().stream().mapToLong(Long::longValue).sum();
        long[] seen = {0};
        Checks.eventually("all records read", Duration.ofSeconds(60), () -> {
            seen[0] += take(consumer, next);
            return seen[0] >= wanted;
        });
        return next;
    }

    /** One poll; records come without a gap. */
    private static int take(KafkaConsumer<byte[], byte[]> consumer, Map<Integer, Long> next) {
        int count = 0;
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
            long expected = next.getOrDefault(record.partition(), 0L);
            Checks.same("next offset of partition " + record.partition(), expected, record.offset());
            next.put(record.partition(), expected + 1);
            count++;
        }
        return count;
    }

    /** Bytes that came from these nodes, by the consumer's own count. */
    private static double bytesFrom(KafkaConsumer<byte[], byte[]> consumer, Collection<Node> nodes) {
        List<String> wanted = nodes.stream().map(node -> "node-" + node.id()).toList();
        return consumer.metrics().entrySet().stream()
                .filter(metric -> metric.getKey().name().equals("incoming-byte-total"))
                .filter(metric -> wanted.contains(metric.getKey().tags().get("node-id")))
                .mapToDouble(metric -> (Double) metric.getValue().metricValue())
                .sum();
    }
}
