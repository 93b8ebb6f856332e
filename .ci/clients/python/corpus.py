"""The records that every client suite writes and reads: a pure function of their number.

The rules stand in ../README.md.
"""

from checks import same, that

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 20_000
TOTAL = PER_CODEC * len(CODECS)
PARTITIONS = 6
FIRST_TIMESTAMP = 1_700_000_000_000

_PADDING = b"corelane " * 40


def partition(number):
    return number % PARTITIONS


def offset(number):
    """The one offset a record can have when its partition holds the corpus from the start."""
    return number // PARTITIONS


def length(partition_number):
    """How many records of the corpus a partition holds."""
    return (TOTAL - partition_number + PARTITIONS - 1) // PARTITIONS


def timestamp(number):
    return FIRST_TIMESTAMP + number


def key(number):
    return None if number % 1000 == 7 else b"key-%d" % number


def value(number):
    if number % 1000 == 9:
        return None
    if number % 1000 == 11:
        return b""
    return b"value-%d-" % number + _PADDING[: 100 + number % 150]


def headers(number):
    return [
        ("codec", CODECS[number // PER_CODEC].encode()),
        ("number", str(number).encode()),
        ("twice", b"a"),
        ("twice", b"b"),
    ]


def verify(at_partition, at_offset, its_timestamp, its_key, its_value, its_headers):
    """Every field of a record that was read; its number follows from where it lay."""
    number = at_offset * PARTITIONS + at_partition
    where = f"partition {at_partition} offset {at_offset}"
    that(number < TOTAL, f"{where}: beyond the corpus")
    same(f"{where}: timestamp", timestamp(number), its_timestamp)
    same(f"{where}: key", key(number), its_key)
    same(f"{where}: value", value(number), its_value)
    same(f"{where}: headers", headers(number), its_headers)
