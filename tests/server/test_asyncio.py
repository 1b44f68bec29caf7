"""asyncio inside requests: fifty loops at once in one worker."""

import os

import pytest

import harness
import services
from bursts import burst, numbers
from harness import needs, wait_for

N, WAIT = 50, 0.2
OVERLAP = 2  # times faster than one after another, at least

CASES = [
    "many_tasks", "executor", "to_thread", "timeouts", "cancelled", "runner", "streams", "tls_streams",
    "subprocess_exec", "subprocess_kill", "getaddrinfo",
    "blocking_in_a_coroutine", "recv_in_a_coroutine",
    "loops_are_apart", "one_loop_kept", "to_sync", "to_async_beside", "signal_handlers",
    "flask_async_view", "django/view", "aiohttp_client", "aiosqlite_function", "aiosqlite_sqlalchemy",
    "uvloop_sleep", "uvloop_streams", "uvloop_executor",
]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    file, _ = services.certificate(tmp_path_factory.mktemp("certificate"))
    return {"TEST_CERTIFICATE": file, "TEST_KEY": os.path.join(os.path.dirname(file), "key.pem")}


@pytest.fixture(scope="module")
def server(tmp_path_factory, environment):
    server = harness.Server(tmp_path_factory.mktemp("asyncio"), "asyncio_cases:app", env=environment)
    yield server
    server.finish()


@pytest.mark.parametrize("case", CASES)
def test_fifty_at_once(server, case):
    for library in ("uvloop", "aiohttp", "aiosqlite"):
        if case.startswith(library):
            needs(library)
    results, took = burst(server, ["/%s?n=%d" % (case, i) for i in range(N)])
    assert results == numbers(N)
    assert took < N * WAIT / OVERLAP * harness.PATIENCE


def test_a_sleep_of_0_is_a_turn_of_others(server):
    """They spin, so the time says nothing."""
    results, _ = burst(server, ["/turns?n=%d" % i for i in range(10)])
    assert results == numbers(10)


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def test_nothing_is_left(server):
    """Loops, their descriptors and executors' threads end with their requests."""
    pid = server.worker()
    burst(server, ["/many_tasks?n=%d" % i for i in range(N)])
    wait_for(lambda: descriptors(pid) < 60, 20)
    before = descriptors(pid)
    for case in ("many_tasks", "streams", "to_thread", "subprocess_exec"):
        burst(server, ["/%s?n=%d" % (case, i) for i in range(N)])
    wait_for(lambda: descriptors(pid) < before + 5, 20, "the end of descriptors")
