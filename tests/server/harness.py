"""Starts what the tests need, on free ports in a temporary folder, and stops it by pid.

Server is the real greenicorn; Connection a client that sees every byte. PostgreSQL and
Redis are Debian's, private to the test session. Every wait has a deadline.
"""

import functools
import glob
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
APPS = os.path.join(ROOT, "tests", "apps")
BUILD = os.path.abspath(os.environ.get("GREENICORN_BUILD", os.path.join(ROOT, "build")))
# a virtual environment with what Debian has not: see dev
PACKAGES = os.environ.get("GREENICORN_PACKAGES", os.path.join(ROOT, "build", "packages"))
MASTER = os.path.join(BUILD, "master", "greenicorn")
WORKER = os.path.join(BUILD, "worker", "greenicorn-worker")
# A sanitizer makes everything slower: deadlines, never expectations, are stretched by it.
SANITIZED = "asan" in os.path.basename(BUILD)
PATIENCE = 4 if SANITIZED else 1


@functools.lru_cache
def embedded_has(module):
    """Whether the Python that the worker embeds can import it."""
    with open(os.path.join(BUILD, "meson-info", "intro-buildoptions.json")) as f:
        python = {option["name"]: option["value"] for option in json.load(f)}["python"]
    return subprocess.run([python, "-c", "import " + module], capture_output=True).returncode == 0


def needs(module):
    """Skip this test where the embedded Python has no such module."""
    if not embedded_has(module):
        pytest.skip("the worker's Python has no " + module)


def wait_for(condition, seconds=10, what="the condition"):
    """Call condition until it gives something true; that, or AssertionError after seconds."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, "%s did not come within %s s" % (what, seconds)
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stop_process(process, seconds=15, sig=signal.SIGTERM):
    """TERM, then KILL after a deadline; the exit status, or None when it had to be killed."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(seconds * PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def children_of(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(child) for child in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def value(setting):
    """A Python value as libconfig writes it."""
    if isinstance(setting, bool):
        return "true" if setting else "false"
    if isinstance(setting, (int, float)):
        return str(setting)
    if isinstance(setting, (list, tuple)):
        return "[ %s ]" % ", ".join(value(item) for item in setting)
    return '"%s"' % str(setting).replace("\\", "\\\\").replace('"', '\\"')


