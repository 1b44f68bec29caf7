"""Requests by the hundreds and thousands at once: limits, and memory."""

import os
import re
import resource

import pytest

import harness
import slow_database
from bursts import Client, burst, numbers

UID = 64990  # of nobody else


def status_of(pid):
    with open("/proc/%s/status" % pid) as f:
        return dict(re.findall(r"^(\w+):\s*(.*)", f.read(), re.M))


def tasks_of(uid):
    """How many the kernel counts against the user's limit."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = status_of(pid)
        except OSError:
            continue  # it has ended
        if status["Uid"].split()[0] == str(uid):
            count += int(status["Threads"])
    return count


@pytest.fixture
def crowded(open_path, serve):
    """crowded(tasks): one worker whose user may have that many."""
    if os.geteuid() != 0:
        pytest.skip("the limit counts for others than root, with all that they run")
    old = resource.getrlimit(resource.RLIMIT_NPROC)

    def start(tasks):
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks_of(UID) + tasks, old[1]))
        try:
            return serve("crowd_app:app", env={"TEST_LOG": os.devnull}, worker_connections=2000, user=UID)
        finally:
            resource.setrlimit(resource.RLIMIT_NPROC, old)

    return start


def test_requests_beyond_the_limit_on_tasks_wait(crowded):
    server = crowded(150)
    pid = server.worker()
    client = Client(server, ["/sleep?n=%d" % i for i in range(600)])
    assert client.results(60 * harness.PATIENCE)[0] == numbers(600)
    [(most, limit)] = server.wait_log(r"Requests wait for others to end: no more threads than (\d+), .*ulimit -u is (\d+),")
    assert 75 < int(most) < 160 and int(most) <= int(limit)
    assert burst(server, ["/sleep?n=%d" % i for i in range(300)])[0] == numbers(300)
    assert len(re.findall("Requests wait for others", server.log_text())) == 1
    assert server.worker() == pid


def test_others_have_room_below_the_limit(crowded):
    """Requests that take all threads do not keep those with children and threads of their own from having them."""
    server = crowded(150)
    assert burst(server, ["/sleep?n=%d" % i for i in range(400)])[0] == numbers(400)
    server.wait_log("Requests wait for others")
    paths = ["/%s?n=%d" % ("sleep" if i % 50 else ("thread", "subprocess_run")[i // 50 % 2], i) for i in range(400)]
    assert burst(server, paths)[0] == numbers(400)
    assert int(status_of(server.worker())["Threads"]) < 150


def test_a_request_may_wait_for_one_that_has_no_thread_yet(crowded):
    """While others end. When all that have threads wait for such that have none, nothing can help them."""
    server = crowded(100)
    paths = ["/%s?n=%d" % ("sleep" if i % 10 else "myself", i) for i in range(400)]
    assert burst(server, paths)[0] == numbers(400)
    server.wait_log("Requests wait for others")


# ---- memory ----


def rss_of(pid):
    """KiB."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return int(re.search(r"^Rss:\s*(\d+) kB", f.read(), re.M).group(1))


def large_requests(server, n):
    """The worker's RSS while so many requests wait deep inside with memory of their own."""
    server.get("/gate/close")
    client = Client(server, ["/large?n=%d" % i for i in range(n)])
    harness.wait_for(lambda: server.get("/inside").text == str(n), 30, "all requests inside")
    most = rss_of(server.worker())
    server.get("/gate/open")
    assert client.results(60)[0] == numbers(n)
    return most


@pytest.mark.skipif(harness.SANITIZED, reason="a sanitizer keeps freed memory for a while")
def test_memory_goes_back_after_a_burst(serve):
    server = serve("crowd_app:app", env={"TEST_LOG": os.devnull}, worker_connections=2000)
    pid = server.worker()
    large_requests(server, 60)  # the threads that are kept, and what Python needs once
    before = rss_of(pid)
    most = large_requests(server, 800)
    assert most > before + 800 * 100  # each has its 100 kB
    harness.wait_for(lambda: rss_of(pid) < before * 1.2, 60, "less than 1.2 times %d KiB, after %d" % (before, most))
    assert int(status_of(pid)["Threads"]) < 100


def parked_requests(serve, n):
    """KiB of RSS for each of n requests that wait for a database."""
    with slow_database.running() as database:
        env = {"TEST_LOG": os.devnull, "TEST_DATABASE": str(database.port)}
        server = serve("crowd_app:bare", env=env, worker_connections=n + 100)
        assert server.get("/inside").text == "0"
        before = rss_of(server.worker())
        client = Client(server, ["/query?n=%d" % i for i in range(n)])
        harness.wait_for(lambda: database.asked() == n, 60, "all queries")
        assert server.get("/inside").text == str(n)
        each = (rss_of(server.worker()) - before) / n
        database.release()
        assert client.results(60 * harness.PATIENCE)[0] == numbers(n)
    return each


@pytest.mark.skipif(harness.SANITIZED, reason="a sanitizer has memory of its own for each thread")
def test_memory_of_requests_that_wait_for_a_database(serve):
    n = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * n:  # the worker has two for each
        pytest.skip("ulimit -Hn is %d" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * n), hard))
    try:
        each = parked_requests(serve, n)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 8 < each < 24
