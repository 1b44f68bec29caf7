"""Waits that libc and the kernel keep to themselves, one a route: by Python where it has the call, by ctypes else."""

import ctypes
import fcntl
import grp
import multiprocessing
import os
import pwd
import signal
import socket
import struct
import tempfile
import threading
import time

from cases import LONG, WAIT, app, case, pairs

application = app
FOLDER = tempfile.mkdtemp()
libc = ctypes.CDLL(None, use_errno=True)


def path_of(name, n):
    return os.path.join(FOLDER, "%s%d" % (name, n))


class Locked:
    """A file of a pair; held is set once the odd one has its lock."""

    def __init__(self):
        self.fd, self.path = tempfile.mkstemp(dir=FOLDER)
        os.close(self.fd)
        self.held = threading.Event()


def lock_in_turns(n, file, first, lock, unlock):
    with open(file.path, "r+b") as f:
        if first:
            lock(f)
            file.held.set()
            time.sleep(WAIT)
            unlock(f)
            return n
        assert file.held.wait(LONG)
        start = time.monotonic()
        lock(f)
        assert time.monotonic() - start > WAIT / 4
        return n


@pairs(Locked)
def flock(n, file, first):
    return lock_in_turns(n, file, first, lambda f: fcntl.flock(f, fcntl.LOCK_EX), lambda f: fcntl.flock(f, fcntl.LOCK_UN))


def open_file_lock(f, kind):
    fcntl.fcntl(f, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


@pairs(Locked)
def record_lock(n, file, first):
    return lock_in_turns(
        n, file, first, lambda f: open_file_lock(f, fcntl.F_WRLCK), lambda f: open_file_lock(f, fcntl.F_UNLCK)
    )


@app.get("/own_lock")
def own_lock():
    """A process's own lock: its child has it, and says so; the answer comes when the child has ended."""
    fd, path = tempfile.mkstemp(dir=FOLDER)
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        own = os.open(path, os.O_RDWR)
        fcntl.lockf(own, fcntl.LOCK_EX)
        os.write(tell, b"x")
        time.sleep(WAIT)
        os._exit(0)
    os.close(tell)
    assert os.read(ready, 1) == b"x"
    start = time.monotonic()
    fcntl.lockf(fd, fcntl.LOCK_EX)
    waited = time.monotonic() - start
    os.close(ready)
    os.close(fd)
    assert os.waitpid(pid, 0) == (pid, 0)
    return "%.3f" % waited


@pairs(tuple)
def fifo(n, _, writes):
    path = path_of("fifo", n // 2)
    try:
        os.mkfifo(path)
    except FileExistsError:
        pass
    if writes:
        time.sleep(WAIT)
        with open(path, "w") as f:
            f.write(str(n - 1))
        return n
    with open(path) as f:
        return int(f.read())


@case
def sendfile(n):
    """More than fits between two sockets, to one who begins to read after a while."""
    size = 1 << 20
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile(dir=FOLDER) as f, ours, theirs:
        f.write(b"x" * size)
        f.flush()

        def read():
            time.sleep(WAIT)
            with theirs.makefile("rb") as g:
                assert len(g.read(size)) == size

        reader = threading.Thread(target=read)
        reader.start()
        assert os.sendfile(ours.fileno(), f.fileno(), 0, size) == size
        reader.join()
    return n


@pairs(os.pipe)
def splice(n, pipe, gives):
    if gives:
        time.sleep(WAIT)
        os.write(pipe[1], b"%d" % (n - 1))
        return n
    to, end = os.pipe()
    splice = libc.splice
    assert splice(pipe[0], None, end, None, 100, 0) > 0
    result = int(os.read(to, 100))
    for fd in (to, end, *pipe):
        os.close(fd)
    return result


@pairs(lambda: os.eventfd(0))
def eventfd(n, fd, gives):
    if gives:
        time.sleep(WAIT)
        os.eventfd_write(fd, n)
        return n
    assert os.eventfd_read(fd) == n + 1
    os.close(fd)
    return n


@pairs(lambda: libc.inotify_init1(os.O_CLOEXEC))
def inotify(n, fd, gives):
    folder = path_of("folder", n // 2)
    os.makedirs(folder, exist_ok=True)
    if gives:
        time.sleep(WAIT)
        open(os.path.join(folder, str(n - 1)), "w").close()
        return n
    assert libc.inotify_add_watch(fd, folder.encode(), 0x100) > 0  # IN_CREATE
    name = os.read(fd, 4096)[16:]
    os.close(fd)
    return int(name.rstrip(b"\0"))


@pairs(lambda: multiprocessing.Semaphore(0))
def shared_semaphore(n, semaphore, gives):
    if gives:
        time.sleep(WAIT)
        semaphore.release()
        return n
    assert semaphore.acquire(timeout=LONG)
    return n


@pairs(lambda: libc.msgget(0, 0o600))
def message_queue(n, queue, gives):
    message = ctypes.create_string_buffer(struct.pack("l8s", 1, b"%d" % (n - 1)))
    if gives:
        time.sleep(WAIT)
        assert libc.msgsnd(queue, message, 8, 0) == 0
        return n
    assert libc.msgrcv(queue, message, 8, 0, 0) == 8
    libc.msgctl(queue, 0, None)
    return int(message.raw[8:16].rstrip(b"\0"))


@case
def disk(n):
    with open(path_of("disk", n), "wb") as f:
        f.write(b"x" * 100000)
        f.flush()
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
    time.sleep(WAIT)
    return os.path.getsize(path_of("disk", n)) - 100000 + n


@case
def users(n):
    assert pwd.getpwuid(0).pw_name == "root"
    assert grp.getgrgid(0).gr_gid == 0
    assert os.path.expanduser("~root") == pwd.getpwnam("root").pw_dir
    time.sleep(WAIT)
    return n


BARRIER = ctypes.create_string_buffer(64)


@app.get("/barrier/<int:n>")
def barrier_of(n):
    assert libc.pthread_barrier_init(BARRIER, None, n) == 0
    return "ready"


@app.get("/barrier/wait")
def barrier_wait():
    return str(libc.pthread_barrier_wait(BARRIER))


SIGNALS = [signal.SIGRTMIN + 10, signal.SIGRTMIN + 11]
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@app.get("/sigwait")
def sigwait():
    return str(int(signal.sigwait(SIGNALS)) - signal.SIGRTMIN)


@app.get("/sigtimedwait")
def sigtimedwait():
    return str(signal.sigtimedwait(SIGNALS, WAIT))
