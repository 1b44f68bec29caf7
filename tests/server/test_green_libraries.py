"""gevent, eventlet and greenlet inside requests, and monkey patches that do nothing."""

import os
import re

import pytest

import harness
from bursts import burst, numbers
from harness import needs, wait_for

N, WAIT = 50, 0.2
OVERLAP = 4  # times faster than one after another, at least

CASES = [
    "gevent_sleep", "gevent_spawn", "gevent_pool", "gevent_queue", "gevent_timeout", "gevent_event_result",
    "gevent_threadpool", "gevent_subprocess", "gevent_socket",
    "blocking_beside_gevent", "unpatched", "greenlets",
    "eventlet_sleep", "eventlet_pool", "eventlet_queue", "eventlet_timeout", "eventlet_unpatched",
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


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_hubs_end_with_their_threads(server, library):
    """A burst makes a hub for each thread; when the pool shrinks the hubs and their descriptors go, too."""
    needs(library)
    pid = server.worker()
    burst(server, ["/%s_sleep?n=%d" % (library, i) for i in range(300)], 60)
    widest = descriptors(pid)
    assert widest > 300
    wait_for(lambda: descriptors(pid) < widest / 2, 60, "the end of their descriptors")


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
        "import eventlet; eventlet.monkey_patch(os=False)",
        "import eventlet.patcher; eventlet.patcher.monkey_patch()",
    ],
)
def test_ways_to_patch(serve, tmp_path, line):
    needs("gevent")
    if "eventlet" in line:
        needs("eventlet")
    (tmp_path / "patched.py").write_text(line + "\nfrom hello import app\nimport socket, threading, time, ssl\n"
        "assert socket.socket.__module__ == 'socket' and 'gevent' not in repr(threading.Lock)\n"
        "assert time.sleep.__module__ == 'time'\n")  # fmt: skip
    server = serve("patched:app", pythonpath="%s,%s" % (tmp_path, harness.APPS))
    assert server.get("/").status == 200
    assert "did nothing: it is not needed here" in server.log_text()
