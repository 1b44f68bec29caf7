"""gevent, eventlet and greenlet inside requests, and monkey patches that do nothing."""

import os
import re
import signal
import time

import pytest

import harness
from bursts import burst, numbers
from harness import needs, wait_for

N, WAIT = 50, 0.2
OVERLAP = 2  # times faster than one after another, at least

CASES = [
    "gevent_sleep", "gevent_spawn", "gevent_pool", "gevent_queue", "gevent_timeout", "gevent_event_result",
    "gevent_threadpool", "gevent_subprocess", "gevent_socket", "gevent_resolver",
    "semaphore_of_all", "rlock_of_all", "pool_of_all", "threadpool_of_all", "result_of_two",
    "blocking_beside_gevent", "unpatched", "greenlets",
    "eventlet_sleep", "eventlet_pool", "eventlet_queue", "eventlet_timeout", "eventlet_threads", "eventlet_unpatched",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    needs("gevent")
    server = harness.Server(tmp_path_factory.mktemp("green"), "green_library_cases:app")
    yield server
    server.finish()


@pytest.mark.parametrize("case", CASES)
def test_fifty_at_once(server, case):
    if case.startswith("eventlet"):
        needs("eventlet")
    results, took = burst(server, ["/%s?n=%d" % (case, i) for i in range(N)])
    assert results == numbers(N)
    assert took < N * WAIT / OVERLAP * harness.PATIENCE


def test_the_log_says_that_patching_is_not_needed(server):
    said = re.findall(r"INFO\] gevent\.monkey\.patch_all\(\) did nothing: it is not needed here", server.log_text())
    assert len(said) == 1


def test_a_sleep_of_0_is_a_turn_of_others(server):
    """They spin, so the time says nothing."""
    results, _ = burst(server, ["/turns?n=%d" % i for i in range(10)])
    assert results == numbers(10)


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_hubs_end_with_their_requests(server, library):
    """Threads are kept for other requests, 64 of them for ever; hubs with their descriptors are not."""
    needs(library)
    pid = server.worker()
    burst(server, ["/%s_sleep?n=%d" % (library, i) for i in range(200)], 60)
    wait_for(lambda: descriptors(pid) < 60, 30, "the end of their descriptors")
    if library == "gevent":
        wait_for(lambda: int(server.get("/hubs").text) < 20, 30, "the end of hubs")


@pytest.mark.parametrize("library, path", [("gevent", "leave"), ("gevent", "leave_in_another"), ("eventlet", "eventlet_leave")])
def test_what_is_spawned_goes_on_after_the_response(server, library, path):
    needs(library)
    before = int(server.get("/left_behind").text)
    results, _ = burst(server, ["/%s?n=%d" % (path, i) for i in range(N)])
    assert results == numbers(N)
    wait_for(lambda: int(server.get("/left_behind").text) == before + N, 20, "the greenlets")
    wait_for(lambda: descriptors(server.worker()) < 60, 20, "the end of the hubs")


def test_what_goes_on_holds_up_neither_connections_nor_the_end(serve):
    needs("gevent")
    server = serve("green_library_cases:app", graceful_timeout=30)
    with server.connect() as c:
        for i in range(3):
            c.get("/leave_an_endless_one?n=%d" % i)
            assert c.response().text == str(i)
        c.get("/leave_an_endless_one?n=4", close=True)
        assert c.response().text == "4"
        assert c.is_closed()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10 * harness.PATIENCE
    assert "graceful timeout" not in server.log_text()


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_of_the_main_thread_run(serve, library):
    needs(library)
    server = serve("background_greenlets:app", env={"GREEN_LIBRARY": library})
    worker = server.worker()

    def counts():
        return [int(count) for count in server.get("/").text.split()]

    before = counts()[0]
    wait_for(lambda: counts()[0] > before + 10, 10, "their turns")
    os.kill(worker, signal.SIGUSR2)
    wait_for(lambda: counts()[1] == 1, 10, "the signal handler")
    before = counts()[0]
    wait_for(lambda: counts()[0] > before + 10, 10, "more turns")
    if library == "gevent":  # eventlet prints and goes on
        os.kill(worker, signal.SIGALRM)
        wait_for(lambda: worker not in server.workers(), 10, "the worker's end")
        server.wait_log(r"\): ready", 10, 2)
    assert server.stop() == 0
    assert "graceful timeout" not in server.log_text()


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_of_the_main_thread_do_not_run_when_preloaded(serve, library):
    """They belong to the thread that has loaded the application, which is in another process."""
    needs(library)
    server = serve("background_greenlets:app", env={"GREEN_LIBRARY": library}, preload_app=True, workers=2)
    assert server.get("/").status == 200
    for worker in server.ready_workers():
        os.kill(worker, signal.SIGUSR2)  # its handler runs, on the thread that has inherited a hub
    wait_for(lambda: server.get("/").text.endswith(" 1"), 10, "the signal handler")
    assert len(re.findall("INFO. preload_app: greenlets .* do not run in its workers", server.log_text())) == 1


def test_preloaded(serve):
    needs("gevent")
    server = serve("green_library_cases:app", preload_app=True, wait=False)
    server.wait_log("Worker ready", 30)
    results, _ = burst(server, ["/gevent_spawn?n=%d" % i for i in range(N)])
    assert results == numbers(N)


@pytest.mark.parametrize(
    "line",
    [
        "import gevent.monkey as m; m.patch_all(thread=False)",
        "from gevent.monkey import patch_all; patch_all()",
        "from gevent import monkey; monkey.patch_socket(); monkey.patch_thread(); monkey.patch_ssl()",
        "from psycogreen.gevent import patch_psycopg; patch_psycopg()",
        "import grpc.experimental.gevent as m; m.init_gevent()",
        "import eventlet; eventlet.monkey_patch(os=False)",
        "import eventlet.patcher; eventlet.patcher.monkey_patch()",
    ],
)
def test_ways_to_patch(serve, tmp_path, line):
    needs("gevent")
    for library in ("eventlet", "psycogreen.gevent", "grpc.experimental.gevent"):
        if library in line:
            needs(library)
    (tmp_path / "patched.py").write_text(line + "\nfrom hello import app\nimport socket, threading, time, ssl\n"
        "assert socket.socket.__module__ == 'socket' and 'gevent' not in repr(threading.Lock)\n"
        "assert time.sleep.__module__ == 'time'\n")  # fmt: skip
    server = serve("patched:app", pythonpath="%s,%s" % (tmp_path, harness.APPS))
    assert server.get("/").status == 200
    assert "did nothing: it is not needed here" in server.log_text()
