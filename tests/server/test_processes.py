"""Processes that requests make: in every way, fifty at once, with nothing of the worker's, and none left over."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

import harness
from harness import children_of, wait_for
from bursts import burst, numbers

N = 50
FEW = 1 if harness.SANITIZED else 4  # forks beside multiprocessing's own threads: see below


@pytest.fixture(scope="module", params=["", "SIGCHLD"], ids=["plain", "sigchld"])
def the_server(request, tmp_path_factory):
    """Also with an application that has a handler for SIGCHLD: it interrupts whatever waits."""
    folder = tmp_path_factory.mktemp("processes")
    server = harness.Server(folder, "process_cases:app", env={"TEST_SIGCHLD": request.param})
    # gcc 12's AddressSanitizer does not survive a fork beside a thread that begins: have them all.
    burst(server, ["/wait?n=%d" % i for i in range(N)])
    yield server
    server.finish()


@pytest.fixture
def server(the_server):
    """The same worker for all, without children or zombies before and after each."""
    pid = the_server.worker()
    yield the_server
    assert the_server.get("/").text == str(pid)
    wait_for(lambda: not [c for c in children_of(pid) if not is_helper(c)], what="the end of all children")


def is_helper(pid):
    """multiprocessing's own, which stay: the tracker of resources, and the server that forks."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return b"multiprocessing" in f.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "case",
    [
        "pipes", "conversation", "shell", "timeouts", "poll", "preexec", "group", "fork_exec", "spawn", "posix_spawn",
        "system_and_popen", "several", "waitid", "pidfd", "stopped", "terminal", "terminal_pair",
    ],
)  # fmt: skip
def test_fifty_at_once(server, case):
    results, _ = burst(server, ["/%s?n=%d" % (case, i) for i in range(N)], 60)
    assert results == numbers(N)


@pytest.mark.parametrize(
    "case, n",
    [
        ("any_child", 1), ("burst", 10), ("mp_spawn", 2), ("mp_forkserver", 2), ("executor", 2),
        ("mp_fork", FEW), ("mp_manager", FEW), ("mp_memory", FEW),
    ],
)  # fmt: skip
def test_a_few_at_once(server, case, n):
    results, _ = burst(server, ["/%s?n=%d" % (case, i) for i in range(n)], 60)
    assert results == numbers(n), server.log_text()[-4000:]


def test_the_application_hears_of_its_children(server):
    if not server.env["TEST_SIGCHLD"]:
        pytest.skip("it has no handler")
    before = int(server.get("/caught?n=0").text)
    server.get("/burst?n=0")
    wait_for(lambda: int(server.get("/caught?n=0").text) > before, what="SIGCHLD's handler")


@pytest.fixture(scope="module")
def plain_python():
    """What the children of a python3 have: descriptors and signals by way of making them."""
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    text = subprocess.check_output([sys.executable, "process_cases.py"], cwd=harness.APPS, env=env, stdin=subprocess.DEVNULL)
    return json.loads(text)


def inherited(text):
    """Its signals, by name of the field, but for libc's own; what its descriptors from 3 on are."""
    signals = {name: int(mask, 16) & 0x7FFFFFFF for name, mask in re.findall(r"^(Sig(?:Blk|Ign|Cgt)):\t(\w+)$", text, re.M)}
    found = {int(fd): target for fd, target in re.findall(r"(\d+) -> (.*)$", text, re.M)}
    assert set(signals) == {"SigBlk", "SigIgn", "SigCgt"} and {0, 1, 2} <= set(found), text
    return signals, [target for fd, target in found.items() if fd > 2 and not target.startswith("/proc/")]


IGNORED_BY_PYTHON = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1


@pytest.mark.parametrize("way", ["fork", "subprocess", "preexec", "posix_spawn", "system", "popen"])
def test_children_have_nothing_of_the_worker(serve, plain_python, way, tmp_path):
    """Not its sockets, nor its epoll set, nor other connections: what a python3's child has."""
    server = serve("process_cases:app", accesslog=str(tmp_path / "access.log"))
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(100)]
        idle[0].send("GET / HTTP/1.1\r\n")
        for connection in idle[1:]:
            connection.get("/")
            connection.response()
        text = server.get("/inherit/" + way).text
    assert re.search("^0$", text, re.M), "it has the scoreboard"
    signals, descriptors = inherited(text)
    plain_signals, plain_descriptors = inherited(plain_python[way])
    assert [re.sub("[0-9]+", "", d) for d in descriptors] == [re.sub("[0-9]+", "", d) for d in plain_descriptors]
    if way == "system":  # a shell and what it starts expect them so; python3's os.system leaves them ignored
        plain_signals["SigIgn"] &= ~IGNORED_BY_PYTHON
    if way == "fork":  # the application's handlers, and those of faulthandler; not the worker's
        ours = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1]
        assert [s for s in ours if signals["SigCgt"] >> s - 1 & 1] == []
        del signals["SigCgt"], plain_signals["SigCgt"]
    assert signals == plain_signals


def test_a_childs_signals_are_its_own(server):
    assert server.get("/own_signals").text == "child: 1, worker: 0"


def test_a_child_does_not_keep_the_connection(server):
    """The client sees the end of it while the child goes on; and nothing that the child does gets there."""
    with server.connect() as c:
        c.get("/lingers", close=True)
        child = int(c.response().text)
        assert c.is_closed(10)
    os.kill(child, signal.SIGKILL)
    assert server.get("/reap/%d" % child).text == "-9"  # it was there
    with server.connect() as c:
        c.send("POST /writes_elsewhere HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        assert c.response().text == "OSError OSError"


def test_a_child_does_not_keep_the_address(serve):
    server = serve("process_cases:app")
    child = int(server.get("/lingers").text)
    try:
        assert server.stop() == 0
        os.kill(child, 0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 5)
    finally:
        os.kill(child, signal.SIGKILL)
