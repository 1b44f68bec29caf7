"""gevent, eventlet and greenlet inside requests: see cases.py.

The first line is what people bring from gunicorn -k gevent.
"""

from gevent import monkey; monkey.patch_all()  # noqa: E702

import socket
import subprocess
import sys
import threading
import time

import gevent
import gevent.event
import gevent.lock
import gevent.pool
import gevent.queue
import gevent.subprocess
import gevent.threadpool
import greenicorn
import greenlet
from cases import LONG, WAIT, app, case, pairs

shared_semaphore = gevent.lock.BoundedSemaphore(20)
shared_rlock = gevent.lock.RLock()
shared_pool = gevent.pool.Pool(20)
inside, left = set(), []


@case
def gevent_sleep(n):
    gevent.sleep(WAIT)
    return n


@case
def gevent_spawn(n):
    """Ten at a time in each request's own hub."""

    def work(i):
        gevent.sleep(WAIT)
        return i

    jobs = [gevent.spawn(work, i) for i in range(10)]
    gevent.joinall(jobs, timeout=LONG, raise_error=True)
    assert [job.value for job in jobs] == list(range(10))
    return n


@case
def gevent_pool(n):
    pool = gevent.pool.Pool(5)
    assert pool.map(lambda i: (gevent.sleep(WAIT / 4), i)[1], range(20)) == list(range(20))
    return n


@case
def gevent_queue(n):
    queue = gevent.queue.Queue(1)

    def produce():
        for i in range(20):
            queue.put(i)
        gevent.sleep(WAIT)
        queue.put(None)

    gevent.spawn(produce)
    assert list(iter(queue.get, None)) == list(range(20))
    return n


@case
def gevent_timeout(n):
    began = time.monotonic()
    with gevent.Timeout(WAIT, False):
        gevent.sleep(LONG)
    assert time.monotonic() - began < LONG / 2
    try:
        gevent.with_timeout(WAIT / 2, gevent.event.AsyncResult().get)
    except gevent.Timeout:
        return n


@case
def gevent_event_result(n):
    result = gevent.event.AsyncResult()
    gevent.spawn_later(WAIT, result.set, n)
    return result.get(timeout=LONG)


@case
def gevent_threadpool(n):
    """Its threads are real ones; what they do is not cooperative and need not be."""
    pool = gevent.threadpool.ThreadPool(2)
    try:
        jobs = [pool.spawn(time.sleep, WAIT) for _ in range(2)]
        gevent.joinall(jobs, timeout=LONG)
        return pool.spawn(int, n).get(timeout=LONG)
    finally:
        pool.kill()


@case
def gevent_subprocess(n):
    process = gevent.subprocess.Popen(["sh", "-c", "sleep %s; echo %d" % (WAIT, n)], stdout=gevent.subprocess.PIPE)
    return int(process.communicate(timeout=LONG)[0])


@case
def gevent_socket(n):
    from gevent import socket as green

    ours, theirs = green.socketpair()
    with ours, theirs:
        gevent.spawn_later(WAIT, theirs.sendall, b"%d" % n)
        return int(ours.recv(100))


@case
def blocking_beside_gevent(n):
    """What blocks holds up this request's greenlets only."""
    seen = []
    job = gevent.spawn(seen.append, n)
    time.sleep(WAIT)
    assert not seen
    job.join()
    return seen[0]


@case
def gevent_resolver(n):
    from gevent import socket as green

    assert green.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    gevent.sleep(WAIT)
    return n


@case
def threadpool_of_all(n):
    return threadpool.apply(lambda: (time.sleep(WAIT), n)[1])


threadpool = gevent.threadpool.ThreadPool(10)


@case
def semaphore_of_all(n):
    """Some wait by gevent while they have it, some do not."""
    with shared_semaphore:
        inside.add(n)
        assert len(inside) <= 20
        (gevent if n % 2 else time).sleep(WAIT / 2)
        inside.remove(n)
    return n


@case
def rlock_of_all(n):
    with shared_rlock, shared_rlock:
        (gevent if n % 2 else time).sleep(WAIT / 50)
    return n


