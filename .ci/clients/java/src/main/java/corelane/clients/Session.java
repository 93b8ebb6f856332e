package corelane.clients;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** One run against one broker: opens clients, and gives names that no earlier run has used. */
record Session(String bootstrap, String run, Set<Integer> advertised) {
    String name(String purpose) {
        return "java-" + purpose + "-" + run;
    }

    Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", "30000"));
    }

    /** Creates a topic and waits until the broker that serves it has heard of it. */
    void createTopic(String topic, int partitions, Map<String, String> configs) throws Exception {
        try (Admin admin = admin()) {
            NewTopic wanted = new NewTopic(topic, partitions, replication()).configs(configs);
            admin.createTopics(List.of(wanted)).all().get();
            visible(admin, topic, partitions);
        }
    }

    /** What a topic gets: REPLICATION, or 1. */
    private static short replication() {
        return Short.parseShort(System.getenv().getOrDefault("REPLICATION", "1"));
    }

    static void visible(Admin admin, String topic, int partitions) throws Exception {
        Checks.eventually(topic + " in the metadata", Duration.ofSeconds(30), () -> {
            try {
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic)
                        .partitions().size() == partitions;
            } catch (ExecutionException problem) {
                if (problem.getCause() instanceof UnknownTopicOrPartitionException) {
                    return false;
                }
                throw problem;
            }
        });
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, Object> extra) {
        Map<String, Object> config = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap,
                "acks", "all",
                "enable.idempotence", "true",
                "linger.ms", "5",
                "delivery.timeout.ms", "60000"));
        config.putAll(extra);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> extra) {
        Map<String, Object> config = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap,
                "enable.auto.commit", "false",
                "auto.offset.reset", "earliest"));
        config.putAll(extra);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }
}
