"""Start one greenicorn-worker without a master, by the contract (common/contract.h)."""

import fcntl
import json
import mmap
import os
import select
import signal
import socket
import struct
import tempfile
import time

FDS_START = 3


def memfd(name, data=b""):
    fd = os.memfd_create(name)
    os.write(fd, data)
    return fd


def config_text(settings):
    """A configuration file: strings, numbers, booleans and lists are libconfig's as JSON has them."""
    lines = []
    for name, value in settings.items():
        lines.append("%s = %s;\n" % (name, json.dumps(value)))
    return "".join(lines).encode()


def exec_worker(program, fds, env):
    """In the child: fds become 3, 4, …, as sd_listen_fds(3) has it."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for _, fd in fds]
    for i, fd in enumerate(high):
        os.dup2(fd, FDS_START + i, inheritable=True)
        os.close(fd)
    env = dict(env)
    if fds:
        env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(n for n, _ in fds))
    os.execve(program, [program], env)


class HandWorker:
    """One worker. A context manager that leaves no process behind."""

    def __init__(self, program, app, listen=None, scoreboard=True, control=True, env=None, **settings):
        self.program = program
        self.settings = {"wsgi_app": app, **settings}
        self.scoreboard_fd = memfd("scoreboard", bytes(128)) if scoreboard else -1
        self.stderr = tempfile.TemporaryFile()
        self.env = {**os.environ, "GREENICORN_SLOT": "1", **(env or {})}
        self.control, self.control_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.use_control = control
        self.listener = listen or socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.status = None
        self.pid = 0

    def fds(self):
        fds = [("settings", memfd("settings", config_text(self.settings))), ("listen", self.listener.fileno())]
        if self.use_control:
            fds.append(("control", self.control_theirs.fileno()))
        if self.scoreboard_fd >= 0:
            fds.append(("scoreboard", self.scoreboard_fd))
        return fds

    def __enter__(self):
        fds = self.fds()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(self.stderr.fileno(), 2)
                exec_worker(self.program, fds, self.env)
            finally:
                os._exit(127)
        os.close(fds[0][1])
        self.control_theirs.close()
        return self

    def __exit__(self, *exc):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(10)
        self.control.close()
        self.listener.close()
        if self.scoreboard_fd >= 0:
            os.close(self.scoreboard_fd)
        self.stderr.close()

    def wait_ready(self, timeout=30):
        ready, _, _ = select.select([self.control], [], [], timeout)
        assert ready, "no word from the worker: " + self.log()
        message = self.control.recv(100)
        assert message == b"ready", self.log()

    def kill(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=30):
        """The exit status, as waitstatus_to_exitcode has it."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError("the worker does not end: " + self.log())
            else:
                time.sleep(0.01)
        return self.status

    def log(self):
        return os.pread(self.stderr.fileno(), 1 << 20, 0).decode(errors="replace")

    def row(self):
        """Our row of the scoreboard: heartbeat, pid, state, connections, in flight, served."""
        with mmap.mmap(self.scoreboard_fd, 128) as rows:
            names = ("heartbeat", "pid", "state", "connections", "in_flight", "served")
            return dict(zip(names, struct.unpack_from("=QIIIIQ", rows, 64)))

    def connect(self):
        return socket.create_connection(self.listener.getsockname(), timeout=10)
