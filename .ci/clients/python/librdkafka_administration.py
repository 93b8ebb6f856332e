"""What operators ask through librdkafka's admin API, with the refusals."""

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from checks import eventually, same, that


def refused(code, call):
    try:
        answer = call()
    except KafkaException as problem:
        same("error", KafkaError(code).name(), problem.args[0].name())
        return
    raise AssertionError(f"expected {KafkaError(code).name()}, got {answer}")


class Administration:
    def __init__(self, session, checks):
        self._session = session
        self._checks = checks
        self._topic = session.name("admin")
        self._group = session.name("admin-group")
        self._resource = ConfigResource(ResourceType.TOPIC, self._topic)
        self._admin = AdminClient(session.config())

    def run(self):
        for name, check in {
            "describe cluster": self._cluster,
            "create topic": self._create,
            "describe and alter configs": self._configs,
            "create partitions": self._create_partitions,
            "list offsets and delete records": self._delete_records,
            "groups: commit, list, describe, alter, delete": self._groups,
            "delete topic": self._delete_topic,
        }.items():
            self._checks.run(f"admin: {name}", check)

    def _cluster(self):
        cluster = self._admin.describe_cluster().result(10)
        that(cluster.nodes, "no nodes")
        that(cluster.cluster_id, "no cluster id")

    def _create_topic(self, topic):
        [future] = self._admin.create_topics([topic]).values()
        return future.result(30)

    def _create(self):
        self._create_topic(NewTopic(self._topic, 3, 1, config={"retention.ms": "3600000"}))
        refused(KafkaError.TOPIC_ALREADY_EXISTS,
                lambda: self._create_topic(NewTopic(self._topic, 1, 1)))
        refused(KafkaError.INVALID_REPLICATION_FACTOR,
                lambda: self._create_topic(NewTopic(self._topic + "-far", 1, 9)))
        eventually("the topic in the metadata", 10, lambda: self._partitions() == 3)

    def _partitions(self):
        return len(self._admin.list_topics(self._topic, timeout=10).topics[self._topic].partitions)

    def _config(self, name):
        return self._admin.describe_configs([self._resource])[self._resource].result(10)[name].value

    def _alter(self, operation, value):
        entry = ConfigEntry("retention.ms", value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, self._topic, incremental_configs=[entry])
        [future] = self._admin.incremental_alter_configs([resource]).values()
        return future.result(10)

    def _configs(self):
        same("retention.ms", "3600000", self._config("retention.ms"))
        self._alter(AlterConfigOpType.SET, "7200000")
        eventually("the new value", 10, lambda: self._config("retention.ms") == "7200000")
        refused(KafkaError.INVALID_CONFIG, lambda: self._alter(AlterConfigOpType.SET, "soon"))
        self._alter(AlterConfigOpType.DELETE, None)
        eventually("the default", 10, lambda: self._config("retention.ms") == "604800000")

    def _grow(self, count):
        [future] = self._admin.create_partitions([NewPartitions(self._topic, count)]).values()
        return future.result(10)

    def _create_partitions(self):
        self._grow(5)
        eventually("5 partitions", 10, lambda: self._partitions() == 5)
        refused(KafkaError.INVALID_PARTITIONS, lambda: self._grow(2))

    def _offset(self, spec):
        [future] = self._admin.list_offsets({TopicPartition(self._topic, 0): spec}).values()
        return future.result(10).offset

    def _delete_records(self):
        producer = Producer(self._session.config())
        for _ in range(50):
            producer.produce(self._topic, b"record", partition=0)
        same("records without an answer", 0, producer.flush(30))
        [future] = self._admin.delete_records([TopicPartition(self._topic, 0, 20)]).values()
        same("low watermark", 20, future.result(10).low_watermark)
        same("earliest", 20, self._offset(OffsetSpec.earliest()))
        same("latest", 50, self._offset(OffsetSpec.latest()))

    def _groups(self):
        consumer = self._session.consumer({"group.id": self._group})
        consumer.commit(offsets=[TopicPartition(self._topic, 0, 42)], asynchronous=False)
        consumer.close()
        listed = self._admin.list_consumer_groups().result(10).valid
        that(self._group in [group.group_id for group in listed], "the group is not listed")
        [described] = self._admin.describe_consumer_groups([self._group]).values()
        same("state", "EMPTY", described.result(10).state.name)
        same("committed", 42, self._committed())
        wanted = ConsumerGroupTopicPartitions(self._group, [TopicPartition(self._topic, 0, 7)])
        [altered] = self._admin.alter_consumer_group_offsets([wanted]).values()
        altered.result(10)
        same("altered", 7, self._committed())
        [deleted] = self._admin.delete_consumer_groups([self._group]).values()
        deleted.result(10)
        listed = self._admin.list_consumer_groups().result(10).valid
        that(self._group not in [group.group_id for group in listed], "the group is still listed")

    def _committed(self):
        [future] = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._group)]).values()
        [at] = future.result(10).topic_partitions
        return at.offset

    def _delete_topic(self):
        [future] = self._admin.delete_topics([self._topic]).values()
        future.result(30)
        eventually("the topic to go", 10,
                   lambda: self._topic not in self._admin.list_topics(timeout=10).topics)
