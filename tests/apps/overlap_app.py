"""Blocking calls of every kind, one a route: each waits WAIT seconds and then answers with its number n.

Nothing here knows of green threads: it is the code of an application that runs on threads.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import logging
import multiprocessing
import os
import queue
import select
import signal
import socket
import subprocess
import threading
import time

from cases import LONG, WAIT, app, case, pairs

LOCAL = threading.local()
VARIABLE = contextvars.ContextVar("VARIABLE")


# ---- waiting ----


@case
def sleep(n):
    time.sleep(WAIT)
    return n


@contextlib.contextmanager
def sockets():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


@case
def socket_timeout(n):
    with sockets() as (a, b):
        a.settimeout(WAIT)
        try:
            a.recv(1)
        except TimeoutError:
            return n


@pairs(socket.socketpair)
def socket_pairs(n, ends, gives):
    with ends[gives] as end:
        if gives:
            time.sleep(WAIT)
            end.sendall(b"%d" % (n - 1))
            return n
        return end.recv(100).decode()


@pairs(os.pipe)
def pipe_pairs(n, ends, gives):
    with os.fdopen(ends[gives], "wb" if gives else "rb") as end:
        if gives:
            time.sleep(WAIT)
            end.write(b"%d" % (n - 1))
            return n
        return end.read().decode()


@case
def select_select(n):
    with sockets() as (a, b):
        assert select.select([a], [], [], WAIT) == ([], [], [])
        b.send(b"x")
        assert select.select([a], [b], [], LONG) == ([a], [b], [])
        return n


@case
def select_poll(n):
    with sockets() as (a, b):
        poll = select.poll()
        poll.register(a, select.POLLIN)
        assert poll.poll(WAIT * 1000) == []
        b.send(b"x")
        assert poll.poll(LONG * 1000) == [(a.fileno(), select.POLLIN)]
        return n


@case
def select_epoll(n):
    with sockets() as (a, b), select.epoll() as epoll:
        epoll.register(a, select.EPOLLIN)
        assert epoll.poll(WAIT) == []
        b.send(b"x")
        assert epoll.poll(LONG) == [(a.fileno(), select.EPOLLIN)]
        return n


@case
def getaddrinfo(n):
    addresses = socket.getaddrinfo("localhost", n, type=socket.SOCK_STREAM)
    assert {address[4][0] for address in addresses} <= {"127.0.0.1", "::1"}
    return addresses[0][4][1]


# ---- locks ----


@pairs(queue.Queue)
def queue_pairs(n, channel, gives):
    if gives:
        time.sleep(WAIT)
        channel.put(n - 1)
        return n
    return channel.get(timeout=LONG)


@pairs(queue.SimpleQueue)
def simple_queue_pairs(n, channel, gives):
    if gives:
        time.sleep(WAIT)
        channel.put(n - 1)
        return n
    return channel.get()


@pairs(threading.Event)
def event_pairs(n, event, gives):
    if gives:
        time.sleep(WAIT)
        event.set()
    assert event.wait(LONG)
    return n


@case
def event_timeout(n):
    assert not threading.Event().wait(WAIT)
    return n


class HeldLock:
    """A lock that is taken and may be released by another thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.lock.acquire()


@pairs(HeldLock)
def lock_pairs(n, held, gives):
    if gives:
        time.sleep(WAIT)
        held.lock.release()
    else:
        held.lock.acquire()
    return n


@case
def barrier(n):
    """Nobody gets past it before all are there: at once, in one worker."""
    BARRIER.wait(LONG)
    return n


BARRIER = threading.Barrier(100)


GATE = threading.Event()


@case
def gate(n):
    assert GATE.wait(4 * LONG)
    return n


@app.get("/gate/open")
def open_gate():
    GATE.set()
    return "open"


class Inside:
    """Counts who is within; most is the highest count."""

    def __init__(self):
        self.count = self.most = 0

    def __enter__(self):
        self.count += 1
        self.most = max(self.most, self.count)

    def __exit__(self, *exc):
        self.count -= 1


RLOCK, RLOCK_INSIDE = threading.RLock(), Inside()


@case
def rlock(n):
    with RLOCK:
        time.sleep(0.001)
        with RLOCK, RLOCK_INSIDE:
            time.sleep(0.001)
            assert RLOCK_INSIDE.most == 1
            return n


SEMAPHORE, SEMAPHORE_INSIDE = threading.BoundedSemaphore(20), Inside()


@case
def semaphore(n):
    with SEMAPHORE, SEMAPHORE_INSIDE:
        time.sleep(WAIT / 4)
        return n


@app.get("/semaphore/most")
def semaphore_most():
    return str(SEMAPHORE_INSIDE.most)


STOCK, CONDITION = collections.deque(), threading.Condition()


@case
def condition(n):
    """Odd ones produce what even ones consume; who gets what is open, so both count together."""
    with CONDITION:
        if n % 2:
            CONDITION.wait(WAIT)  # for nothing; the lock is free meanwhile
            STOCK.append(n)
            CONDITION.notify_all()
        else:
            assert CONDITION.wait_for(lambda: STOCK, LONG)
            STOCK.popleft()
        return n


# ---- what belongs to one request ----


