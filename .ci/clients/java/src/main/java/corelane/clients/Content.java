package corelane.clients;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** The whole corpus through an idempotent producer in all codecs, read back and sought by time. */
final class Content {
    private final Session session;
    private final Checks checks;
    private final String topic;

    Content(Session session, Checks checks) {
        this.session = session;
        this.checks = checks;
        this.topic = session.name("content");
    }

    void run() {
        checks.check("content: create topic", this::create);
        for (String codec : Corpus.CODECS) {
            checks.check("content: produce " + codec, () -> produce(codec));
        }
        checks.check("content: every record once, in order, unchanged", this::consume);
        checks.check("content: earliest and latest offsets", this::ends);
        checks.check("content: offsets for times", this::times);
    }

    private List<TopicPartition> partitions() {
        return IntStream.range(0, Corpus.PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList();
    }

    private void create() throws Exception {
        // The corpus is dated in the past, so retention by time would take it away.
        session.createTopic(topic, Corpus.PARTITIONS, Map.of("retention.ms", "-1"));
    }

    private void produce(String codec) throws Exception {
        int first = Corpus.CODECS.indexOf(codec) * Corpus.PER_CODEC;
        try (KafkaProducer<byte[], byte[]> producer = session.producer(Map.of("compression.type", codec))) {
            List<Future<RecordMetadata>> answers = new ArrayList<>(Corpus.PER_CODEC);
            for (int number = first; number < first + Corpus.PER_CODEC; number++) {
                answers.add(producer.send(Corpus.record(topic, number)));
            }
            producer.flush();
            for (int i = 0; i < answers.size(); i++) {
                RecordMetadata answer = answers.get(i).get();
                Checks.same("offset of record " + (first + i), Corpus.offset(first + i), answer.offset());
            }
        }
    }

    private void consume() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of())) {
            consumer.assign(partitions());
            consumer.seekToBeginning(partitions());
            Map<Integer, Long> next = new HashMap<>();
            int[] seen = {0};
            Checks.eventually("all records read", Duration.ofSeconds(60), () -> {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    long expected = next.getOrDefault(record.partition(), 0L);
                    Checks.same("next offset of partition " + record.partition(), expected, record.offset());
                    Corpus.verify(record);
                    next.put(record.partition(), expected + 1);
                    seen[0]++;
                }
                return seen[0] >= Corpus.TOTAL;
            });
            Checks.same("records after the last one", 0, consumer.poll(Duration.ofMillis(300)).count());
        }
    }

    /** How many records of the corpus a partition holds. */
    private static long length(int partition) {
        return (Corpus.TOTAL - partition + Corpus.PARTITIONS - 1) / Corpus.PARTITIONS;
    }

    private void ends() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of())) {
            Map<TopicPartition, Long> earliest = consumer.beginningOffsets(partitions());
            Map<TopicPartition, Long> latest = consumer.endOffsets(partitions());
            for (TopicPartition partition : partitions()) {
                Checks.same("earliest of " + partition, 0L, earliest.get(partition));
                Checks.same("latest of " + partition, length(partition.partition()), latest.get(partition));
            }
        }
    }

    private void times() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = session.consumer(Map.of("max.poll.records", "1"))) {
            for (int wanted : new int[] {-5, 0, 1, 19_999, 20_000, 43_210, 77_777, Corpus.TOTAL - 1}) {
                timesFrom(consumer, wanted);
            }
            Map<TopicPartition, Long> query = new HashMap<>();
            partitions().forEach(partition -> query.put(partition, Corpus.timestamp(Corpus.TOTAL)));
            consumer.offsetsForTimes(query).forEach((partition, found) ->
                    Checks.same("offset after the last time in " + partition, null, found));
        }
    }

    private void timesFrom(KafkaConsumer<byte[], byte[]> consumer, int wanted) throws Exception {
        Map<TopicPartition, Long> query = new HashMap<>();
        partitions().forEach(partition -> query.put(partition, Corpus.FIRST_TIMESTAMP + wanted));
        Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(query);
        for (TopicPartition partition : partitions()) {
            int number = Math.max(wanted, 0);
            while (Corpus.partition(number) != partition.partition()) {
                number++;
            }
            String what = "record at or after " + wanted + " in " + partition;
            if (number >= Corpus.TOTAL) {
                Checks.same(what, null, found.get(partition));
                continue;
            }
            Checks.that(found.get(partition) != null, "%s: none", what);
            Checks.same(what, Corpus.offset(number), found.get(partition).offset());
            Checks.same(what + " (time)", Corpus.timestamp(number), found.get(partition).timestamp());
        }
        readFrom(consumer, wanted, found);
    }

    /** Seeking to what offsetsForTimes gave must deliver exactly that record first. */
    private void readFrom(
            KafkaConsumer<byte[], byte[]> consumer, int wanted, Map<TopicPartition, OffsetAndTimestamp> found)
            throws Exception {
        TopicPartition partition = new TopicPartition(topic, Corpus.partition(Math.max(wanted, 0)));
        consumer.assign(List.of(partition));
        consumer.seek(partition, found.get(partition).offset());
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        Checks.eventually("a record after the seek", Duration.ofSeconds(10), () -> {
            consumer.poll(Duration.ofMillis(200)).forEach(read::add);
            return !read.isEmpty();
        });
        Checks.same("offset read after the seek", found.get(partition).offset(), read.get(0).offset());
        Corpus.verify(read.get(0));
    }
}