class Server:
    """greenicorn with a configuration file of its own.

    Settings are keyword arguments; app is the URI on the command line. It listens on
    127.0.0.1 at .port unless bind is given. The error log is .log (a file), standard
    output .stdout.
    """

    new_session = False  # away from a developer's terminal
    prefix = ()  # a command that runs the server

    def __init__(self, folder, app="hello:app", args=(), env=None, start=True, wait=True, **settings):
        self.folder = str(folder)
        self.app = app
        self.args = list(args)
        self.port = free_port()
        self.settings = {"bind": "127.0.0.1:%d" % self.port, "chdir": APPS, "loglevel": "debug", **settings}
        self.config = os.path.join(self.folder, "greenicorn.conf")
        self.log = os.path.join(self.folder, "error.log")
        self.stdout = os.path.join(self.folder, "stdout.log")
        self.env = dict(os.environ, GREENICORN_WORKER=WORKER, PYTHONDONTWRITEBYTECODE="1", **(env or {}))
        for name in ("VIRTUAL_ENV", "WEB_CONCURRENCY", "PORT", "GUNICORN_CMD_ARGS", "GREENICORN_CMD_ARGS"):
            if name not in (env or {}):
                self.env.pop(name, None)
        if SANITIZED:
            self.env.setdefault("PYTHONMALLOC", "malloc")
            # Python keeps what it has until the end; the C tests look for leaks.
            self.env["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1"
            self.env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
        self.process = None
        if start:
            self.start(wait)

    def write_config(self, **settings):
        self.settings.update(settings)
        with open(self.config, "w") as f:
            for name, setting in self.settings.items():
                if setting is not None:
                    f.write("%s = %s;\n" % (name, value(setting)))

    def start(self, wait=True):
        self.write_config()
        command = [*self.prefix, MASTER, "-c", self.config, *self.args]
        if self.app:
            command.append(self.app)
        with open(self.log, "ab") as log, open(self.stdout, "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=self.env, cwd=self.folder,
                start_new_session=self.new_session,
            )  # fmt: skip
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=20):
        """Until every worker has said that it is ready: the address takes connections before that."""

        def ready():
            assert self.process.poll() is None, "greenicorn ended:\n" + self.log_text()
            return len(self.ready_workers()) >= int(self.settings.get("workers", 1))

        wait_for(ready, seconds, "a ready worker")

    def ready_workers(self):
        """Workers that accept: pids of which the master's debug line says so, and that still live."""
        said = {int(pid) for pid in re.findall(r"\(pid (\d+)\): ready", self.log_text())}
        return sorted(said & set(self.workers()))

    def workers(self):
        return children_of(self.process.pid)

    def worker(self):
        pids = self.workers()
        assert len(pids) == 1, pids
        return pids[0]

    def signal(self, sig):
        self.process.send_signal(sig)

    def log_text(self):
        try:
            with open(self.log, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def log_lines(self):
        return self.log_text().splitlines()

    def wait_log(self, pattern, seconds=10, count=1):
        """Wait for the pattern in the error log; the matches found."""

        def found():
            matches = re.findall(pattern, self.log_text(), re.M)
            return matches if len(matches) >= count else None

        try:
            return wait_for(found, seconds, "log line %r" % pattern)
        except AssertionError as error:
            raise AssertionError("%s; the log:\n%s" % (error, self.log_text())) from None

    def stdout_text(self):
        with open(self.stdout, errors="replace") as f:
            return f.read()

    def connect(self, timeout=10):
        return Connection(("127.0.0.1", self.port), timeout)

    def get(self, path="/", headers=(), timeout=10):
        """One request on a connection of its own."""
        with self.connect(timeout) as c:
            c.get(path, headers, close=True)
            return c.response()

    def url(self, path="/"):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def stop(self, sig=None):
        """The master's exit status; None when it did not stop in time and was killed."""
        return stop_process(self.process, sig=sig or signal.SIGTERM)

    def finish(self):
        """Stop, and fail the test for what must never be: a crash, a sanitizer's report, a hang."""
        if self.process is None:
            return
        workers = self.workers()
        status = self.stop()
        text = self.log_text()
        for pid in workers:
            if os.path.exists("/proc/%d" % pid) and status is None:
                os.kill(pid, signal.SIGKILL)
        for sign in ("AddressSanitizer", "runtime error:", "SIGSEGV", "SIGABRT", "Fatal Python error"):
            assert sign not in text, "%s:\n%s" % (sign, text)
        assert status is not None, "greenicorn did not stop:\n" + text


class Response:
    def __init__(self, status, reason, version, headers, body, raw_head):
        self.status = status
        self.reason = reason
        self.version = version
        self.headers = headers  # list of (name, value)
        self.body = body
        self.raw_head = raw_head

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def text(self):
        return self.body.decode()


class Closed(Exception):
    """The server closed the connection where a response (or more of it) was expected."""


class Connection:
    """A client's connection: send any bytes, read responses with their framing, see the end."""

    def __init__(self, address, timeout=10):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout * PATIENCE)
        self.sock.connect(address)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def get(self, path="/", headers=(), close=False, method="GET", body=None):
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: test"]
        lines += ["%s: %s" % header for header in headers]
        if close:
            lines.append("Connection: close")
        if body is not None:
            lines.append("Content-Length: %d" % len(body))
        self.send("\r\n".join(lines) + "\r\n\r\n")
        if body is not None:
            self.send(body)

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            raise Closed("reset after %r" % self.buffer) from None
        if not data:
            raise Closed("closed after %r" % self.buffer)
        self.buffer += data

    def _until(self, mark):
        while mark not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def _exactly(self, n):
        while len(self.buffer) < n:
            self._more()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def _chunks(self):
        body = b""
        while True:
            size = int(self._until(b"\r\n"), 16)
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
            if size == 0:
                return body

    def head(self):
        """Read a response's head only: a Response without body."""
        raw = self._until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        version, status, reason = (lines[0] + " ").split(" ", 2)
        headers = []
        for line in lines[1:]:
            name, colon, text = line.partition(":")
            assert colon, "no colon in %r" % line
            headers.append((name, text.strip()))
        return Response(int(status), reason.strip(), version, headers, b"", raw)

    def response(self, method="GET"):
        """Read one whole response; Closed when the server ends the connection too early."""
        r = self.head()
        if method == "HEAD" or r.status in (204, 304) or r.status < 200:
            return r
        if r.header("Transfer-Encoding") == "chunked":
            r.body = self._chunks()
        elif r.header("Content-Length") is not None:
            r.body = self._exactly(int(r.header("Content-Length")))
        else:
            r.body = self.rest()
        return r

    def rest(self):
        """All bytes until the server closes."""
        while True:
            try:
                self._more()
            except Closed:
                data, self.buffer = self.buffer, b""
                return data

    def is_closed(self, seconds=5):
        """Whether the server ends the connection, with no further byte, within seconds."""
        assert self.buffer == b"", self.buffer
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds * PATIENCE)
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(before)


# ---- real databases ----


class Postgres:
    """A cluster of its own, on a free port and a socket in its folder."""

    def __init__(self, folder):
        self.port = free_port()
        self.folder = os.path.join(str(folder), "pg")
        self.bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        os.makedirs(self.folder)
        self.user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self.user = pwd.getpwnam("postgres")
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
            path = self.folder
            while path != "/":  # pytest's folders are 0700
                path = os.path.dirname(path)
                os.chmod(path, os.stat(path).st_mode | 0o011)
        data = os.path.join(self.folder, "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "test", "--no-sync", "-E", "UTF8")
        self.process = self._popen(
            "postgres", "-D", data, "-p", str(self.port), "-k", self.folder, "-h", "127.0.0.1",
            "-c", "max_connections=400", "-c", "fsync=off", "-c", "shared_buffers=32MB",
        )  # fmt: skip
        self.dsn = "host=127.0.0.1 port=%d user=test dbname=postgres" % self.port
        ready = [os.path.join(self.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for(lambda: subprocess.run(ready).returncode == 0, 30, "PostgreSQL")

    def _arguments(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}

    def _run(self, tool, *args):
        subprocess.run(
            [os.path.join(self.bin, tool), *args], check=True, cwd=self.folder, stdout=subprocess.DEVNULL,
            **self._arguments(),
        )  # fmt: skip

    def _popen(self, tool, *args):
        with open(os.path.join(self.folder, "log"), "wb") as log:
            return subprocess.Popen(
                [os.path.join(self.bin, tool), *args], cwd=self.folder, stdout=log, stderr=log,
                **self._arguments(),
            )  # fmt: skip

    def stop(self):
        stop_process(self.process, sig=signal.SIGINT)


class Redis:
    """Debian's server is one program with redis-check-rdb, of redis-tools, and goes by its name."""

    def __init__(self, folder):
        self.port = free_port()
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
             "--save", "", "--appendonly", "no", "--dir", str(folder)],
            executable=shutil.which("redis-server") or "/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self._answers, 20, "Redis")

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self):
        stop_process(self.process)


if __name__ == "__main__":
    sys.exit("a module for the tests: see ./dev test")
