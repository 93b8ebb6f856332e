"""What `groups` needs of a client, in librdkafka's words."""

import threading
import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka.admin import AdminClient, NewTopic

from checks import eventually, same

CLASSIC = {"session.timeout.ms": 15000, "heartbeat.interval.ms": 500}
PROTOCOLS = {
    "eager": {"partition.assignment.strategy": "range", **CLASSIC},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", **CLASSIC},
    "consumer": {"group.protocol": "consumer"},
}


def create_topic(session, topic, partitions, configs=None):
    """Creates a topic and waits until the broker that serves it has heard of it."""
    admin = AdminClient(session.config())
    wanted = NewTopic(topic, partitions, session.replication, config=configs or {})
    deadline = time.monotonic() + 30
    lost = False
    while True:
        try:
            admin.create_topics([wanted])[topic].result(30)
            break
        except KafkaException as problem:
            # librdkafka asks once: a node that is killed takes the answer with it, and the topic may be there.
            name = problem.args[0].name()
            if name == "TOPIC_ALREADY_EXISTS" and lost:
                break
            if name != "_TRANSPORT" or time.monotonic() > deadline:
                raise
            lost = True
            time.sleep(0.1)

    def visible():
        found = admin.list_topics(topic, timeout=10).topics[topic]
        return found.error is None and len(found.partitions) == partitions

    eventually("the new topic in the metadata", 30, visible)


class Producer:
    def __init__(self, session):
        config = session.config({"enable.idempotence": True, "linger.ms": 0})
        self._producer = ConfluentProducer(config)

    def send(self, topic, partition, value, on_delivered):
        def on_delivery(error, message):
            if error is None:
                on_delivered(message.partition())

        self._producer.produce(topic, value, partition=partition, on_delivery=on_delivery)
        self._producer.poll(0)

    def close(self):
        same("records without an answer", 0, self._producer.flush(30))


def once_led(ask):
    """librdkafka asks for offsets once, and calls a partition unknown that has no leader at that moment, as
    while a lead changes."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask()
        except KafkaException as problem:
            if problem.args[0].name() != "_UNKNOWN_PARTITION" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def committed(session, group, partitions):
    """Partition, committed offset and end offset of each partition."""
    consumer = session.consumer({"group.id": group})
    try:
        wanted = [TopicPartition(group, p) for p in range(partitions)]
        for at in consumer.committed(wanted, timeout=10):
            _, end = once_led(lambda: consumer.get_watermark_offsets(at, timeout=10))
            yield at.partition, at.offset, end
    finally:
        consumer.close()


def resumed(session, topic, config, count, patience):
    """What a new member of the group reads: so many values, and whatever else comes at once."""
    consumer = session.consumer({"group.id": topic, **config})
    try:
        consumer.subscribe([topic])
        seen = []
        eventually("the new records", patience,
                   lambda: seen.extend(consumer.consume(100, timeout=0.2)) or len(seen) >= count)
        seen.extend(consumer.consume(1, timeout=0.3))
        consumer.commit(asynchronous=False)
        return [message.value() for message in seen]
    finally:
        consumer.close()


class Member:
    """A consumer on a thread of its own that commits before it lets a partition go."""

    def __init__(self, name, session, topic, config, ledger):
        self.name = name
        self.owned = 0
        self.count = 0
        self.problem = None
        self._ledger = ledger
        self._leaving = threading.Event()
        self._uncommitted = {}
        self._topic = topic
        self._consumer = session.consumer({"group.id": topic, **config})
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def leave(self):
        self._leaving.set()
        self._thread.join()
        self.rethrow()

    def rethrow(self):
        if self.problem is not None:
            raise RuntimeError(f"{self.name}: {self.problem}")

    def _run(self):
        try:
            self._consumer.subscribe(
                [self._topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._leaving.is_set():
                for message in self._consumer.consume(100, timeout=0.1):
                    self._handle(message)
                self._commit_if_possible()
        except Exception as problem:
            self.problem = problem
        finally:
            self._consumer.close()

    def _handle(self, message):
        if message.error():
            raise KafkaException(message.error())
        self._ledger.handled(self.name, message.partition(), message.offset())
        self._uncommitted[message.partition()] = message.offset() + 1
        self.count += 1

    def _commit_if_possible(self):
        try:
            self._commit()
        except KafkaException as refused:
            # During a rebalance the offsets stay and go out at the revocation or the next time.
            if not refused.args[0].name() in (
                "REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "STALE_MEMBER_EPOCH"
            ):
                raise

    def _commit(self):
        if self._uncommitted:
            offsets = [TopicPartition(self._topic, p, o) for p, o in self._uncommitted.items()]
            for taken in self._consumer.commit(offsets=offsets, asynchronous=False):
                if taken.error is None:
                    del self._uncommitted[taken.partition]
                    self._ledger.committed(taken.partition, taken.offset)

    def _on_assign(self, _consumer, partitions):
        for partition in partitions:
            self._ledger.assigned(self.name, partition.partition)
        self.owned += len(partitions)

    def _on_revoke(self, consumer, partitions):
        self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, _consumer, partitions):
        for partition in partitions:
            # What was refused comes again, to the next owner. Committed later from here, it would undo what that one
            # has committed meanwhile.
            self._uncommitted.pop(partition.partition, None)
            self._ledger.released(self.name, partition.partition)
        self.owned -= len(partitions)
