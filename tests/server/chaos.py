"""chaos.py [MINUTES [SEED]]: clients that count, while everything happens to a server, in an order drawn from a seed.

Reloads, also broken ones, upgrades, more and fewer workers, rotated logs, workers that are stopped for a while, end,
crash and are killed, molds that are killed, and workers that have had enough requests. Lost may be only what was on
a connection of a worker that was killed: that worker is stopped first, and the kernel asked which connections it has.
"""

import collections
import glob
import os
import random
import re
import signal
import sys
import tempfile
import time

import harness
from counting import Clients
from harness import wait_for
from sites import Site

WORKERS = 2


def tell(pid, sig):
    """A worker may end by itself at any time."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def stands(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] in "TtZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def client_ports(pid, port):
    """Our sides of the connections to that port that the process has."""
    inodes = set()
    for path in glob.glob("/proc/%d/fd/*" % pid):
        try:
            link = os.readlink(path)
        except FileNotFoundError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    ports = set()
    with open("/proc/net/tcp") as f:
        for line in f.readlines()[1:]:
            fields = line.split()
            local, remote = (int(end.split(":")[1], 16) for end in fields[1:3])
            if local == port and fields[9] in inodes:
                ports.add(remote)
    return ports


class Chaos:
    def __init__(self, server, seed):
        self.server, self.site = server, Site(server)
        self.chance = random.Random(seed)
        self.counts = collections.Counter()
        self.doomed = set()  # ports of connections that died with their worker
        self.events = [
            self.reload, self.broken_reload, self.upgrade, self.grow_and_shrink, self.rotate, self.pause, self.end,
            self.crash, self.kill, self.kill_the_mold,
        ]  # fmt: skip

    def worker(self):
        return self.chance.choice(sorted(self.site.workers() & self.ready()))

    def ready(self):
        return {int(pid) for pid in re.findall(r"worker \d+ \(pid (\d+)\): ready", self.server.log_text())}

    def settled(self):
        """So many workers, all of them ready; beside them a mold or none."""
        workers = self.site.workers()
        return len(workers & self.ready()) == WORKERS and len(workers - self.ready()) <= 1

    def reload(self):
        old = self.site.workers() & self.ready()
        self.site.signal(signal.SIGHUP)
        wait_for(lambda: not old & self.site.workers(), 60, "the end of the old generation")

    def broken_reload(self):
        count = self.server.log_text().count("cannot reload")
        with open(self.server.config, "a") as f:
            f.write("workers = many;\n")
        self.site.signal(signal.SIGHUP)
        wait_for(lambda: self.server.log_text().count("workers") > count, 10)
        time.sleep(0.2)
        self.server.write_config()

    def upgrade(self):
        if "preload_app" in self.server.settings:
            return  # see Site.upgrade: it counts the children
        self.site.upgrade(WORKERS)

    def grow_and_shrink(self):
        for sig, n in ((signal.SIGTTIN, WORKERS + 1), (signal.SIGTTOU, WORKERS)):
            self.site.signal(sig)
            wait_for(lambda: len(self.site.workers() & self.ready()) == n, 30, "%d workers" % n)

    def rotate(self):
        os.rename(self.server.settings["accesslog"], self.server.settings["accesslog"] + ".%d" % self.counts["rotate"])
        self.site.signal(signal.SIGUSR1)
        wait_for(lambda: os.path.exists(self.server.settings["accesslog"]), 20, "a new access log")

    def pause(self):
        pid = self.worker()
        tell(pid, signal.SIGSTOP)
        time.sleep(self.chance.random())
        tell(pid, signal.SIGCONT)

    def end(self):
        pid = self.worker()
        tell(pid, signal.SIGTERM)
        wait_for(lambda: pid not in self.site.workers(), 40, "the end of a worker")

    def die(self, sig):
        pid = self.worker()
        tell(pid, signal.SIGSTOP)
        wait_for(lambda: stands(pid), 10, "a worker that stands")
        self.doomed |= client_ports(pid, self.server.port)
        tell(pid, sig)
        tell(pid, signal.SIGCONT)
        wait_for(lambda: pid not in self.site.workers(), 20, "a worker's death")

    def crash(self):
        self.die(signal.SIGSEGV)

    def kill(self):
        self.die(signal.SIGKILL)

    def kill_the_mold(self):
        for pid in self.site.workers() - self.ready():
            tell(pid, signal.SIGKILL)

    def run(self, seconds):
        end = time.monotonic() + seconds
        upcoming = []
        while time.monotonic() < end:
            if not upcoming:
                upcoming = self.chance.sample(self.events, len(self.events))
            event = upcoming.pop()
            wait_for(self.settled, 60, "%d ready workers before %s" % (WORKERS, event.__name__))
            event()
            self.counts[event.__name__] += 1
            time.sleep(self.chance.random() * 0.3)
        wait_for(self.settled, 60, "%d ready workers at the end" % WORKERS)


def unexplained(clients, chaos):
    """What was lost without its worker having been killed."""
    return [what for what, port in zip(clients.lost, clients.lost_ports) if port not in chaos.doomed]


def settings(folder):
    return {
        "workers": WORKERS,
        "max_requests": 400,
        "max_requests_jitter": 200,
        "accesslog": os.path.join(str(folder), "access.log"),
        "pidfile": os.path.join(str(folder), "pid"),
        "graceful_timeout": 60,
    }


def main(minutes="10", seed=None):
    seed = int(seed or time.time())
    failed = False
    for preload in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            more = {"preload_app": True} if preload else {}
            server = harness.Server(folder, "reliable", **settings(folder), **more)
            chaos = Chaos(server, seed)
            try:
                with Clients(("127.0.0.1", server.port)) as clients:
                    chaos.run(float(minutes) * 30)
            finally:
                chaos.site.stop()
                server.stop()
            wrong = unexplained(clients, chaos)
            print(
                "seed %d%s: %d requests answered, %d lost with workers that were killed, %d lost otherwise"
                % (seed, ", preload_app" if preload else "", clients.answered, len(clients.lost) - len(wrong), len(wrong))
            )
            print("  " + ", ".join("%s: %d" % item for item in sorted(chaos.counts.items())))
            print("\n".join("  " + what for what in wrong))
            failed = failed or bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
