"""soak.py MINUTES: all drivers of drivers_app.py at random, by users that never pause, in one worker.

The worker must stay the same one, answer every request rightly, and be at the end as big as
after its warming up, with the same descriptors.
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
GROWTH = 1.05
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


def descriptors(pid):
    """While nothing runs: the least of some seconds, since connections close by and by."""
    counts = []
    for _ in range(20):
        time.sleep(0.5)
        counts.append(len(os.listdir("/proc/%d/fd" % pid)))
    return min(counts)


class Phase:
    """Some seconds of this: how many answers, how big the worker was in the second half, its descriptors at the end."""

    def __init__(self, name, server, seconds):
        pid, users, sizes = server.worker(), Users(server), []
        end = time.monotonic() + seconds
        while time.monotonic() < end and not users.failures:
            time.sleep(1)
            sizes.append(resident(pid))
            if len(sizes) % 30 == 0:
                print("%8d answers, %4.0f MiB" % (users.answers, sizes[-1]), flush=True)
        users.stop()
        self.answers, self.resident, self.descriptors = users.answers, max(sizes[len(sizes) // 2 :]), descriptors(pid)
        print("%s: %d answers in %.0f s, %.0f MiB, %d descriptors"
              % (name, self.answers, seconds, self.resident, self.descriptors), flush=True)  # fmt: skip


def soak(server, seconds):
    pid = server.worker()
    for case in CASES:  # pools are as full as they can become
        burst(server, ["/%s?n=%d" % (case, i) for i in range(2 * USERS)], 60)
    before = Phase("warm", server, seconds * WARM)
    after = Phase("end", server, seconds * (1 - WARM))
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
            if harness.SANITIZED:  # keeps what is freed, 256 MiB and a MiB for each thread, and who asked for it
                server.env["ASAN_OPTIONS"] += ":quarantine_size_mb=8:thread_local_quarantine_size_kb=16:malloc_context_size=2"
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
