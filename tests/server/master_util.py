"""Helpers for the tests of the master alone, with fake_worker.py in the place of a worker."""

import json
import os
import re
import signal
import subprocess

import harness
from harness import wait_for

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_worker.py")


class Master(harness.Server):
    """greenicorn with fake workers; the application's name says how they behave."""

    def __init__(self, folder, app="ok", env=None, wait=True, **arguments):
        super().__init__(folder, app, env=env, start=False, **{"chdir": str(folder), **arguments})
        self.env["GREENICORN_WORKER"] = FAKE
        self.start(wait)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.signal(signal.SIGQUIT)
            try:
                self.process.wait(10 * harness.PATIENCE)
            except subprocess.TimeoutExpired:
                for pid in self.workers() + [self.process.pid]:
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()
        if exc[0] is None:
            assert "AddressSanitizer" not in self.log_text() and "runtime error" not in self.log_text()

    def about(self):
        """What a worker tells about itself."""
        with self.connect() as c:
            c.get()
            return json.loads(c.response().body)

    def wait_workers(self, n, seconds=10):
        """Wait for exactly n workers, all ready; their pids."""

        def settled():
            ready = self.ready_workers()
            return ready if len(ready) == len(self.workers()) == n else None

        return wait_for(settled, seconds, "%d workers" % n)

    def wait_exit(self, seconds=10):
        return self.process.wait(seconds * harness.PATIENCE)

    def hup(self, **settings):
        self.write_config(**settings)
        self.signal(signal.SIGHUP)

    def booted(self):
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log_text())]


def run(*args, env=None, cwd=None, text=None, timeout=20):
    """greenicorn with those arguments, until it ends; text is its greenicorn.conf in cwd."""
    if text is not None:
        with open(os.path.join(cwd, "greenicorn.conf"), "w") as f:
            f.write(text)
    full = {k: v for k, v in os.environ.items() if k not in ("PORT", "WEB_CONCURRENCY")}
    full.update({"GREENICORN_WORKER": FAKE, **(env or {})})
    return subprocess.run(
        [harness.MASTER, *args], env=full, cwd=cwd, text=True, capture_output=True,
        timeout=timeout * harness.PATIENCE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
