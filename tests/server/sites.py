"""A server that lives longer than its first master."""

import os
import re
import signal

from harness import children_of, wait_for


class Site:
    """A server whose master may be another one by now."""

    def __init__(self, server):
        self.server = server
        self.master = server.process.pid

    def signal(self, sig):
        os.kill(self.master, sig)

    def workers(self):
        return set(children_of(self.master))

    def ready(self, n):
        """n workers, all of them ready."""
        said = {int(pid) for pid in re.findall(r"\(pid (\d+)\): ready", self.server.log_text())}
        return len(self.workers()) == n and self.workers() <= said

    def wait_ready(self, n):
        wait_for(lambda: self.ready(n), 60, "%d ready workers" % n)

    def reload(self, n=2):
        old = self.workers()
        self.signal(signal.SIGHUP)
        wait_for(lambda: not old & self.workers() and self.ready(n), 60, "a new generation")

    def upgrade(self, n=2):
        count = len(re.findall("The new master .* is ready", self.server.log_text()))
        self.signal(signal.SIGUSR2)
        self.server.wait_log("The new master .* is ready", 30, count=count + 1)
        new = int(re.findall(r"The new master \(pid:(\d+)\) is ready", self.server.log_text())[-1])
        self.signal(signal.SIGTERM)
        self.server.wait_log(r"\[%d\] \[INFO\] Master has been promoted" % new, 30)
        self.master = new
        self.wait_ready(n)

    def stop(self):
        if self.master != self.server.process.pid:
            self.signal(signal.SIGTERM)
            wait_for(lambda: not os.path.exists("/proc/%d" % self.master) or not self.workers(), 30)
