"""Locks on files, FIFOs, signals, barriers and other waits that have no descriptor: requests overlap in them."""

import os
import signal

import pytest

import harness
from bursts import Client, burst, numbers

N = 50
WAIT = 0.2


@pytest.fixture(scope="module")
def the_server(tmp_path_factory):
    server = harness.Server(tmp_path_factory.mktemp("cooperation"), "cooperation_cases:app")
    yield server
    server.finish()


@pytest.fixture
def server(the_server):
    """One worker for all tests, the same one and in good health after each."""
    pid = the_server.worker()
    yield the_server
    assert the_server.get("/").text == str(pid)
    assert the_server.worker() == pid


@pytest.mark.parametrize(
    "case",
    ["flock", "record_lock", "fifo", "sendfile", "splice", "eventfd", "inotify", "shared_semaphore", "message_queue",
     "disk", "users"],
)  # fmt: skip
def test_waits_overlap(server, case):
    warm, _ = burst(server, ["/%s?n=%d" % (case, i) for i in (N, N + 1)])
    assert warm == [(200, str(N)), (200, str(N + 1))]
    results, took = burst(server, ["/%s?n=%d" % (case, i) for i in range(N)])
    assert results == numbers(N)
    # In a pair only one waits for as long, so one after another would take half of N * WAIT.
    assert took < N / 2 * WAIT / 2 * harness.PATIENCE


def test_a_lock_of_another_process(server):
    client = Client(server, ["/own_lock"] + ["/eventfd?n=%d" % i for i in range(20)])
    results, took = client.results(30 * harness.PATIENCE)
    assert results[0][0] == 200
    assert results[1:] == numbers(20)
    assert took < 20 / 2 * WAIT * harness.PATIENCE


def test_a_barrier(server):
    """One of them is told that it was the last."""
    assert server.get("/barrier/%d" % N).text == "ready"
    results, _ = burst(server, ["/barrier/wait"] * N)
    assert sorted(results) == [(200, "-1")] + [(200, "0")] * (N - 1)


def test_signals_that_are_waited_for(server):
    client = Client(server, ["/sigwait", "/sigwait"])
    pid = server.worker()
    os.kill(pid, signal.SIGRTMIN + 10)
    os.kill(pid, signal.SIGRTMIN + 11)
    results, _ = client.results(30 * harness.PATIENCE)
    assert sorted(results) == [(200, "10"), (200, "11")]


def test_signals_that_do_not_come(server):
    results, took = burst(server, ["/sigtimedwait"] * N)
    assert results == [(200, "None")] * N
    assert took < N * WAIT / 2 * harness.PATIENCE
