"""Logging beyond files: syslog and statsd."""

import contextlib
import json
import os
import re
import signal
import socket
import threading

import pytest

from harness import PATIENCE, free_port, needs, wait_for


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


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("kind", ["tcp", "unix", "unix#stream"])
def test_syslog_streams(serve, daemon, tmp_path, kind, preload):
    """A line a message."""
    address = ("127.0.0.1", free_port()) if kind == "tcp" else str(tmp_path / "s")
    url = "tcp://127.0.0.1:%d" % address[1] if kind == "tcp" else "unix://" + address + kind[4:]
    d = daemon(address, socket.SOCK_STREAM)
    server = serve("serve_cases", syslog=True, syslog_addr=url, access_log_format="%(U)s", preload_app=preload)
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


# ---- Python's logging ----

PREFIX = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[%d\] \[%s\] "


def test_loggers_of_gunicorn(serve):
    """What an application writes to them is in the error log, in its format, from its level on."""
    server = serve("logging_app", loglevel="info", wait=False)
    server.wait_log("Worker ready")
    pid = server.worker()
    server.get("/log?one")
    server.wait_log(PREFIX % (pid, "INFO") + "one$")
    server.wait_log(PREFIX % (pid, "WARNING") + "server one$")
    server.wait_log(PREFIX % (pid, "ERROR") + "part one$")
    assert "not at this level" not in server.log_text()


def test_loggers_write_to_syslog(serve, daemon):
    port = free_port()
    d = daemon(("127.0.0.1", port))
    server = serve("logging_app", syslog=True, syslog_addr="udp://127.0.0.1:%d" % port)
    server.get("/log?one")
    assert d.wait("server one")[0] == "<12>gunicorn.logging_app.error: [%d] server one" % server.worker()


def test_filter_of_the_application(serve, tmp_path):
    """A filter on gunicorn.access decides, and its records have gunicorn's atoms."""
    log = tmp_path / "access"
    form = '%(m)s "%(U)s" %(s)s %({user-agent}i)s %({none}o)s %(in_flight)s %(D)d %(nonsense)s'
    server = serve("logging_app", env={"LOGGING_CASE": "filter"}, accesslog=str(log), access_log_format=form)
    with server.connect() as conn:
        for path in ("/a", "/health", "/fail", "/b%22%25"):
            conn.get(path, [("User-Agent", 'u"1')])
            conn.response()
            if path == "/fail":
                conn.close()
                conn.__init__(("127.0.0.1", server.port))
    lines = wait_for(lambda: log.exists() and len(x := log.read_text().splitlines()) >= 2 and x)
    assert [re.sub(r"\d+ -$", "D -", line) for line in lines] == [
        'GET "/a" 200 u\\"1 - 1 D -',
        'GET "/b\\"%" 200 u\\"1 - 1 D -',
    ]


@pytest.mark.parametrize("worker_class", ["gevent", "gthread", "sync"])
def test_formatter_of_the_application(serve, worker_class):
    """The server's own lines, tracebacks too, go through a formatter that is set on gunicorn's handler."""
    server = serve("logging_app", env={"LOGGING_CASE": "formatter"}, worker_class=worker_class)
    server.get("/fail")
    (line,) = server.wait_log(r'^\{"level".*Error handling request.*$')
    pid = server.worker()
    assert json.loads(line) == {
        "level": "ERROR", "message": "Error handling request GET /fail", "pid": pid, "exception": "RuntimeError('as asked')"
    }  # fmt: skip
    with server.connect() as conn:
        conn.send("BROKEN\r\n\r\n")
        conn.rest()
    (line,) = server.wait_log(r'^\{"level": "WARNING".*Invalid request.*$')
    assert json.loads(line)["pid"] == pid


def test_level_of_the_application(serve):
    server = serve("logging_app", env={"LOGGING_CASE": "level"})
    pid = server.worker()
    with server.connect() as conn:
        conn.send("BROKEN\r\n\r\n")
        conn.rest()
    server.get("/fail")
    server.wait_log(PREFIX % (pid, "ERROR") + "Error handling request")
    assert "Invalid request" not in server.log_text()


def test_disabled_by_the_application(serve, tmp_path):
    """disable_existing_loggers is for the access log as with gunicorn, but not for the error log."""
    log = tmp_path / "access"
    server = serve("logging_app", env={"LOGGING_CASE": "disable"}, accesslog=str(log))
    server.get("/fail")
    server.wait_log(PREFIX % (server.worker(), "ERROR") + "Error handling request")
    server.stop()
    assert log.read_text() == ""