@case
def threading_local(n):
    LOCAL.n = n
    for _ in range(4):
        time.sleep(WAIT / 4)
        assert LOCAL.n == n
    return n


@case
def context_variable(n):
    assert VARIABLE.get(None) is None
    VARIABLE.set(n)
    for _ in range(4):
        time.sleep(WAIT / 4)
        assert VARIABLE.get() == n
    return n


@case
def identity(n):
    """Two requests at once are two threads: of threading, of the system, of the interpreter."""
    me = threading.get_ident(), threading.get_native_id(), threading.current_thread()
    time.sleep(WAIT)
    assert me == (threading.get_ident(), threading.get_native_id(), threading.current_thread())
    return me[0]


# ---- event loops and threads ----


@case
def asyncio_run(n):
    async def main():
        await asyncio.sleep(WAIT)
        return n

    return asyncio.run(main())


@case
def asyncio_gather(n):
    async def main():
        results = await asyncio.gather(
            asyncio.sleep(WAIT, 1), asyncio.to_thread(time.sleep, WAIT), asyncio.wait_for(asyncio.sleep(0, 2), LONG)
        )
        assert results == [1, None, 2]
        return n

    return asyncio.run(main())


@case
def asyncio_subprocess(n):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "sleep %s; echo %d" % (WAIT, n), stdout=subprocess.PIPE
        )
        return (await process.communicate())[0].decode().strip()

    return asyncio.run(main())


@case
def thread_pool(n):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        a, b = pool.submit(time.sleep, WAIT), pool.submit(lambda: n)
        assert a.result(LONG) is None
        return b.result(LONG)


COMMON_POOL = concurrent.futures.ThreadPoolExecutor(100)


@case
def common_thread_pool(n):
    def wait():
        time.sleep(WAIT)
        return n

    return COMMON_POOL.submit(wait).result(LONG)


@case
def thread(n):
    results = []

    def run():
        time.sleep(WAIT)
        results.append(n)

    it = threading.Thread(target=run)
    it.start()
    it.join(LONG)
    return results[0]


@case
def thread_queue(n):
    """Given by an OS thread, taken by a green one, and the other way round."""
    there, back = queue.Queue(), queue.Queue()

    def run():
        value = there.get(timeout=LONG)
        time.sleep(WAIT)
        back.put(value)

    it = threading.Thread(target=run)
    it.start()
    there.put(n)
    value = back.get(timeout=LONG)
    it.join(LONG)
    return value


# ---- processes ----


@case
def subprocess_run(n):
    assert subprocess.run(["sleep", str(WAIT)]).returncode == 0
    return n


@case
def subprocess_output(n):
    script = "sleep %s; echo %d; exit %d" % (WAIT, n, n % 7)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == n % 7
    return done.stdout.strip()


@case
def subprocess_cat(n):
    """More than a pipe holds, in both directions."""
    data = b"%d " % n * 100000
    done = subprocess.run(["cat"], input=data, capture_output=True, check=True)
    assert done.stdout == data
    return n


@case
def subprocess_timeout(n):
    try:
        subprocess.run(["sleep", "60"], timeout=WAIT)
    except subprocess.TimeoutExpired:
        return n


@case
def os_system(n):
    assert os.waitstatus_to_exitcode(os.system("sleep %s; exit %d" % (WAIT, n % 7))) == n % 7
    return n


@case
def os_popen(n):
    with os.popen("sleep %s; echo %d" % (WAIT, n)) as pipe:
        return pipe.read().strip()


@case
def os_fork(n):
    pid = os.fork()
    if pid == 0:
        time.sleep(WAIT)
        os._exit(n % 7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == n % 7
    return n


FORK = multiprocessing.get_context("fork")  # the default until Python 3.13


def child(connection, n):
    time.sleep(WAIT)
    connection.send(n)


@case
def process(n):
    ours, theirs = FORK.Pipe()
    it = FORK.Process(target=child, args=(theirs, n))
    it.start()
    theirs.close()
    value = ours.recv()
    it.join()
    assert it.exitcode == 0
    it.close()
    return value


@case
def process_pool(n):
    with FORK.Pool(2) as pool:
        assert pool.map(abs, range(-10, 0)) == list(range(10, 0, -1))
        return pool.apply(abs, (-n,))


@case
def process_killed(n):
    it = subprocess.Popen(["sleep", "60"])
    time.sleep(WAIT)
    it.terminate()
    assert it.wait() == -signal.SIGTERM
    return n


# ---- logging ----

LOGGER = logging.getLogger("overlap")
LOGGER.addHandler(logging.FileHandler(os.environ["TEST_LOG"]))
LOGGER.propagate = False


@case
def log(n):
    for i in range(10):
        LOGGER.error("request %d line %d %s", n, i, "x" * 200)
        time.sleep(0.005)
    return n


# ---- the end of a request that is not the end of the worker ----


@case
def ends(n):
    time.sleep(WAIT / 2)
    if n % 4 == 1:
        raise SystemExit(n)
    if n % 4 == 2:
        raise KeyboardInterrupt
    if n % 4 == 3:
        raise GeneratorExit
    time.sleep(WAIT / 2)
    return n
