"""More requests at once than there may be threads, or memory: they wait in order, and all are answered."""

import os
import re
import resource

import pytest

import harness
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
