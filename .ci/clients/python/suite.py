"""Python's clients, unmodified, against the broker at BOOTSTRAP.

`suite.py confluent-kafka` runs librdkafka's, `suite.py kafka-python` the one that is all Python. PARTS may name some
of their parts.
"""

import os
import sys
import threading
import time

from checks import Checks
from groups import Groups


class Session:
    """One run against one broker: opens clients and gives names that no run used before."""

    def __init__(self, client):
        self.bootstrap = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
        # What a topic gets.
        self.replication = int(os.environ.get("REPLICATION", "1"))
        self._run = f"{client}-{time.time_ns() // 1_000_000:x}"

    def name(self, purpose):
        return f"{self._run}-{purpose}"

    def config(self, extra=()):
        return {"bootstrap.servers": self.bootstrap, **dict(extra)}

    def consumer(self, extra=()):
        from confluent_kafka import Consumer

        return Consumer(self.config({
            "group.id": self.name("unused"),
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            **dict(extra),
        }))


def parts_of(client, session, checks):
    if client == "confluent-kafka":
        import librdkafka_groups
        from librdkafka_administration import Administration
        from librdkafka_content import Content

        return {
            "content": Content(session, checks),
            "groups": Groups(session, checks, librdkafka_groups),
            "administration": Administration(session, checks),
        }
    import pure_python

    return {
        "content": pure_python.Content(session, checks),
        "groups": Groups(session, checks, pure_python),
    }


def main():
    client = sys.argv[1]
    session, checks = Session(client), Checks()
    # Groups wait far more than they work, so all parts share the clock.
    parts = parts_of(client, session, checks)
    wanted = os.environ.get("PARTS", ",".join(parts)).split(",")
    running = [threading.Thread(target=parts[name].run) for name in wanted]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    sys.exit(checks.close())


if __name__ == "__main__":
    main()