def test_access_logger_elsewhere(serve, tmp_path):
    """What an OS thread of the application's writes is there as well; a forked child has no access log."""
    log = tmp_path / "access"
    server = serve("logging_app", accesslog=str(log), access_log_format="%(U)s")
    server.get("/access")
    wait_for(lambda: sorted(log.read_text().splitlines()) == ["/access", "by a thread"])
    server.wait_log("by a child")
    server.stop()
    assert len(log.read_text().splitlines()) == 2


CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "%(name)s|%(levelname)s|%(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "formatter": "short", "filename": "FILE"}},
    "loggers": {
        name: {"handlers": ["file"], "level": "INFO", "propagate": False}
        for name in ("gunicorn.error", "gunicorn.access", "file")
    },
}

INI = """
[loggers]
keys=root,error,access
[handlers]
keys=file
[formatters]
keys=short
[logger_root]
level=WARNING
handlers=
[logger_error]
level=INFO
handlers=file
propagate=0
qualname=gunicorn.error
[logger_access]
level=INFO
handlers=file
propagate=0
qualname=gunicorn.access
[handler_file]
class=FileHandler
formatter=short
args=('%(here)s/python.log',)
[formatter_short]
format=%(name)s|%(levelname)s|%(message)s
"""


@pytest.mark.parametrize("way", ["logconfig", "logconfig_dict", "logconfig_json", "preload_app"])
def test_logconfig(serve, tmp_path, way):
    """Lines of a worker go where the configuration has its loggers write."""
    log, settings = tmp_path / "python.log", {}
    text = json.dumps(CONFIG).replace("FILE", str(log))
    if way == "logconfig":
        (tmp_path / "log.ini").write_text(INI)
        settings["logconfig"] = str(tmp_path / "log.ini")
    elif way == "logconfig_json":
        (tmp_path / "log.json").write_text(text)
        settings["logconfig_json"] = str(tmp_path / "log.json")
    else:
        settings["logconfig_dict"] = text
        settings["preload_app"] = way == "preload_app"
    server = serve("logging_app", access_log_format="%(m)s %(U)s %(s)s", **settings)
    server.get("/fail")
    server.get("/log?one")
    wait_for(lambda: "GET /log" in log.read_text())
    lines = log.read_text().splitlines()
    assert any(re.fullmatch(r"gunicorn\.error\|INFO\|Worker ready \(pid: \d+\)", line) for line in lines)
    assert "gunicorn.error|ERROR|Error handling request GET /fail" in lines
    assert "RuntimeError: as asked" in lines
    assert "gunicorn.access|INFO|GET /fail 500" in lines
    assert "gunicorn.error|INFO|one" in lines or "application|INFO|one" in lines
    text = server.log_text()
    assert "Error handling" not in text and "Listening at" in text  # the master's own lines stay


@pytest.mark.parametrize("installed", [False, True])
def test_logger_class(serve, tmp_path, installed):
    """As people write them for gunicorn, whether it is installed in the worker's Python or not."""
    log, conf, folder = tmp_path / "access", tmp_path / "gunicorn.conf.py", tmp_path / "first"
    folder.mkdir()
    if installed:
        needs("gunicorn")
    else:
        (folder / "gunicorn.py").write_text("raise ImportError('hidden')\n")
    conf.write_text(
        "import logging\n"
        "from gunicorn import glogging\n"
        "class HealthLogger(glogging.Logger):\n"
        "    def setup(self, cfg):\n"
        "        super().setup(cfg)\n"
        "        self.access_log.addFilter(lambda record: '/health' not in record.getMessage() and cfg.accesslog)\n"
        "    def atoms(self, *args):\n"
        "        return {}\n"
    )
    server = serve(
        "logging_app", logger_class="%s:HealthLogger" % conf, accesslog=str(log), access_log_format="%(U)s",
        pythonpath=str(folder),
    )  # fmt: skip
    server.wait_log(r"\[WARNING\] logger_class: .*HealthLogger does not get to call atoms$")
    for path in ("/health", "/a"):
        server.get(path)
    wait_for(lambda: log.exists() and log.read_text().splitlines() == ["/a"])