@case
def pool_of_all(n):
    def work():
        gevent.sleep(WAIT / 2)
        return n

    return shared_pool.spawn(work).get(timeout=LONG)


@pairs(gevent.event.AsyncResult)
def result_of_two(n, result, gives):
    if not gives:
        return result.get(timeout=LONG)
    gevent.sleep(WAIT)
    result.set(n - 1)
    return n


@case
def turns(n):
    """gevent.sleep(0) is others' turn, too: requests 2k and 2k + 1 count in step."""
    theirs = n ^ 1
    for i in range(20):
        counts[n] = i
        while counts.get(theirs, 0) < i - 1:
            gevent.sleep(0)
    counts[n] = 20
    return n


counts = {}


@case
def leave(n):
    """What is spawned goes on after the response, whatever else has been left."""

    def later():
        gevent.sleep(WAIT)
        left.append(n)

    gevent.spawn(later)
    gevent.spawn(sys.exit, "from a greenlet")
    gevent.Timeout(WAIT / 2).start()
    return n


@case
def leave_in_another(n):
    """The same for a function on a green thread of its own."""
    return greenicorn.spawn(leave, n).result(LONG)


@case
def leave_an_endless_one(n):
    def endless():
        while True:
            gevent.sleep(WAIT)

    gevent.spawn(endless)
    return n


@case
def left_behind(n):
    return len(left)


@case
def unpatched(n):
    """patch_all() has changed nothing."""
    assert socket.socket.__module__ == "socket" and type(threading.Lock()).__module__ == "_thread"
    assert time.sleep.__module__ == "time" and gevent.subprocess.Popen is subprocess.Popen
    assert not monkey.is_module_patched("socket") and monkey.get_original("time", "sleep") is time.sleep
    time.sleep(WAIT)
    return n


@case
def greenlets(n):
    """A chain of them, each in the middle of something when the thread waits."""

    def inner(value):
        time.sleep(WAIT / 4)
        return parent.switch(value + 1) + 1

    parent = greenlet.getcurrent()
    children = [greenlet.greenlet(inner) for _ in range(4)]
    value = n
    for child in children:
        value = child.switch(value)
    for child in children:
        value = child.switch(value)
    assert all(child.dead for child in children)
    return value - 8


@case
def hubs(n):
    """How many this process has."""
    import gc

    gc.collect()
    return sum(isinstance(o, gevent.hub.Hub) for o in gc.get_objects())


try:
    import eventlet
    import eventlet.event
    import eventlet.greenpool
    import eventlet.queue
    import eventlet.timeout
    import eventlet.tpool
except ImportError:
    eventlet = None

if eventlet:
    eventlet.monkey_patch()

    @case
    def eventlet_sleep(n):
        eventlet.sleep(WAIT)
        return n

    @case
    def eventlet_pool(n):
        pool = eventlet.greenpool.GreenPool(5)
        assert list(pool.imap(lambda i: (eventlet.sleep(WAIT / 4), i)[1], range(20))) == list(range(20))
        return n

    @case
    def eventlet_queue(n):
        queue = eventlet.queue.Queue(1)
        eventlet.spawn(lambda: [queue.put(i) for i in range(20)])
        assert [queue.get() for _ in range(20)] == list(range(20))
        eventlet.sleep(WAIT)
        return n

    @case
    def eventlet_timeout(n):
        with eventlet.timeout.Timeout(WAIT, False):
            eventlet.sleep(LONG)
            return -1
        return n

    @case
    def eventlet_threads(n):
        eventlet.tpool.execute(time.sleep, WAIT)
        return len(eventlet.tpool.Proxy([0] * n))

    @case
    def eventlet_leave(n):
        with eventlet.timeout.Timeout(LONG * 100):
            eventlet.sleep(0)
        eventlet.spawn_after(WAIT, left.append, n)
        eventlet.spawn_n(sys.exit, "from a greenlet")
        eventlet.timeout.Timeout(WAIT / 2)
        return n

    @case
    def eventlet_unpatched(n):
        assert not eventlet.patcher.is_monkey_patched("socket") and socket.socket.__module__ == "socket"
        time.sleep(WAIT)
        return n
