"""Members join and leave while records flow, under each rebalance protocol that a client has.

A client is a module with PROTOCOLS, Member, Producer, create_topic, committed and resumed.
"""

import os
import threading
import time
from collections import Counter

from advertised import CONSUMER_GROUP_HEARTBEAT, advertised
from checks import eventually, same, that

PARTITIONS = 6
PATIENCE = 45
# Nodes are killed meanwhile.
TORMENTED = "TORMENTED" in os.environ


class Ledger:
    """What a group was given, who owned it and what it handled, as its members report it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._produced = [0] * PARTITIONS
        self._following = [0] * PARTITIONS
        self._committed = [0] * PARTITIONS
        self._next = [0] * PARTITIONS
        self._owners = {}
        self._violations = []

    def produced(self, partition):
        with self._lock:
            self._produced[partition] += 1

    def assigned(self, member, partition):
        with self._lock:
            owner = self._owners.get(partition, member)
            if owner != member:
                self._violations.append(f"{partition} given to {member} while {owner} owned it")
            self._owners[partition] = member

    def released(self, member, partition):
        with self._lock:
            if self._owners.get(partition) == member:
                del self._owners[partition]

    def handled(self, member, partition, offset):
        """Members commit before they let go, so each record comes once, even across rebalances.

        While nodes are killed a member may lose its membership before it can commit. What it has handled comes again
        then, to the next owner, but nothing of what it has committed.
        """
        with self._lock:
            expected, committed = self._next[partition], self._committed[partition]
            again = TORMENTED and committed <= offset < expected
            if offset != expected and not again:
                self._violations.append(
                    f"{member} got {offset} of {partition}, not {expected}; committed: {committed}")
            self._next[partition] = offset + 1
            self._following[partition] = max(self._following[partition], offset + 1)

    def committed(self, partition, offset):
        with self._lock:
            self._committed[partition] = max(self._committed[partition], offset)

    def complete(self):
        with self._lock:
            return self._following == self._produced

    def verify(self):
        that(sum(self._produced) > 0, "nothing was produced")
        same("handled up to", self._produced, self._following)
        that(not self._violations, f"{len(self._violations)}, the first: {self._violations[:1]}")


class Groups:
    def __init__(self, session, checks, client):
        self._session = session
        self._checks = checks
        self._client = client

    def run(self):
        protocols = dict(self._client.PROTOCOLS)
        if CONSUMER_GROUP_HEARTBEAT not in advertised(self._session.bootstrap):
            if protocols.pop("consumer", None):
                why = "the broker does not advertise ConsumerGroupHeartbeat"
                self._checks.skip("groups: consumer", why)
        running = [
            threading.Thread(target=self._protocol, args=(protocol, config))
            for protocol, config in protocols.items()
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def _protocol(self, protocol, config):
        topic = self._session.name(f"group-{protocol}")
        ledger = Ledger()
        check = self._checks.run
        check(f"groups: {protocol}: rebalance while records flow",
              self._rebalance, topic, config, ledger)
        check(f"groups: {protocol}: every record handled, no partition owned twice", ledger.verify)
        check(f"groups: {protocol}: committed offsets reach the end", self._committed, topic)
        check(f"groups: {protocol}: resumes where it stopped", self._resume, topic, config)

    def _rebalance(self, topic, config, ledger):
        self._client.create_topic(self._session, topic, PARTITIONS)
        enough = threading.Event()
        producing = threading.Thread(target=self._produce_until, args=(topic, enough, ledger))
        producing.start()
        members = []
        try:
            for number in range(4):
                if number == 3:
                    members.pop(0).leave()
                    _balanced(members)
                name = f"{topic}-{number}"
                members.append(self._client.Member(name, self._session, topic, config, ledger))
                _balanced(members)
            enough.set()
            producing.join()
            eventually("all records handled", PATIENCE, ledger.complete)
        finally:
            enough.set()
            producing.join()
            for member in members:
                member.leave()

    def _produce_until(self, topic, enough, ledger):
        producer = self._client.Producer(self._session)
        number = 0
        while not enough.is_set():
            producer.send(topic, number % PARTITIONS, b"record", ledger.produced)
            number += 1
            time.sleep(0.002)
        producer.close()

    def _committed(self, topic):
        for partition, committed, end in self._client.committed(self._session, topic, PARTITIONS):
            same(f"committed offset of {partition}", end, committed)

    def _resume(self, topic, config):
        """A new member of the old group gets exactly what was produced since the last commit."""
        extra = 60
        producer = self._client.Producer(self._session)
        for number in range(extra):
            producer.send(topic, number % PARTITIONS, b"extra", lambda partition: None)
        producer.close()
        values = self._client.resumed(self._session, topic, config, extra, PATIENCE)
        same("values after the resume", {b"extra": extra}, Counter(values))


def _balanced(members):
    """All partitions are owned, each member has its share, and each goes on handling records."""

    def shared():
        for member in members:
            member.rethrow()
        return (
            sum(member.owned for member in members) == PARTITIONS
            and all(member.owned >= PARTITIONS // len(members) for member in members)
        )

    eventually(f"balance of {[member.name for member in members]}", PATIENCE, shared)
    for member in members:
        before = member.count
        eventually(f"progress of {member.name}", PATIENCE,
                   lambda: member.rethrow() or member.count > before)
