"""kafka-python, which speaks the protocol in Python alone: the corpus, and what `groups` needs."""

import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    CommitFailedError,
    KafkaConnectionError,
    RebalanceInProgressError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

import corpus
from checks import eventually, same

# How long a node may be away.
PATIENCE = 30

CLASSIC = {"session_timeout_ms": 15000, "heartbeat_interval_ms": 500}
PROTOCOLS = {
    "eager": {"partition_assignment_strategy": [RangePartitionAssignor], **CLASSIC},
    "cooperative": {"partition_assignment_strategy": [CooperativeStickyAssignor], **CLASSIC},
}


def create_topic(session, topic, partitions, configs=None):
    options = {"num_partitions": partitions, "replication_factor": session.replication, "configs": configs or {}}
    lost = False

    def create():
        nonlocal lost
        try:
            admin = KafkaAdminClient(bootstrap_servers=session.bootstrap)
            try:
                admin.create_topics({topic: options}, wait_for_metadata=True)
            finally:
                admin.close()
        except TopicAlreadyExistsError:
            if not lost:
                raise
        except KafkaConnectionError:
            # A node that is killed takes the answer with it, and the topic may be there.
            lost = True
            raise

    again(create)
    if lost:
        consumer = consumer_of(session)
        try:
            eventually("the new topic in the metadata", PATIENCE,
                       lambda: len(consumer.partitions_for_topic(topic) or ()) == partitions)
        finally:
            consumer.close()


def consumer_of(session, **config):
    return KafkaConsumer(
        bootstrap_servers=session.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **config,
    )


class Content:
    """The whole corpus through an idempotent producer, read back and sought by time."""

    def __init__(self, session, checks):
        self._session = session
        self._checks = checks
        self._topic = session.name("content")

    def run(self):
        # The corpus is dated in the past, so retention by time would take it away.
        self._checks.run("content: create topic", create_topic, self._session, self._topic,
                         corpus.PARTITIONS, {"retention.ms": "-1"})
        for codec in corpus.CODECS:
            self._checks.run(f"content: produce {codec}", self._produce, codec)
        self._checks.run("content: every record once, in order, unchanged", self._consume)
        self._checks.run("content: earliest and latest offsets", self._ends)
        self._checks.run("content: offsets for times", self._times)

    def _produce(self, codec):
        producer = KafkaProducer(
            bootstrap_servers=self._session.bootstrap,
            enable_idempotence=True,
            compression_type=None if codec == "none" else codec,
            linger_ms=20,
            batch_size=64 * 1024,
        )
        first = corpus.CODECS.index(codec) * corpus.PER_CODEC
        answers = [
            producer.send(
                self._topic,
                partition=corpus.partition(number),
                timestamp_ms=corpus.timestamp(number),
                key=corpus.key(number),
                value=corpus.value(number),
                headers=corpus.headers(number),
            )
            for number in range(first, first + corpus.PER_CODEC)
        ]
        producer.flush(timeout=60)
        for index, answer in enumerate(answers):
            same("offset", corpus.offset(first + index), answer.get(timeout=10).offset)
        producer.close()

    def _partitions(self):
        return [TopicPartition(self._topic, p) for p in range(corpus.PARTITIONS)]

    def _consume(self):
        consumer = consumer_of(self._session)
        consumer.assign(self._partitions())
        consumer.seek_to_beginning()
        following = [0] * corpus.PARTITIONS

        def all_read():
            for partition, records in consumer.poll(500, max_records=5000).items():
                for record in records:
                    self._verify(record, following)
            return sum(following) >= corpus.TOTAL

        eventually("all records read", 80, all_read)
        same("records after the last one", {}, consumer.poll(300))
        consumer.close()

    @staticmethod
    def _verify(record, following):
        same(f"next offset of {record.partition}", following[record.partition], record.offset)
        following[record.partition] += 1
        corpus.verify(record.partition, record.offset, record.timestamp, record.key, record.value,
                      list(record.headers))

    def _ends(self):
        consumer = consumer_of(self._session)
        earliest = again(consumer.beginning_offsets, self._partitions())
        latest = again(consumer.end_offsets, self._partitions())
        for partition in self._partitions():
            same(f"earliest of {partition}", 0, earliest[partition])
            same(f"latest of {partition}", corpus.length(partition.partition), latest[partition])
        consumer.close()

    def _times(self):
        consumer = consumer_of(self._session)
        for wanted in [0, 1, 19_999, 20_000, 43_210, 77_777, corpus.TOTAL - 1, corpus.TOTAL]:
            query = dict.fromkeys(self._partitions(), corpus.FIRST_TIMESTAMP + wanted)
            expected = {partition: self._at(wanted, partition.partition) for partition in query}
            actual = again(self._offsets_for_times, consumer, query, expected)
            same(f"records at or after {wanted}", expected, actual)
        consumer.close()

    @staticmethod
    def _at(number, partition):
        """Offset and time of the first record of the partition that is not before the number."""
        while corpus.partition(number) != partition:
            number += 1
        return (corpus.offset(number), corpus.timestamp(number)) if number < corpus.TOTAL else None

    @staticmethod
    def _offsets_for_times(consumer, query, expected):
        answer = {}
        for partition, found in consumer.offsets_for_times(query).items():
            if found is None and expected[partition] is not None:
                raise KeyError(partition)  # It says the same of one without a leader: see `again`.
            answer[partition] = found and (found.offset, found.timestamp)
        return answer


