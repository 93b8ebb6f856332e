package corelane.clients;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** A consumer on a thread of its own that reports to the ledger and commits before it lets go. */
final class GroupMember implements ConsumerRebalanceListener {
    private final String name;
    private final GroupLedger ledger;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Thread thread;
    private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new java.util.HashMap<>();
    private volatile boolean leaving;
    private volatile int owned;
    private volatile long handled;
    private volatile Exception problem;

    GroupMember(String name, Session session, String topic, Map<String, Object> config, GroupLedger ledger) {
        this.name = name;
        this.ledger = ledger;
        this.consumer = session.consumer(config);
        this.thread = new Thread(() -> run(topic), name);
        thread.start();
    }

    int owned() {
        return owned;
    }

    long handled() {
        return handled;
    }

    void rethrow() throws Exception {
        if (problem != null) {
            throw new IllegalStateException(name, problem);
        }
    }

    void leave() throws InterruptedException {
        leaving = true;
        thread.join();
    }

    private void run(String topic) {
        try (consumer) {
            consumer.subscribe(List.of(topic), this);
            while (!leaving) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                    handle(record);
                }
                commitIfPossible();
            }
        } catch (Exception caught) {
            problem = caught;
        }
    }

    private void handle(ConsumerRecord<byte[], byte[]> record) {
        TopicPartition partition = new TopicPartition(record.topic(), record.partition());
        ledger.handled(name, partition, record.offset());
        uncommitted.put(partition, new OffsetAndMetadata(record.offset() + 1));
        handled++;
    }

    private void commitIfPossible() {
        try {
            commit();
        } catch (RebalanceInProgressException rebalancing) {
            // The offsets stay in `uncommitted` and go out at the revocation or after the next poll.
        }
    }

    private void commit() {
        if (!uncommitted.isEmpty()) {
            consumer.commitSync(uncommitted);
            uncommitted.clear();
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions.forEach(partition -> ledger.assigned(name, partition));
        owned += partitions.size();
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit();
        onPartitionsLost(partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        partitions.forEach(partition -> ledger.released(name, partition));
        owned -= partitions.size();
    }

    @Override
    public String toString() {
        return name + " with " + owned + " partitions";
    }
}
