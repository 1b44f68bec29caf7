"""soak.py MINUTES: all drivers of drivers_app.py at random, by users that never pause, in one worker.

The worker must stay the same one, answer every request rightly, and be after all this as big as
after its warming up, with the same descriptors. ./dev test soak runs it with sanitizers.
"""

import os
import random
import re
import sys
import tempfile
import threading
import time

import drivers
import harness
from bursts import burst
from services import Services

USERS = 20
WAIT = 0.1
WARM = 0.3  # of the time: until then allocators and pools may grow
GROWTH = 1.1
CASES = [driver.case for driver in drivers.DRIVERS if not drivers.missing(driver)]


class Users:
    """Threads that send two requests of a kind at once, again and again: some kinds wait for each other."""

    def __init__(self, server):
        self.server = server
        self.next, self.lock, self.ended = 10**6, threading.Lock(), threading.Event()
        self.answers, self.failures = 0, []
        self.threads = [threading.Thread(target=self.run) for _ in range(USERS)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.ended.is_set() and not self.failures:
            with self.lock:
                n = self.next = self.next + 2
            case = random.choice(CASES)
            try:
                results, _ = burst(self.server, ["/%s?n=%d" % (case, i) for i in (n, n + 1)])
                assert results == [(200, str(n)), (200, str(n + 1))], results
            except Exception as error:
                self.failures.append("%s: %s: %s" % (case, type(error).__name__, error))
            with self.lock:
                self.answers += 2

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, "\n".join(self.failures)


def resident(pid):
    """MiB."""
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s*(\d+)", f.read()).group(1)) / 1024


class Use:
    """What the worker has while nothing runs: the least of some seconds, since connections close by and by."""

    def __init__(self, pid):
        self.resident, self.descriptors = float("inf"), float("inf")
        for _ in range(20):
            time.sleep(0.5)
            self.resident = min(self.resident, resident(pid))
            self.descriptors = min(self.descriptors, len(os.listdir("/proc/%d/fd" % pid)))

    def __str__(self):
        return "%.0f MiB, %d descriptors" % (self.resident, self.descriptors)


def run_for(server, seconds):
    """The number of answers."""
    pid, users, end = server.worker(), Users(server), time.monotonic() + seconds
    while time.monotonic() < end and not users.failures:
        time.sleep(min(30, max(0, end - time.monotonic())))
        print("%8d answers, %4.0f MiB" % (users.answers, resident(pid)), flush=True)
    users.stop()
    return users.answers


def soak(server, seconds):
    pid = server.worker()
    for case in CASES:  # pools are as full as they can become
        burst(server, ["/%s?n=%d" % (case, i) for i in range(2 * USERS)], 60)
    answers = run_for(server, seconds * WARM)
    before = Use(pid)
    print("warm: %s" % before, flush=True)
    answers += run_for(server, seconds * (1 - WARM))
    after = Use(pid)
    print("end:  %s, after %d answers in %.0f s" % (after, answers, seconds))
    assert server.worker() == pid, "the worker was replaced"
    assert after.resident < before.resident * GROWTH, "it grows"
    assert after.descriptors <= before.descriptors, "descriptors are left open"


def main(minutes):
    with tempfile.TemporaryDirectory(prefix="greenicorn-soak-") as folder:
        started = []
        try:
            started.append(postgres := harness.Postgres(folder))
            started.append(redis := harness.Redis(folder))
            started.append(services := Services(folder, WAIT, postgres, redis))
            server = harness.Server(folder, "drivers_app:app", env=services.env, start=False)
            if harness.SANITIZED:  # or what is freed counts as growth, until there is 256 MiB of it
                server.env["ASAN_OPTIONS"] += ":quarantine_size_mb=8"
            server.start()
            try:
                soak(server, minutes * 60)
            finally:
                server.finish()
        finally:
            for service in reversed(started):
                service.stop()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
