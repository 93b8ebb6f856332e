"""The APIs that a broker says it serves, asked by hand since clients keep them to themselves.

What a broker does not advertise is skipped and counted, while what it advertises must work.
"""

import socket
import struct

CONSUMER_GROUP_HEARTBEAT = 68

_API_VERSIONS = 18


def advertised(bootstrap):
    """Asks the first of the brokers that answers."""
    brokers = bootstrap.split(",")
    for broker in brokers[:-1]:
        try:
            return _advertised_by(broker)
        except (OSError, struct.error):
            continue
    return _advertised_by(brokers[-1])


def _advertised_by(broker):
    host, _, port = broker.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        # Size, key, version 0, correlation id, no client id.
        connection.sendall(struct.pack(">ihhih", 10, _API_VERSIONS, 0, 1, -1))
        with connection.makefile("rb") as answer:
            _size, _correlation, _error, count = struct.unpack(">iihi", answer.read(14))
            ranges = (struct.unpack(">hhh", answer.read(6)) for _ in range(count))
            return {key for key, _minimum, _maximum in ranges}
