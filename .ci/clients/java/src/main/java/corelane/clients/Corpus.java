package corelane.clients;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * The records that every client suite writes and reads: a pure function of their number, so that a
 * reader in another language knows them too. See `../README.md` for the rules.
 */
final class Corpus {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int PER_CODEC = 20_000;
    static final int TOTAL = PER_CODEC * CODECS.size();
    static final int PARTITIONS = 6;
    static final long FIRST_TIMESTAMP = 1_700_000_000_000L;

    private static final byte[] PADDING = "corelane ".repeat(40).getBytes(StandardCharsets.UTF_8);

    private Corpus() {}

    static ProducerRecord<byte[], byte[]> record(String topic, int number) {
        return new ProducerRecord<>(
                topic, partition(number), timestamp(number), key(number), value(number), headers(number));
    }

    static int partition(int number) {
        return number % PARTITIONS;
    }

    /** The one offset that a record can have when its partition holds the corpus from the start. */
    static long offset(int number) {
        return number / PARTITIONS;
    }

    static long timestamp(int number) {
        return FIRST_TIMESTAMP + number;
    }

    static byte[] key(int number) {
        return number % 1000 == 7 ? null : ("key-" + number).getBytes(StandardCharsets.UTF_8);
    }

    static byte[] value(int number) {
        if (number % 1000 == 9) {
            return null;
        }
        if (number % 1000 == 11) {
            return new byte[0];
        }
        byte[] head = ("value-" + number + "-").getBytes(StandardCharsets.UTF_8);
        byte[] value = Arrays.copyOf(head, head.length + 100 + number % 150);
        System.arraycopy(PADDING, 0, value, head.length, value.length - head.length);
        return value;
    }

    static RecordHeaders headers(int number) {
        RecordHeaders headers = new RecordHeaders();
        headers.add(header("codec", CODECS.get(number / PER_CODEC)));
        headers.add(header("number", Integer.toString(number)));
        headers.add(header("twice", "a"));
        headers.add(header("twice", "b"));
        return headers;
    }

    private static Header header(String name, String value) {
        return new RecordHeader(name, value.getBytes(StandardCharsets.UTF_8));
    }

    /** Every field of a record that was read; its number follows from partition and offset. */
    static void verify(ConsumerRecord<byte[], byte[]> record) {
        int number = (int) record.offset() * PARTITIONS + record.partition();
        String where = "partition " + record.partition() + " offset " + record.offset() + ": ";
        Checks.that(number < TOTAL, "%sbeyond the corpus", where);
        Checks.that(Arrays.equals(key(number), record.key()), "%skey differs", where);
        Checks.that(Arrays.equals(value(number), record.value()), "%svalue differs", where);
        Checks.same(where + "timestamp", timestamp(number), record.timestamp());
        Checks.same(where + "headers", headers(number), record.headers());
    }
}
