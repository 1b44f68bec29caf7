"""Start one greenicorn-worker without a master, by the contract (common/contract.h)."""

import contextlib
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import tempfile

from harness import APPS, PATIENCE, SANITIZED, WORKER, Connection, value, wait_for

FDS_START = 3
SLOT = 1  # our row of a scoreboard with two


def memfd(name, data):
    fd = os.memfd_create(name)
    os.write(fd, data)
    return fd


def exec_worker(fds, env):
    """In the child: fds become 3, 4, …, as sd_listen_fds(3) has it."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for _, fd in fds]
    for i, fd in enumerate(high):
        os.dup2(fd, FDS_START + i, inheritable=True)
        os.close(fd)
    os.closerange(FDS_START + len(fds), 200)
    env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(n for n, _ in fds))
    os.execve(WORKER, ["greenicorn-worker"], env)


class HandWorker:
    """One worker. A context manager that leaves no process behind, and no crash unnoticed."""

    def __init__(self, app, listen=None, control=True, **settings):
        self.settings = {"wsgi_app": app, "pythonpath": APPS, **settings}
        self.listener = listen or socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.control, self.control_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pass_control = control
        self.scoreboard = memfd("scoreboard", bytes((64 + 16 * 64) * 2 + 64))
        self.stdout, self.stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.pid, self.status = 0, None

    def environment(self):
        env = dict(os.environ, GREENICORN_SLOT=str(SLOT), PYTHONDONTWRITEBYTECODE="1")
        env.pop("VIRTUAL_ENV", None)
        if SANITIZED:
            env.update(PYTHONMALLOC="malloc", ASAN_OPTIONS="detect_leaks=0:abort_on_error=1")
            env.update(UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1")
        return env

    def __enter__(self):
        text = "".join("%s = %s;\n" % (name, value(v)) for name, v in self.settings.items())
        settings = memfd("settings", text.encode())
        fds = [("settings", settings), ("listen", self.listener.fileno()), ("scoreboard", self.scoreboard)]
        if self.pass_control:
            fds.append(("control", self.control_theirs.fileno()))
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(self.stdout.fileno(), 1)
                os.dup2(self.stderr.fileno(), 2)
                exec_worker(fds, self.environment())
            finally:
                os._exit(127)
        os.close(settings)
        self.control_theirs.close()
        return self

    def __exit__(self, kind, *exc):
        try:
            if self.status is None and kind is None:
                self.stop()
            text = self.log()
            for sign in ("AddressSanitizer", "runtime error:", "Fatal Python error"):
                assert sign not in text, text
        finally:
            if self.status is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self.control.close()
            self.listener.close()
            os.close(self.scoreboard)
            self.stdout.close()
            self.stderr.close()

    def wait_ready(self, seconds=30):
        if not self.pass_control:
            return self.wait_row(seconds, state=2)
        ready, _, _ = select.select([self.control], [], [], seconds * PATIENCE)
        assert ready, "no word from the worker: " + self.log()
        message = self.control.recv(100)
        assert message == b"ready", self.log()

    def signal(self, number):
        os.kill(self.pid, number)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, seconds=20):
        """The exit status, as waitstatus_to_exitcode has it."""
        wait_for(self.ended, seconds, "the worker's end")
        return self.status

    def stop(self):
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, self.log()

    def log(self):
        return os.pread(self.stderr.fileno(), 1 << 22, 0).decode(errors="replace")

    def output(self):
        return os.pread(self.stdout.fileno(), 1 << 22, 0).decode(errors="replace")

    def row(self):
        """Our row of the scoreboard; but for the state it is written each second."""
        with mmap.mmap(self.scoreboard, 128) as rows:
            names = ("heartbeat", "pid", "state", "connections", "in_flight", "served", "blocked")
            return dict(zip(names, struct.unpack_from("=QIIIIQQ", rows, 64 * SLOT)))

    def wait_row(self, seconds=10, **expected):
        wait_for(lambda: all(self.row()[name] == v for name, v in expected.items()), seconds, str(expected))

    def statm(self, field):
        with open("/proc/%d/statm" % self.pid) as statm:
            return int(statm.read().split()[field]) * os.sysconf("SC_PAGE_SIZE")

    def address_space(self):
        return self.statm(0)

    def memory(self):
        """Resident bytes."""
        return self.statm(1)

    def cpu(self):
        """Seconds of processor time so far."""
        with open("/proc/%d/stat" % self.pid) as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self, timeout=10):
        address = self.listener.getsockname()
        return Connection(address if isinstance(address, str) else address[:2], timeout)


@contextlib.contextmanager
def serving(app="serve_cases", **kwargs):
    """A HandWorker that has loaded its application, from tests/apps."""
    with HandWorker(app, **kwargs) as worker:
        worker.wait_ready()
        yield worker
