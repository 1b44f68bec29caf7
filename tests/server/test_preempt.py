"""The setting preempt: a request that computes lets others run, and is none the worse for it."""

import contextlib
import signal

import pytest

import harness
from test_overlap import burst


@pytest.fixture
def server(serve):
    return serve("compute_app:app", preempt=0.01, blocking_threshold=0)


@contextlib.contextmanager
def endless_requests(server, n):
    """n requests compute; afterwards they are told to stop, and answer."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect(60)) for _ in range(n)]
        for connection in connections:
            connection.get("/endless")
        harness.wait_for(lambda: int(server.get("/computing", timeout=60).text) == n, 60, "computing requests")
        yield
        server.get("/stop", timeout=60)
        assert [connection.response().text for connection in connections] == ["stopped"] * n


def test_short_requests_are_answered_beside_an_endless_one(server):
    pid = server.get("/pid").text
    with endless_requests(server, 1):
        for _ in range(20):
            assert server.get("/pid", timeout=30).text == pid


def test_requests_that_wait_go_on_beside_several_that_compute(server):
    with endless_requests(server, 5):
        results, _ = burst(server, ["/sleep?20"] * 30, 60)
        assert results == [(200, "20")] * 30


def test_without_it_computing_is_not_interrupted(serve):
    server = serve("compute_app:app", blocking_threshold=0)
    paths = ["/compute?300", "/computing"] * 10
    results, _ = burst(server, paths, 60)
    assert results == [(200, "300000"), (200, "0")] * 10


def test_what_many_that_compute_come_to_is_right(serve):
    """They take turns thousands of times, with and without a lock."""
    server = serve("compute_app:app", preempt=0.001, blocking_threshold=0)
    results, _ = burst(server, ["/locked", "/identity", "/compute?500", "/sleep?10"] * 8, 120)
    assert [status for status, _ in results] == [200] * 32, server.log_text()[-3000:]
    assert server.get("/counter").text == str(8 * 5000)
    assert {body for _, body in results[2::4]} == {"500000"}
    assert len({body for _, body in results[1::4]}) == 8


def test_a_worker_that_is_replaced_ends_its_computing(server):
    with server.connect(60) as stopping, server.connect(60) as computing:
        stopping.get("/pid")
        pid = stopping.response().text
        stopping.get("/stop_after?1500")
        computing.get("/endless")
        harness.wait_for(lambda: server.get("/computing", timeout=60).text == "1", 60, "computing")
        server.signal(signal.SIGHUP)
        assert computing.response().text == "stopped"
        assert stopping.response().status == 200
    harness.wait_for(lambda: server.get("/pid", timeout=30).text != pid, 30, "the next worker")
    with endless_requests(server, 1):
        assert server.get("/pid", timeout=30).text != pid
    assert "was sent SIG" not in server.log_text()
