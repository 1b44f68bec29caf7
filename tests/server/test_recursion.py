"""Infinite recursion of a request is an error of that request; a crash says which request it was in."""

import re

import pytest

import harness
from test_overlap import burst


@pytest.fixture
def forms(serve):
    """A server, and the paths of the application that recurse."""
    server = serve("recursion_app:app", timeout=0)
    return server, server.get("/forms").text.split()


def test_every_form_of_recursion_is_an_error_of_the_request(forms):
    server, paths = forms
    pid = server.get("/").text
    for path in paths:
        before = server.log_text().count("RecursionError")
        assert (path, server.get(path, timeout=60).status) == (path, 500)
        assert server.log_text().count("RecursionError") > before, (path, server.log_text()[-2000:])
    assert "it has come to an end" not in server.log_text()
    assert server.get("/").text == pid


def test_fifty_requests_recurse_at_once(forms):
    server, _ = forms
    pid = server.get("/").text
    paths = ["/waits", "/function", "/dunder_getattr", "/json_loads", "/re_sub"] * 10
    results, _ = burst(server, paths, 60)
    assert [status for status, _ in results] == [500] * 50
    assert server.log_text().count("\nRecursionError") >= 50
    assert server.get("/").text == pid


class Crash:
    """A server that loses a worker to GET path; its log until a new worker is ready."""

    def __init__(self, folder, path, **settings):
        server = harness.Server(folder, "recursion_app:app", **settings)
        try:
            self.pid = server.worker()
            with server.connect() as other, server.connect() as connection:
                other.get("/wait")  # not the one that runs
                connection.get(path)
                with pytest.raises(harness.Closed):
                    connection.response()
            harness.wait_for(lambda: [pid for pid in server.ready_workers() if pid != self.pid], 30, "a new worker")
            assert server.get("/").status == 200
        finally:
            status = server.stop()
        assert status == 0
        self.log = server.log_text()
        self.lines = re.findall(r"^\[[-0-9]{10} [:0-9]{8} [-+]\d{4}\] \[%d\] \[CRITICAL\] (.*)$" % self.pid, self.log, re.M)
        self.signal = re.findall(r"Worker \(pid:%d\) was sent (SIG\w+)!" % self.pid, self.log)


@pytest.mark.parametrize("path", ["/partial_chain", "/map_chain", "/methodcaller"])
def test_an_overflow_of_the_stack_names_the_request_and_the_setting(tmp_path, path):
    crash = Crash(tmp_path, path)
    assert len(crash.lines) == 1, crash.log
    assert re.fullmatch(
        r"Worker crashed in GET %s: signal 11, SIGSEGV at 0x[0-9a-f]+: C stack overflow, beyond stack_size = %d"
        % (path, 8 << 20), crash.lines[0],
    )  # fmt: skip
    assert "Fatal Python error: Segmentation fault" in crash.log
    assert "recursion_app.py" in crash.log
    assert harness.SANITIZED or crash.signal == ["SIGSEGV"]


def test_a_smaller_stack_is_named_with_its_size(tmp_path):
    crash = Crash(tmp_path, "/map_chain?secret", stack_size="512k")
    assert crash.lines[0].startswith("Worker crashed in GET /map_chain: signal 11, SIGSEGV at 0x"), crash.log
    assert crash.lines[0].endswith(": C stack overflow, beyond stack_size = 524288")


@pytest.mark.parametrize(
    "path, cause",
    [
        ("/fault", r" in GET /fault: signal 11, SIGSEGV at 0x40"),
        ("/thread", r" outside of requests: signal 11, SIGSEGV at 0x40"),
        ("/segv", r" in GET /segv: signal 11, SIGSEGV, sent by pid \d+"),
        ("/bus", r" in GET /bus: signal 7, SIGBUS, sent by pid \d+"),
    ],
)
def test_a_crash_names_the_request(tmp_path, path, cause):
    crash = Crash(tmp_path, path)
    assert len(crash.lines) == 1, crash.log
    assert re.fullmatch("Worker crashed" + cause, crash.lines[0])
    assert "Fatal Python error: " in crash.log
    assert crash.signal != []
