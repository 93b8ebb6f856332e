"""Counts named checks and prints one PASS or FAIL line for each."""

import threading
import time
import traceback


class Checks:
    def __init__(self):
        self._lock = threading.Lock()
        self._passed = 0
        self._failed = 0
        self._skipped = 0

    def run(self, name, check, *arguments):
        start = time.monotonic()
        try:
            check(*arguments)
        except Exception as problem:
            traceback.print_exc()
            self._count(0, 1, f"FAIL {name}: {' '.join(str(problem).split())}")
        else:
            self._count(1, 0, f"PASS {name} ({time.monotonic() - start:.1f} s)")

    def _count(self, passed, failed, line):
        with self._lock:
            self._passed += passed
            self._failed += failed
            print(line, flush=True)

    def skip(self, name, why):
        """Counts what this broker cannot be asked for, and says why."""
        self._skipped += 1
        print(f"SKIP {name}: {why}", flush=True)

    def close(self):
        """Prints the sum and gives the exit code."""
        skipped = f", {self._skipped} skipped" if self._skipped else ""
        print(f"{self._passed} passed, {self._failed} failed{skipped}", flush=True)
        return 1 if self._failed else 0


def that(holds, otherwise):
    if not holds:
        raise AssertionError(otherwise)


def same(what, expected, actual):
    that(expected == actual, f"{what}: expected {expected!r}, got {actual!r}")


def eventually(what, limit, condition):
    """Polls until the condition holds; `what` says what was waited for in vain."""
    deadline = time.monotonic() + limit
    while not condition():
        that(time.monotonic() < deadline, f"not within {limit} s: {what}")
        time.sleep(0.02)