@pytest.mark.parametrize(
    "settings, error",
    [
        ({"logger_class": "no.such.Logger"}, "logger_class: No module named 'no'"),
        ({"logconfig": "/nonexistent/log.ini"}, "logconfig: no such file: /nonexistent/log.ini"),
        ({"logconfig_json": "/nonexistent/log.json"}, "logconfig_json: .*No such file"),
        ({"logconfig_dict": '{"handlers": {"h": {"class": "no.Such"}}}'}, "logconfig_dict: Unable to configure handler 'h': .+"),
    ],
)
def test_logconfig_mistakes(serve, settings, error):
    server = serve("logging_app", wait=False, **settings)
    assert server.process.wait(20 * PATIENCE) == 3
    server.wait_log(r"\[ERROR\] " + error)
    assert "Traceback" not in server.log_text()


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"logconfig": "/nonexistent/log.ini"}, "logconfig: no such file"),
        ({"accesslog": "-", "access_log_format": "%(h"}, "access_log_format: "),
    ],
)
def test_check_config(serve, settings, text):
    server = serve("logging_app", wait=False, args=["--check-config"], **settings)
    assert server.process.wait(20 * PATIENCE) == 1
    assert text in server.log_text()


# ---- files ----


def test_capture_output(serve, tmp_path):
    """Lines come at once, and go to the new file after SIGUSR1."""
    log = tmp_path / "errors"
    server = serve("logging_app", wait=False, capture_output=True, errorlog=str(log))
    wait_for(lambda: log.exists() and "Worker ready" in log.read_text())
    server.get("/print?one")
    wait_for(lambda: "out one\n" in log.read_text() and "err one\n" in log.read_text())
    log.rename(tmp_path / "old")
    server.signal(signal.SIGUSR1)
    wait_for(log.exists)

    def captured():
        server.get("/print?two")
        return "out two\n" in log.read_text() and "err two\n" in log.read_text()

    wait_for(captured)


def test_reload_rereads(serve, tmp_path, daemon):
    """HUP: level, files, format, and what goes to syslog and statsd."""
    one, two = tmp_path / "one", tmp_path / "two"
    d = daemon(str(tmp_path / "daemon"))
    server = serve("logging_app", loglevel="info", accesslog=str(one), access_log_format="A %(U)s", wait=False)
    server.wait_log("Worker ready")
    server.get("/a")
    wait_for(lambda: one.exists() and one.read_text() == "A /a\n")
    server.write_config(loglevel="debug", accesslog=str(two), access_log_format="B %(U)s", syslog=True, syslog_addr="unix://" + str(tmp_path / "daemon"))
    server.signal(signal.SIGHUP)
    server.wait_log("Worker exiting")
    server.get("/log?x")
    wait_for(lambda: two.exists() and two.read_text() == "B /log\n")
    server.wait_log(r"\[DEBUG\] not at this level")
    assert one.read_text() == "A /a\n"
    assert d.wait("access")[0].endswith("B /log")
    server.stop()
    d.wait("Shutting down: Master")


@pytest.mark.parametrize("way", ["native", "python"])
def test_rotation_loses_no_line(serve, tmp_path, way):
    """Files are renamed under load, SIGUSR1 follows: each request has its line, once, in one of them."""
    log, settings = tmp_path / "access.log", {}
    if way == "python":
        settings["logconfig_dict"] = json.dumps(CONFIG).replace("FILE", str(log))
    else:
        settings["accesslog"] = str(log)
    server = serve("logging_app", workers=2, access_log_format="%(q)s", **settings)
    done, sent = threading.Event(), []

    def client(name):
        with server.connect(60) as conn:
            i = 0
            while not done.is_set():
                conn.get("/?%s.%d" % (name, i))
                sent.append("%s.%d" % (name, i))
                conn.response()
                i += 1

    clients = [threading.Thread(target=client, args=[name]) for name in "abcd"]
    for thread in clients:
        thread.start()
    files = []
    for i in range(5):
        files.append(log.rename(tmp_path / ("access.log.%d" % i)))
        server.signal(signal.SIGUSR1)
        wait_for(log.exists)
        before = len(sent)
        wait_for(lambda: len(sent) > before + 50)
    done.set()
    for thread in clients:
        thread.join(60 * PATIENCE)
    server.stop()
    lines = [line.split("|")[-1] for file in [*files, log] for line in file.read_text().splitlines()]
    lines = [line for line in lines if re.fullmatch(r"[abcd]\.\d+", line)]
    assert sorted(lines) == sorted(sent) and len(sent) > 250
