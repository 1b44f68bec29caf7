"""How connections are shared among the workers: evenly, past those that are busy, and without waking all of them."""

import collections
import contextlib
import os
import resource
import signal
import time

import harness
from harness import wait_for

WORKERS, CONNECTIONS = 4, 400


class Crowd:
    """Clients with a connection each, who connect again when the server ends it."""

    def __init__(self, server):
        self.server = server
        self.lines = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for line in self.lines:
            line.close()

    def come(self, n, each=lambda line: None):
        for _ in range(n):
            self.lines.append(self.server.connect(60))
            each(self.lines[-1])

    def come_again(self):
        for i, line in enumerate(self.lines):
            if line.is_closed(0.0001):
                line.close()
                self.lines[i] = self.server.connect(60)

    def counts(self):
        """How many connections each worker has."""
        for line in self.lines:
            line.get("/")
        return collections.Counter(int(line.response().text) for line in self.lines)


def ask(line):
    line.get("/")
    line.response()


def assert_balanced(counts, among=WORKERS):
    mean = sum(counts.values()) / WORKERS
    assert max(counts.values()) <= 1.5 * mean, counts
    assert len(counts) == among and min(counts.values()) >= 0.5 * mean, counts


@contextlib.contextmanager
def one_busy(server, folder):
    """A worker that has no time for others."""
    flag = folder / "enough"
    with server.connect(120) as line:
        line.get("/compute?%s" % flag)
        try:
            server.wait_log("GET /compute lets no other request run", 30)  # it has begun
            yield
        finally:
            flag.touch()
        assert line.response().status == 200


def test_a_burst(serve):
    server = serve("balance", workers=WORKERS)
    with Crowd(server) as crowd:
        crowd.come(CONNECTIONS)
        assert_balanced(crowd.counts())


def test_one_after_another_and_over_a_reload(serve):
    server = serve("balance", workers=WORKERS)
    old = set(server.workers())
    with Crowd(server) as crowd:
        crowd.come(CONNECTIONS, each=ask)
        assert_balanced(crowd.counts())
        server.signal(signal.SIGHUP)

        def reloaded():
            crowd.come_again()
            return not old & set(server.workers()) and len(server.ready_workers()) == WORKERS

        wait_for(reloaded, 60, "a new generation")
        crowd.come_again()
        assert_balanced(crowd.counts())


def test_past_one_that_computes(serve, tmp_path):
    server = serve("balance", workers=WORKERS, timeout=0)
    with one_busy(server, tmp_path), Crowd(server) as crowd:
        crowd.come(CONNECTIONS, each=ask)
        assert_balanced(crowd.counts(), among=WORKERS - 1)


def test_only_one_is_busy_and_all_others_computing(serve, tmp_path):
    """It takes all there is, although it has more than its share."""
    server = serve("balance", workers=2, timeout=0)
    with one_busy(server, tmp_path), Crowd(server) as crowd:
        start = time.monotonic()
        crowd.come(200, each=ask)
        assert time.monotonic() - start < 10 * harness.PATIENCE
        assert len(crowd.counts()) == 1


def test_past_one_that_is_stopped(serve):
    server = serve("balance", workers=3, timeout=0)
    stopped = server.workers()[0]
    with Crowd(server) as crowd:
        os.kill(stopped, signal.SIGSTOP)
        try:
            start = time.monotonic()
            crowd.come(60, each=ask)
            assert time.monotonic() - start < 10 * harness.PATIENCE
            assert stopped not in crowd.counts()
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_past_one_that_cannot_accept(serve):
    """The kernel may have woken nobody else for the connection: others come to look."""
    server = serve("balance", workers=2)
    broken = server.workers()[0]
    resource.prlimit(broken, resource.RLIMIT_NOFILE, (3, 3))
    for _ in range(20):
        assert int(server.get(timeout=60).text) != broken
    server.wait_log("accept: Too many open files")


def woken(pid):
    """How often the loop of that worker has waited."""
    with open("/proc/%d/status" % pid) as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["voluntary_ctxt_switches"])


def test_no_thundering_herd(serve):
    """Eight workers are not all woken for each connection; one of them, perhaps twice."""
    server = serve("balance", workers=8)
    before = sum(map(woken, server.workers()))
    for _ in range(500):
        server.get()
    assert sum(map(woken, server.workers())) - before < 500 * 4


def test_connections_that_nobody_has_taken_yet_at_a_stop(serve):
    """The worker that goes last takes them all."""
    server = serve("balance", workers=2, timeout=0, graceful_timeout=60)
    workers = server.workers()
    with Crowd(server) as crowd:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        crowd.come(50, each=lambda line: line.get("/"))
        server.signal(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert {int(line.response().text) for line in crowd.lines} <= set(workers)
    assert server.process.wait(60 * harness.PATIENCE) == 0


def test_two_servers_on_one_address(serve):
    """reuse_port: the kernel deals connections out to both; when one goes, none that it has is lost."""
    first = serve("balance", reuse_port=True)
    second = serve("balance", reuse_port=True, bind="127.0.0.1:%d" % first.port)
    pids = {first.worker(), second.worker()}
    with Crowd(first) as crowd:
        crowd.come(200)
        assert set(crowd.counts()) == pids
    with Crowd(first) as crowd:
        os.kill(first.worker(), signal.SIGSTOP)
        crowd.come(100, each=lambda line: line.get("/"))
        first.signal(signal.SIGTERM)
        first.wait_log("Handling signal: term")
        os.kill(first.worker(), signal.SIGCONT)
        assert {int(line.response().text) for line in crowd.lines} == pids
    assert first.process.wait(60 * harness.PATIENCE) == 0
    assert int(first.get().text) == second.worker()  # at the same port