def again(call, *arguments):
    """A node that does not run may refuse: kafka-python 3.0 tries again by itself, but for the metadata
    that it asks for while it looks for a coordinator (coordinator/base.py). That failure is the caller's.
    And it asks for no offset of a partition that has no leader at that moment, leaves it out of what it
    found, and stumbles over that (consumer/fetcher.py)."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call(*arguments)
        except (KafkaConnectionError, KeyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Producer:
    def __init__(self, session):
        self._producer = KafkaProducer(bootstrap_servers=session.bootstrap, enable_idempotence=True)

    def send(self, topic, partition, value, on_delivered):
        answer = self._producer.send(topic, value, partition=partition)
        answer.add_callback(lambda record: on_delivered(record.partition))

    def close(self):
        self._producer.flush(timeout=30)
        self._producer.close()


def committed(session, group, partitions):
    """Partition, committed offset and end offset of each partition."""
    consumer = consumer_of(session, group_id=group)
    wanted = [TopicPartition(group, p) for p in range(partitions)]
    ends = again(consumer.end_offsets, wanted)
    for partition in wanted:
        yield partition.partition, again(consumer.committed, partition), ends[partition]
    consumer.close()


def resumed(session, topic, config, count, patience):
    """What a new member of the group reads: so many values, and whatever else comes at once."""
    consumer = consumer_of(session, group_id=topic, **config)
    consumer.subscribe([topic])
    values = []

    def read(wait_ms):
        for records in again(consumer.poll, wait_ms).values():
            values.extend(record.value for record in records)
        return len(values) >= count

    eventually("the new records", patience, lambda: read(200))
    read(300)
    again(consumer.commit)
    consumer.close()
    return values


class Member(ConsumerRebalanceListener):
    """A consumer on a thread of its own that commits before it lets a partition go."""

    def __init__(self, name, session, topic, config, ledger):
        self.name = name
        self.owned = 0
        self.count = 0
        self.problem = None
        self._ledger = ledger
        self._leaving = threading.Event()
        self._uncommitted = {}
        self._consumer = consumer_of(session, group_id=topic, **config)
        self._consumer.subscribe([topic], listener=self)
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def leave(self):
        self._leaving.set()
        self._thread.join()
        self.rethrow()

    def rethrow(self):
        if self.problem is not None:
            raise RuntimeError(f"{self.name}: {self.problem!r}")

    def _run(self):
        try:
            while not self._leaving.is_set():
                for partition, records in again(self._consumer.poll, 100).items():
                    for record in records:
                        self._handle(partition, record)
                self._commit_if_possible()
            self._commit()
        except Exception as problem:
            self.problem = problem
        finally:
            self._consumer.close()

    def _handle(self, partition, record):
        self._ledger.handled(self.name, record.partition, record.offset)
        self._uncommitted[partition] = OffsetAndMetadata(record.offset + 1, "", -1)
        self.count += 1

    def _commit_if_possible(self):
        try:
            self._commit()
        except (CommitFailedError, RebalanceInProgressError):
            pass  # the offsets stay and go out at the revocation or the next time

    def _commit(self):
        if self._uncommitted:
            again(self._consumer.commit, self._uncommitted)
            for partition, taken in self._uncommitted.items():
                self._ledger.committed(partition.partition, taken.offset)
            self._uncommitted = {}

    def on_partitions_assigned(self, assigned):
        for partition in assigned:
            self._ledger.assigned(self.name, partition.partition)
        self.owned += len(assigned)

    def on_partitions_revoked(self, revoked):
        self._commit()
        self.on_partitions_lost(revoked)

    def on_partitions_lost(self, lost):
        for partition in lost:
            # Committed later from here, it would undo what the next owner has committed meanwhile.
            self._uncommitted.pop(partition, None)
            self._ledger.released(self.name, partition.partition)
        self.owned -= len(lost)
