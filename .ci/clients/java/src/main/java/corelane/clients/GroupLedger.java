package corelane.clients;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.TopicPartition;

/** What a group was given, who owned it and what it handled: the facts that its members report. */
final class GroupLedger {
    private final Map<TopicPartition, Long> produced = new HashMap<>();
    private final Map<TopicPartition, Long> next = new HashMap<>();
    private final Map<TopicPartition, String> owners = new HashMap<>();
    private final List<String> violations = new ArrayList<>();

    synchronized void produced(TopicPartition partition) {
        produced.merge(partition, 1L, Long::sum);
    }

    synchronized void producerFailed(Exception problem) {
        violations.add("producer: " + problem);
    }

    synchronized void assigned(String member, TopicPartition partition) {
        String owner = owners.put(partition, member);
        if (owner != null && !owner.equals(member)) {
            violations.add(partition + " given to " + member + " while " + owner + " owned it");
        }
    }

    synchronized void released(String member, TopicPartition partition) {
        owners.remove(partition, member);
    }

    /** Members commit before they let go, so even across rebalances each record comes once. */
    synchronized void handled(String member, TopicPartition partition, long offset) {
        long expected = next.getOrDefault(partition, 0L);
        if (offset != expected) {
            violations.add(member + " got offset " + offset + " of " + partition + " instead of " + expected);
        }
        next.put(partition, Math.max(expected, offset + 1));
    }

    synchronized boolean complete() {
        return next.equals(produced);
    }

    synchronized void verify() {
        Checks.that(!produced.isEmpty(), "nothing was produced");
        Checks.same("handled up to", produced, next);
        Checks.that(violations.isEmpty(), "%d violations, the first: %s", violations.size(),
                violations.isEmpty() ? "" : violations.get(0));
    }

    @Override
    public synchronized String toString() {
        return "produced " + produced + ", handled " + next;
    }
}
