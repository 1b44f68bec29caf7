"""The application's own threads beside requests: they wait for each other both ways, and end as threads do."""

import os
import re
import shutil
import subprocess

import pytest

import harness
from harness import wait_for
from bursts import Client, burst, numbers

N = 50
OTHERS = 10  # entries in threading: its own threads, and those of requests that have no value in LOCAL


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A C library that makes threads."""
    path = str(tmp_path_factory.mktemp("library") / "c_threads.so")
    source = os.path.join(harness.APPS, "c_threads.c")
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", "-pthread", "-o", path, source], check=True)
    return path


@pytest.fixture(scope="module")
def the_server(tmp_path_factory, library):
    server = harness.Server(tmp_path_factory.mktemp("threads"), "thread_cases:app", env={"TEST_LIBRARY": library})
    yield server
    server.finish()


@pytest.fixture
def server(the_server):
    pid = the_server.worker()
    yield the_server
    assert the_server.get("/").text == str(pid)


@pytest.mark.parametrize(
    "case",
    [
        "locks", "rlocks", "queues", "events", "conditions", "barriers", "semaphores", "joins", "executors", "futures",
        "coroutines", "coroutine_waits_for_request", "names",
        "c_calls_back", "c_condition", "c_semaphore", "c_join", "c_pipe",
    ],
)  # fmt: skip
def test_fifty_at_once(server, case):
    results, _ = burst(server, ["/%s?n=%d" % (case, i) for i in range(N)], 60)
    assert results == numbers(N)


@pytest.mark.parametrize(
    "path, name",
    [
        ("/plain", "GET /plain"),
        ("/a?secret=b", "GET /a"),
        ("/%0a%22%1b[31m%s", "GET /%0a%22%1b[31m%s"),
        ("/" + 75 * "x", "GET /" + 75 * "x"),
        ("/" + 76 * "x", "GET /" + 72 * "x" + "..."),
        ("http://test/absolute?q", "GET /absolute"),
    ],
)
def test_names(server, path, name):
    """A name lasts as long as its request, on one connection and one thread, too."""
    with server.connect() as c:
        for asked, answer in [("/before", "GET /before"), (path, name), ("/", None)]:
            c.get(asked)
            assert c.response().text == (answer or str(server.worker()))


def test_calls_that_wait_for_the_main_thread(server):
    assert server.get("/pending_calls?n=1", timeout=30).text == "1"


def test_the_native_thread_is_the_loops(server):
    native, pid = server.get("/native_id").text.split()
    assert native == pid == str(server.worker())


def test_exceptions_of_threads(server):
    assert server.get("/excepthook").text == "[('KeyError', 'fails')]"


def test_what_ends_with_a_thread(serve):
    """The values of threading.local, and what current_thread() made: none for threads that are gone."""
    server = serve("thread_cases:app")

    def counts():
        return [int(n) for n in server.get("/counts").text.split()]

    for _ in range(2):  # the second time with numbers of threads, get_ident(), that have been used
        client = Client(server, ["/gate?n=%d" % i for i in range(200)])
        wait_for(lambda: counts()[0] == 200, 20, "all requests")
        _, lives, active = counts()
        assert 200 <= lives and active <= lives + OTHERS
        assert server.get("/gate_open").text == "open"
        assert client.results(30 * harness.PATIENCE)[0] == numbers(200)
    wait_for(lambda: counts()[1] < 100, 40, "the end of idle threads, and of what is theirs")
    _, lives, active = counts()
    assert active <= lives + OTHERS


def test_settrace_and_setprofile(serve, library):
    server = serve("thread_cases:app", env={"TEST_LIBRARY": library, "TEST_TRACE": "1"})
    assert server.get("/traced").text == "True True"


@pytest.fixture
def ending(serve, tmp_path):
    """A server, and a function: what was noted in the end."""
    notes = tmp_path / "notes"

    def start(**settings):
        return serve("thread_cases:app", env={"TEST_NOTES": str(notes)}, **settings)

    return start, lambda: notes.read_text() if notes.exists() else ""


@pytest.mark.parametrize("path, count", [("/starts/work", 1), ("/starts/work%20nodaemon", 1), ("/submits", 2)])
def test_threads_end_before_the_worker(ending, path, count):
    """Those that are no daemons, which a request's are not unless it says so; tasks that wait in a pool."""
    start, noted = ending
    server = start()
    server.get(path)
    assert server.stop() == 0
    assert noted() == count * "worked\n"
    assert "graceful timeout" not in server.log_text()


@pytest.mark.parametrize("what", ["endless", "busy"])
def test_daemons_are_left_behind(ending, what):
    start, _ = ending
    server = start()
    server.get("/starts/%s%%20daemon" % what)
    assert server.stop() == 0
    assert "graceful timeout" not in server.log_text()


@pytest.mark.parametrize("what", ["endless", "busy"])
def test_a_thread_without_end_does_not_hold_the_stop(ending, what):
    start, _ = ending
    server = start(graceful_timeout=1)
    server.get("/starts/" + what)
    assert server.stop() == 0
    # The worker says so; on a machine that is very busy the master may come first.
    assert re.search("Worker graceful timeout|was sent SIGKILL", server.log_text())
