"""Logging beyond files: syslog and statsd."""

import contextlib
import os
import re
import signal
import socket
import threading

import pytest

from harness import PATIENCE, free_port, wait_for


class Daemon:
    """Takes what is sent: datagrams, or of streams the lines."""

    def __init__(self, address, kind=socket.SOCK_DGRAM):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, kind)
        self.sock.bind(address)
        self.got = []
        if kind == socket.SOCK_STREAM:
            self.sock.listen()
        threading.Thread(target=self._accept if kind == socket.SOCK_STREAM else self._receive, daemon=True).start()

    def _receive(self):
        with contextlib.suppress(OSError):
            while data := self.sock.recv(65536):
                self.got.append(data)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._lines, args=[self.sock.accept()[0]], daemon=True).start()

    def _lines(self, conn):
        with conn, conn.makefile("rb") as f:
            for line in f:
                self.got.append(line.rstrip(b"\n"))

    def wait(self, pattern, seconds=10, count=1):
        """The first messages that match, as text."""

        def found():
            texts = [data.decode(errors="replace") for data in list(self.got)]
            texts = [text for text in texts if re.search(pattern, text)]
            return texts[:count] if len(texts) >= count else None

        try:
            return wait_for(found, seconds, pattern)
        except AssertionError:
            raise AssertionError("no %r in %r" % (pattern, self.got)) from None

    def metrics(self):
        return [line for data in list(self.got) for line in data.decode().split("\n")]

    def wait_metric(self, pattern):
        return wait_for(lambda: [m for m in self.metrics() if re.fullmatch(pattern, m)], what=pattern)[0]

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@pytest.fixture
def daemon():
    daemons = []

    def start(address, kind=socket.SOCK_DGRAM):
        daemons.append(Daemon(address, kind))
        return daemons[-1]

    yield start
    for d in daemons:
        d.close()


# ---- syslog ----


def test_syslog(serve, daemon):
    """Both logs, in gunicorn's shape; a traceback is one message."""
    port = free_port()
    d = daemon(("127.0.0.1", port))
    server = serve("serve_cases", syslog=True, syslog_addr="udp://localhost:%d" % port, access_log_format="%(m)s %(U)s %(s)s")
    (line,) = d.wait("Starting greenicorn")
    assert line.startswith("<14>gunicorn.serve_cases.error: [%d] Starting" % server.process.pid)
    d.wait("Worker ready")
    server.get("/fail")
    (line,) = d.wait("Error handling request")
    assert line.startswith("<11>gunicorn.serve_cases.error: [%d] Error handling request GET /fail\n" % server.worker())
    assert line.endswith("RuntimeError: as asked")
    (line,) = d.wait("access")
    assert line == "<14>gunicorn.serve_cases.access: [%d] GET /fail 500" % server.worker()
    server.stop()
    d.wait("Shutting down: Master")


def test_syslog_settings(serve, daemon, tmp_path):
    path, log = str(tmp_path / "s"), tmp_path / "access"
    d = daemon(path)
    server = serve(
        "serve_cases", syslog=True, syslog_addr="unix://" + path, syslog_prefix="my:app", syslog_facility="LOCAL3",
        disable_redirect_access_to_syslog=True, accesslog=str(log),
    )  # fmt: skip
    (line,) = d.wait("Listening")
    assert line.startswith("<158>gunicorn.my:app.error: [")
    server.get("/a")
    wait_for(lambda: "/a" in log.read_text())
    server.stop()
    assert not any(b".access" in data for data in d.got)


@pytest.mark.parametrize("kind", ["tcp", "unix", "unix#stream"])
def test_syslog_streams(serve, daemon, tmp_path, kind):
    """A line a message; after the daemon has come back, too."""
    address = ("127.0.0.1", free_port()) if kind == "tcp" else str(tmp_path / "s")
    url = "tcp://127.0.0.1:%d" % address[1] if kind == "tcp" else "unix://" + address + kind[4:]
    d = daemon(address, socket.SOCK_STREAM)
    server = serve("serve_cases", syslog=True, syslog_addr=url, access_log_format="%(U)s")
    d.wait("Worker ready")
    server.get("/fail")
    d.wait(r"^<11>gunicorn\.serve_cases\.error: \[\d+\] RuntimeError: as asked$")
    (line,) = d.wait("access")
    assert re.fullmatch(r"<14>gunicorn\.serve_cases\.access: \[\d+\] /fail", line)
    server.stop()
    d.wait("Shutting down: Master")


