"""The whole corpus through librdkafka's idempotent producer, read back and sought by time."""

import time

from confluent_kafka import OFFSET_BEGINNING, KafkaException, Producer, TopicPartition

import corpus
from checks import same, that
from librdkafka_groups import create_topic, once_led


class Content:
    def __init__(self, session, checks):
        self._session = session
        self._checks = checks
        self._topic = session.name("content")

    def run(self):
        self._checks.run("content: create topic", self._create)
        for codec in corpus.CODECS:
            self._checks.run(f"content: produce {codec}", self._produce, codec)
        self._checks.run("content: every record once, in order, unchanged", self._consume)
        self._checks.run("content: earliest and latest offsets", self._ends)
        self._checks.run("content: offsets for times", self._times)

    def _create(self):
        # The corpus is dated in the past, so retention by time would take it away.
        create_topic(self._session, self._topic, corpus.PARTITIONS, {"retention.ms": "-1"})

    def _produce(self, codec):
        producer = Producer(self._session.config({
            "enable.idempotence": True,
            "compression.type": codec,
            "linger.ms": 5,
            "queue.buffering.max.messages": 2 * corpus.PER_CODEC,
        }))
        problems = []
        first = corpus.CODECS.index(codec) * corpus.PER_CODEC
        for number in range(first, first + corpus.PER_CODEC):
            producer.produce(
                self._topic,
                partition=corpus.partition(number),
                timestamp=corpus.timestamp(number),
                key=corpus.key(number),
                value=corpus.value(number),
                headers=corpus.headers(number),
                on_delivery=_expect(corpus.offset(number), problems),
            )
            if number % 500 == 0:
                producer.poll(0)
        same("records without an answer", 0, producer.flush(60))
        that(not problems, f"{len(problems)} problems, the first: {problems[:1]}")

    def _partitions(self, offset):
        return [TopicPartition(self._topic, p, offset) for p in range(corpus.PARTITIONS)]

    def _consume(self):
        consumer = self._session.consumer()
        try:
            consumer.assign(self._partitions(OFFSET_BEGINNING))
            following = [0] * corpus.PARTITIONS
            deadline = time.monotonic() + 60
            while sum(following) < corpus.TOTAL:
                that(time.monotonic() < deadline, f"only {sum(following)} records within 60 s")
                for message in consumer.consume(5000, timeout=0.5):
                    self._verify(message, following)
            same("records after the last one", [], consumer.consume(1, timeout=0.3))
        finally:
            consumer.close()

    @staticmethod
    def _verify(message, following):
        if message.error():
            raise KafkaException(message.error())
        partition = message.partition()
        same(f"next offset of partition {partition}", following[partition], message.offset())
        following[partition] += 1
        corpus.verify(
            partition,
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers(),
        )

    def _ends(self):
        consumer = self._session.consumer()
        try:
            for partition in self._partitions(0):
                low, high = once_led(lambda: consumer.get_watermark_offsets(partition, timeout=10))
                same(f"earliest of {partition}", 0, low)
                same(f"latest of {partition}", corpus.length(partition.partition), high)
        finally:
            consumer.close()

    def _times(self):
        consumer = self._session.consumer()
        try:
            for wanted in [0, 1, 19_999, 20_000, 43_210, 77_777, corpus.TOTAL - 1, corpus.TOTAL]:
                self._times_from(consumer, wanted)
            self._read_from(consumer, 43_210)
        finally:
            consumer.close()

    def _times_from(self, consumer, wanted):
        query = self._partitions(corpus.FIRST_TIMESTAMP + wanted)
        for found in _offsets_for_times(consumer, query):
            number = wanted
            while corpus.partition(number) != found.partition:
                number += 1
            # librdkafka answers -1, its "end", where no record is that late.
            expected = corpus.offset(number) if number < corpus.TOTAL else -1
            same(f"record at or after {wanted} in {found.partition}", expected, found.offset)

    def _read_from(self, consumer, wanted):
        partition = corpus.partition(wanted)
        start = TopicPartition(self._topic, partition, corpus.timestamp(wanted))
        [found] = _offsets_for_times(consumer, [start])
        consumer.assign([found])
        [message] = consumer.consume(1, timeout=10)
        following = [0] * corpus.PARTITIONS
        following[partition] = corpus.offset(wanted)
        self._verify(message, following)


def _offsets_for_times(consumer, query):
    def ask():
        answer = consumer.offsets_for_times(query, timeout=10)
        for found in answer:
            if found.error is not None:
                raise KafkaException(found.error)
        return answer

    return once_led(ask)


def _expect(offset, problems):
    def on_delivery(error, message):
        if error is not None:
            problems.append(str(error))
        elif message.offset() != offset:
            problems.append(f"offset {message.offset()} instead of {offset}")

    return on_delivery
