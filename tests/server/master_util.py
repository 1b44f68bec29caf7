"""Helpers for the tests of the master alone, with fake_worker.py in the place of a worker."""

import fcntl
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading

import harness
from harness import wait_for

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_worker.py")


class Master(harness.Server):
    """greenicorn with fake workers; the application's name says how they behave."""

    def __init__(self, folder, app="ok", env=None, wait=True, **arguments):
        super().__init__(folder, app, env=env, start=False, **{"chdir": str(folder), **arguments})
        self.env["GREENICORN_WORKER"] = FAKE
        self.start(wait)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.signal(signal.SIGQUIT)
            try:
                self.process.wait(10 * harness.PATIENCE)
            except subprocess.TimeoutExpired:
                for pid in self.workers() + [self.process.pid]:
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()
        if exc[0] is None:
            assert "AddressSanitizer" not in self.log_text() and "runtime error" not in self.log_text()

    def about(self):
        """What a worker tells about itself."""
        with self.connect() as c:
            c.get()
            return json.loads(c.response().body)

    def wait_workers(self, n, seconds=10):
        """Wait for exactly n workers, all ready; their pids."""

        def settled():
            ready = self.ready_workers()
            return ready if len(ready) == len(self.workers()) == n else None

        return wait_for(settled, seconds, "%d workers" % n)

    def wait_exit(self, seconds=10):
        return self.process.wait(seconds * harness.PATIENCE)

    def hup(self, **settings):
        self.write_config(**settings)
        self.signal(signal.SIGHUP)

    def booted(self):
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log_text())]


def run(*args, env=None, cwd=None, text=None, timeout=20):
    """greenicorn with those arguments, until it ends; text is its greenicorn.conf in cwd."""
    if text is not None:
        with open(os.path.join(cwd, "greenicorn.conf"), "w") as f:
            f.write(text)
    full = {k: v for k, v in os.environ.items() if k not in ("PORT", "WEB_CONCURRENCY")}
    full.update({"GREENICORN_WORKER": FAKE, **(env or {})})
    return subprocess.run(
        [harness.MASTER, *args], env=full, cwd=cwd, text=True, capture_output=True,
        timeout=timeout * harness.PATIENCE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


class Notified:
    """A service manager's socket: the messages that came, and the descriptors with them."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.messages = queue.Queue()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while True:
            text, fds, _, _ = socket.recv_fds(self.sock, 4096, 8)
            if not text:
                return
            self.messages.put((dict(line.split("=", 1) for line in text.decode().split("\n")), fds))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RD)
        self.thread.join()
        self.sock.close()
        while not self.messages.empty():
            for fd in self.messages.get()[1]:
                os.close(fd)

    def receive(self):
        return self.messages.get(timeout=10 * harness.PATIENCE)

    def next(self, key, pattern=""):
        """The next message that says something of key."""
        for _ in range(1000):
            message, fds = self.receive()
            if re.search(pattern, message.get(key, "")) and key in message:
                return dict(message, fds=fds)
            for fd in fds:
                os.close(fd)
        raise AssertionError("%s never comes" % key)


def start_notified(folder, env=None, **arguments):
    notified = Notified(str(folder / "notify"))
    return notified, Master(folder, env={"NOTIFY_SOCKET": str(folder / "notify"), **(env or {})}, **arguments)


def start_activated(folder, sockets, names=None, pid=None, **settings):
    """As systemd starts a service with sockets: from 3 on, for the process that execs."""
    keep = [s.fileno() for s in sockets]

    class Activated(Master):
        def start(self, wait=True):
            self.write_config()
            child = os.fork()
            if child == 0:
                try:
                    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in keep]
                    for i, fd in enumerate(high):
                        os.dup2(fd, 3 + i, inheritable=True)
                    log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                    os.dup2(log, 2)
                    env = dict(self.env, LISTEN_PID=str(pid or os.getpid()), LISTEN_FDS=str(len(keep)))
                    if names:
                        env["LISTEN_FDNAMES"] = names
                    os.closerange(3 + len(keep), 200)
                    os.chdir(self.folder)
                    os.execve(harness.MASTER, [harness.MASTER, "-c", self.config, self.app], env)
                finally:
                    os._exit(127)
            self.process = Forked(child)
            if wait:
                self.wait_ready()
            return self

    return Activated(folder, **settings)


class Forked:
    """Enough of subprocess.Popen for a process that we forked."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, sig):
        os.kill(self.pid, sig)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout=10):
        wait_for(lambda: self.poll() is not None, timeout, "the end of the master")
        return self.returncode
