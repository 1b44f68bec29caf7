"""The watchdog: what blocks a worker, what its requests do when asked or timed out, deadlocks."""

import contextlib
import os
import re
import signal

import pytest

from harness import Closed, wait_for
from worker_by_hand import serving

DUMP = signal.SIGRTMIN + 3


def block(log, head):
    """The lines of the log from the one that has the text to the next of another event."""
    lines = log.splitlines()
    start = next((i for i, line in enumerate(lines) if re.search(head, line)), None)
    assert start is not None, "no %r in:\n%s" % (head, log)
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    return lines[start:end]


def blocks(log, head):
    """All of them."""
    lines = log.splitlines()
    return [block("\n".join(lines[i:]), head) for i, line in enumerate(lines) if re.search(head, line)]


@contextlib.contextmanager
def requests(server, path, count=1):
    """So many requests, sent and not answered yet."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect(60)) for _ in range(count)]
        for c in connections:
            c.get(path)
        yield connections


def wait_in_flight(worker, count):
    worker.wait_row(in_flight=count, seconds=20)


# ---- what blocks ----


@pytest.mark.parametrize(
    "path, function",
    [("/compute?0.5", "compute"), ("/syscall?0.5", "sleep_unhooked"), ("/syscall-gil?0.5", "sleep_unhooked"),
     ("/backtrack?24", "backtrack")],
)  # fmt: skip
def test_what_blocks_is_reported_once(path, function):
    with serving("watch_cases:app") as w:
        for _ in range(2):
            with requests(w, path) as (c,):
                assert c.response().status == 200
        # on a busy machine more may seem to block, in other places
        wait_for(lambda: w.row()["blocked"] >= 2, 20)
        name = path.partition("?")[0]
        told = r"\[WARNING\] GET %s lets no other request run, for \d+\.\d\d s so far .* in %s$" % (name, function)
        assert len(re.findall(told, w.log(), re.M)) == 1, w.log()
        report = block(w.log(), told)
        assert re.search(r'watch_cases.py", line \d+ in %s$' % function, report[0])
        assert any(line.endswith("in app") for line in report), report


def test_how_long_it_took_is_told():
    with serving("watch_cases:app") as w:
        with requests(w, "/compute?1") as (c,):
            assert c.response().status == 200
        wait_for(lambda: "let no other request run for" in w.log())
        seconds = float(re.search(r"let no other request run for (\d+\.\d+) s in all", w.log()).group(1))
        assert 0.8 < seconds < 60


def test_what_waits_is_no_blocking():
    with serving("watch_cases:app", blocking_threshold=2) as w:
        with requests(w, "/sleep?4", 20) as connections, requests(w, "/queue?3") as (c,):
            for c in [*connections, c]:
                assert c.response().status == 200
        assert "other request" not in w.log() and w.row()["blocked"] == 0


def test_many_short_requests_are_no_blocking():
    """They run on one green thread, one after another, without a switch: each has its own turn."""
    with serving("watch_cases:app", blocking_threshold=2) as w:
        with w.connect(120) as c:
            for _ in range(4):
                c.send("GET /compute?0.02 HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
                for _ in range(50):
                    assert c.response().status == 200
        assert "other request" not in w.log()


def test_it_can_be_turned_off():
    with serving("watch_cases:app", blocking_threshold=0) as w:
        with requests(w, "/compute?0.5") as (c,):
            assert c.response().status == 200
        assert "other request" not in w.log() and w.row()["blocked"] == 0
        w.signal(DUMP)
        wait_for(lambda: re.search(r"Stacks \(pid:%d\): [01] requests? in flight" % w.pid, w.log()))


# ---- what they all do ----


def test_all_requests_are_told_on_demand():
    with serving("watch_cases:app") as w:
        with requests(w, "/sleep?600", 50), requests(w, "/queue?600"):
            body = w.connect(60)
            body.send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
            wait_in_flight(w, 52)
            w.signal(DUMP)
            wait_for(lambda: len(blocks(w.log(), "with this stack")) == 3)
            groups = blocks(w.log(), "with this stack")
            sleeping = next(g for g in groups if "50 with this stack" in g[0])
            assert sum("GET /sleep from 127.0.0.1:" in line for line in sleeping) == 10, sleeping
            assert re.search(r"for \d+\.\d\d s: sleeps, at most \d+\.\d\d s more$", sleeping[1])
            assert "  and 40 more" in sleeping and any(line.endswith("in app") for line in sleeping)
            reading = next(g for g in groups if "POST /body" in g[1])
            assert re.search(r"waits to read descriptor \d+ \(127\.0\.0\.1:\d+\), at most", reading[1])
            assert "Stacks (pid:%d): 52 requests in flight, 0 more" % w.pid in w.log()
            body.send("x")
            assert body.response().status == 200  # it was not harmed
            w.signal(signal.SIGQUIT)
            assert w.wait() == 0


def test_the_path_cannot_forge_a_line():
    path = "/sleep;%0a%1b[2J" + "x" * 1000
    with serving("watch_cases:app") as w:
        with requests(w, path + "?600"):
            wait_in_flight(w, 1)
            w.signal(DUMP)
            wait_for(lambda: "1 with this stack" in w.log())
            line = block(w.log(), "1 with this stack")[1]
            assert line.startswith("  GET /sleep;%0a%1b[2Jxxx") and len(line) < 400
            assert "600" not in line.split(" from ")[0]  # the query
            w.signal(signal.SIGQUIT)
            assert w.wait() == 0


def test_also_while_c_code_holds_the_gil():
    with serving("watch_cases:app", blocking_threshold=0) as w:
        with requests(w, "/sleep?600", 3):
            wait_in_flight(w, 3)
            with requests(w, "/syscall-gil?60"):
                wait_for(lambda: open("/proc/%d/syscall" % w.pid).read().split()[0] in ("35", "101"))
                w.signal(DUMP)
                wait_for(lambda: len(blocks(w.log(), "with this stack")) == 2)
                running, sleeping = blocks(w.log(), "with this stack")
                assert running[1].startswith("  GET /syscall-gil from 127.0.0.1")
                assert running[1].endswith("computing")
                assert "3 with this stack" in sleeping[0]
                w.signal(signal.SIGKILL)
                w.wait()


def test_the_master_passes_it_on(serve):
    server = serve("watch_cases:app", workers=2)
    server.signal(DUMP)
    for pid in server.workers():
        server.wait_log(r"Stacks \(pid:%d\): 0 requests in flight" % pid)
    assert server.get("/").status == 200


def test_workers_from_a_mold_are_watched(serve):
    """preload_app: they are forked, and each has a watchdog of its own."""
    server = serve("watch_cases:app", preload_app=True)
    with requests(server, "/compute?0.5") as (c,):
        assert c.response().status == 200
    server.wait_log(r"GET /compute lets no other request run.*in compute")
    with requests(server, "/sleep?600"):
        def told():  # asked again while it has not begun to sleep
            server.signal(DUMP)
            reports = [report for report in blocks(server.log_text(), "1 with this stack") if "sleeps" in report[1]]
            return reports and any(line.endswith("in app") for line in reports[0])

        wait_for(told)
        server.signal(signal.SIGQUIT)
        assert server.process.wait(30) == 0


@pytest.mark.parametrize("path, name", [("/compute?60", "compute"), ("/backtrack?40", "backtrack")])
def test_a_timeout_tells_what_was_running(serve, path, name):
    server = serve("watch_cases:app", timeout=2)
    pid = server.worker()
    with requests(server, "/sleep?600", 50), requests(server, path) as (c,):
        server.wait_log(r"WORKER TIMEOUT \(pid:%d\)" % pid, 20)
        with pytest.raises(Closed):
            c.response()
        server.wait_log(r"50 with this stack", 20)
        wait_for(lambda: server.ready_workers() not in ([], [pid]), 20)
        server.wait_log(r"Worker \(pid:%d\) was sent SIGABRT!" % pid, 20)
    log = server.log_text()
    report = block(log, r"Worker timeout \(pid:%d\): it was running GET %s" % (pid, path.partition("?")[0]))
    assert "[CRITICAL]" in report[0] and any("in " + name in line for line in report)
    assert "Stacks (pid:%d): 51 requests in flight" % pid in log
    assert server.get("/").status == 200
    open(server.log, "w").close()  # the abort was asked for


def test_abort_by_the_application_leaves_a_stack(serve):
    server = serve("watch_cases:app")
    pid = server.worker()
    with requests(server, "/abort") as (c,):
        with pytest.raises(Closed):
            c.response()
    server.wait_log(r"Worker \(pid:%d\) was sent SIGABRT!" % pid)
    assert "Fatal Python error: Aborted" in server.log_text()
    wait_for(lambda: server.ready_workers() not in ([], [pid]), 20)
    open(server.log, "w").close()


def test_a_child_takes_no_part():
    """A forked child has the handler, and nothing behind it."""
    with serving("watch_cases:app") as w:
        with requests(w, "/fork") as (c,):
            assert c.response().status == 200
        assert "Stacks" not in w.log()


# ---- deadlocks ----


@pytest.mark.parametrize("path", ["/locks", "/acquire", "/rlocks", "/mutexes"])
def test_a_deadlock_is_told_once(path):
    with serving("watch_cases:app") as w:
        with requests(w, path + "?a"), requests(w, path + "?b"), requests(w, "/queue?600"), requests(w, "/sleep?600"):
            wait_for(lambda: "Deadlock" in w.log(), 20)
            report = wait_for(lambda: len(block(w.log(), "Deadlock")) >= 6 and block(w.log(), "Deadlock"))
            assert "[ERROR] Deadlock (pid:%d): 2 green threads" % w.pid in report[0]
            pairs = [re.match(r"  GET (\S+) from (\S+) for .* GET (\S+) from (\S+)$", line) for line in report]
            pairs = [m.groups() for m in pairs if m]
            assert len(pairs) == 2 and pairs[0] == (path, pairs[1][3], path, pairs[1][1]), report
            with requests(w, "/sleep?3") as (c,):  # the worker serves on, and does not tell again
                assert c.response().status == 200
            assert w.log().count("Deadlock") == 1 and "/queue" not in w.log() and "/sleep" not in w.log()
            w.signal(signal.SIGQUIT)
            assert w.wait() == 0


def test_a_worker_with_a_deadlock_is_replaced(serve):
    """When its successor is ready; the requests in it then have graceful_timeout."""
    server = serve("watch_cases:app", graceful_timeout=1)
    pid = server.worker()
    with requests(server, "/locks?a") as (a,), requests(server, "/locks?b") as (b,):
        server.wait_log(r"ERROR\] Deadlock \(pid:%d\)" % pid, 20)
        for c in (a, b):
            with pytest.raises(Closed):
                c.response()
    wait_for(lambda: server.ready_workers() not in ([], [pid]) and pid not in server.workers(), 20)
    assert server.get("/").status == 200


def test_one_that_waits_for_its_own_mutex():
    with serving("watch_cases:app") as w:
        with requests(w, "/self"):
            wait_for(lambda: "Deadlock" in w.log(), 20)
            assert "1 green thread" in block(w.log(), "Deadlock")[0] and "held by itself" in w.log()
            w.signal(signal.SIGQUIT)
            assert w.wait() == 0


def test_waiting_for_a_thread_is_no_deadlock():
    """A queue, a lock held by an OS thread, and two that wait for locks of others in a row."""
    with serving("watch_cases:app") as w:
        with requests(w, "/queue?3", 5) as queues, requests(w, "/held?1", 5) as held:
            for c in [*queues, *held]:
                assert c.response().status == 200
        assert "Deadlock" not in w.log()


def test_no_watchdog_in_the_way_of_the_end(serve):
    server = serve("watch_cases:app")
    pid = server.worker()
    assert server.stop() == 0
    assert not os.path.exists("/proc/%d" % pid)