def test_syslog_daemon_comes_and_goes(serve, daemon, tmp_path):
    """The server neither waits for it nor fails without it; what is said meanwhile is lost."""
    path = str(tmp_path / "s")
    server = serve("serve_cases", syslog=True, syslog_addr="unix://" + path, access_log_format="%(U)s")
    server.wait_log("syslog: lines are lost")
    assert server.get("/a").status == 200
    d = daemon(path)
    server.get("/b")
    d.wait("access.* /b$")
    d.close()
    os.unlink(path)
    assert server.get("/c").status == 200
    d = daemon(path)
    server.get("/d")
    d.wait("access.* /d$")


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"syslog_addr": "localhost:514"}, "syslog_addr: expected udp://HOST:PORT"),
        ({"syslog_facility": "local8"}, "syslog_facility: expected user"),
    ],
)
def test_syslog_mistakes(serve, settings, text):
    server = serve("serve_cases", wait=False, syslog=True, **settings)
    assert server.process.wait(20 * PATIENCE) == 1
    assert text in server.log_text()


def test_syslog_host_that_is_unknown(serve):
    server = serve("serve_cases", syslog=True, syslog_addr="udp://no.such.host.invalid:514")
    server.wait_log(r"\[WARNING\] .*syslog_addr: udp://no.such.host.invalid:514: unknown host")
    assert server.get("/a").status == 200


# ---- statsd ----


def test_statsd(serve, daemon):
    port = free_port()
    d = daemon(("127.0.0.1", port))
    server = serve(
        "serve_cases", workers=2, statsd_host="127.0.0.1:%d" % port, enable_backlog_metric=True, accesslog=None
    )
    d.wait_metric(r"gunicorn\.workers:2\|g")
    d.wait_metric(r"gunicorn\.backlog:0\|h")
    server.get("/fail")
    d.wait_metric(r"gunicorn\.requests:1\|c\|@1\.0")
    d.wait_metric(r"gunicorn\.request\.status\.500:1\|c\|@1\.0")
    d.wait_metric(r"gunicorn\.request\.duration:\d+\.\d{3}\|ms")
    d.wait_metric(r"gunicorn\.log\.exception:1\|c\|@1\.0")
    with server.connect() as conn:
        conn.send("BROKEN\r\n\r\n")
        conn.rest()
    wait_for(lambda: "gunicorn.log.warning:1|c|@1.0" in d.metrics())
    server.signal(signal.SIGTTIN)
    d.wait_metric(r"gunicorn\.workers:3\|g")


def test_statsd_prefix_and_tags(serve, daemon, tmp_path):
    path = str(tmp_path / "s")
    d = daemon(path)
    server = serve("serve_cases", statsd_host="unix://" + path, statsd_prefix="my.app..", dogstatsd_tags="env:test,a:b")
    server.get("/a")
    d.wait_metric(r"my\.app\.gunicorn\.requests:1\|c\|@1\.0\|#env:test,a:b")
    d.wait_metric(r"my\.app\.gunicorn\.workers:1\|g\|#env:test,a:b")


def test_statsd_counts_every_request(serve, daemon):
    """Several in a packet, none lost as long as the daemon reads."""
    port = free_port()
    d = daemon(("127.0.0.1", port))
    server = serve("serve_cases", statsd_host="127.0.0.1:%d" % port)
    with server.connect() as conn:
        for _ in range(10):
            conn.send(b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n" * 50)
            for _ in range(50):
                conn.response()
    wait_for(lambda: d.metrics().count("gunicorn.requests:1|c|@1.0") == 500)
    assert d.metrics().count("gunicorn.request.status.200:1|c|@1.0") == 500
    assert all(len(data) <= 1432 for data in d.got)


def test_statsd_that_is_dead(serve):
    server = serve("serve_cases", statsd_host="127.0.0.1:%d" % free_port())
    for _ in range(5):
        assert server.get("/a").status == 200
    assert "statsd" not in server.log_text()
