"""The module greenicorn: one function a case. They are requests in a worker, and run in a plain python3."""

import contextvars
import gc
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
import traceback

import greenicorn
from greenicorn import Cancelled, Pool, Timeout, current, sleep, spawn, stats

IN_WORKER = "_greenicorn" in sys.modules
LONG = 60  # nothing waits for as long as that
VARIABLE = contextvars.ContextVar("variable", default="unset")


def fails(message="fails"):
    raise KeyError(message)


def raises(kind, function, *args):
    try:
        function(*args)
    except kind as error:
        return error
    raise AssertionError("%s was not raised" % kind.__name__)


# ---- spawn ----


def spawn_and_result():
    assert spawn(lambda a, b=0: (a, b), 1, b=2).result() == (1, 2)
    handle = spawn(sleep, 0.01)
    assert not handle.done() and handle.join() and handle.done()
    assert handle.result() is None and handle.exception() is None


def spawned_fn_is_any_keyword():
    assert spawn(lambda **keywords: keywords, fn=1, self=2).result() == {"fn": 1, "self": 2}


def exceptions_are_kept():
    handle = spawn(fails)
    assert handle.join() and isinstance(handle.exception(), KeyError)
    error = raises(KeyError, handle.result)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"


def waits_have_limits():
    go = threading.Event()
    handle = spawn(go.wait)
    assert not handle.join(0) and not handle.join(0.02)
    raises(TimeoutError, handle.result, 0.01)
    go.set()
    assert handle.result(LONG) is True


def many_wait_for_one():
    go = threading.Event()
    handle = spawn(go.wait)
    waiting = [spawn(handle.result) for _ in range(20)]
    sleep(0.01)
    go.set()
    assert [w.result() for w in waiting] == [True] * 20


def context_is_a_copy():
    VARIABLE.set("caller's")

    def function():
        seen = VARIABLE.get()
        VARIABLE.set("spawned")
        return seen

    assert spawn(function).result() == "caller's" and VARIABLE.get() == "caller's"


def current_and_name():
    handle = spawn(lambda: (current(), threading.current_thread().name))
    found, name = handle.result()
    assert found is handle and name == handle.name and name.startswith("spawn-")
    assert current() is None


def threads_spawn():
    results = []
    thread = threading.Thread(target=lambda: results.extend(h.result() for h in [spawn(int, "7") for _ in range(50)]))
    thread.start()
    thread.join()
    assert results == [7] * 50


def ten_thousand():
    n = 10000 if IN_WORKER else 1000
    handles = [spawn(lambda i: i, i) for i in range(n)]
    assert [h.result() for h in handles] == list(range(n))


def nobody_asked():
    """Logged; the test looks for it."""
    spawn(fails, "nobody asked for this").join()
    spawn(fails, "somebody asked for this").exception()
    gc.collect()


def statistics():
    go = threading.Event()
    begun = threading.Event()
    handle = spawn(lambda: (begun.set(), go.wait()))
    begun.wait()
    s = stats()
    assert s["threads"] >= s["busy"] >= 1 and s["queued"] == 0 and s["switches"] >= 0
    go.set()
    handle.result()


# ---- cancel ----


def cancel_before_it_begins():
    if IN_WORKER:
        handle = spawn(fails)
        assert handle.cancel() and handle.join() and handle.cancelled()


def cancel_while_it_waits():
    from concurrent.futures import CancelledError

    begun, ended = threading.Event(), []

    def function():
        try:
            begun.set()
            sleep(LONG)
        finally:
            ended.append(True)

    handle = spawn(function)
    begun.wait()
    assert handle.cancel() and handle.join(LONG) and handle.cancelled() and ended
    raises(CancelledError, handle.result)
    assert not handle.cancel()


def cancelled_function_may_go_on():
    begun = threading.Event()

    def function():
        try:
            begun.set()
            sleep(LONG)
        except Cancelled:
            sleep(0.01)
            return "cleaned up"

    handle = spawn(function)
    begun.wait()
    handle.cancel()
    assert handle.result(LONG) == "cleaned up" and not handle.cancelled()


def cancel_from_a_thread():
    handle = spawn(sleep, LONG)
    sleep(0.02)
    thread = threading.Thread(target=handle.cancel)
    thread.start()
    thread.join()
    assert handle.join(LONG) and handle.cancelled()


def cancel_hits_no_other():
    """The thread goes on with the next job."""
    for _ in range(50):
        handle = spawn(sleep, 0)
        sleep(0)
        handle.cancel()
        assert spawn(lambda: (sleep(0), 1)[1]).result() == 1
        handle.join()


# ---- Timeout ----


def within(seconds, function, *args):
    begun = time.monotonic()
    result = function(*args)
    assert time.monotonic() - begun < seconds
    return result


def times_out(function, *args):
    """It is ended by a Timeout, which is that one, and the thread is none the worse."""
    timeout = Timeout(0.03)
    try:
        with timeout:
            function(*args)
    except Timeout as caught:
        assert caught is timeout
    else:
        raise AssertionError("not interrupted")
    sleep(0)


def timeout_of_sleep():
    within(LONG / 2, times_out, sleep, LONG)


def timeout_not_reached():
    with Timeout(LONG) as timeout:
        sleep(0.01)
        assert timeout.pending
    assert not timeout.pending
    with Timeout(None):
        sleep(0.01)


def timeout_as_in_gevent():
    timeout = Timeout(0.02)
    timeout.start()
    try:
        sleep(LONG)
    except Timeout as caught:
        assert caught is timeout and str(caught) == "0.02 seconds" and not isinstance(caught, Exception)
    else:
        raise AssertionError
    finally:
        timeout.close()
    timeout = Timeout.start_new(0.02)
    timeout.cancel()
    sleep(0.04)


def timeout_silent():
    with Timeout(0.02, False) as timeout:
        sleep(LONG)
        raise AssertionError
    assert not timeout.pending


def timeout_raises_another():
    def block(exception):
        with Timeout(0.02, exception):
            sleep(LONG)

    error = ValueError("mine")
    assert raises(ValueError, block, error) is error
    raises(ConnectionError, block, ConnectionError)


def timeouts_nested():
    with Timeout(LONG):
        times_out(sleep, LONG)
    outer, inner = Timeout(0.02), Timeout(LONG)
    try:
        with outer:
            with inner:
                sleep(LONG)
    except Timeout as caught:
        assert caught is outer
    ended = []
    try:
        with outer:
            try:
                with inner:
                    sleep(LONG)
            finally:
                times_out(sleep, LONG)  # a limit for cleaning up
                ended.append(True)
    except Timeout as caught:
        assert caught is outer and ended


def timeout_around_result():
    handle = spawn(sleep, LONG)
    times_out(handle.result)
    handle.cancel()
    handle.join()


def fallback_after_timeout():
    try:
        times_out(sleep, LONG)
        raise KeyError
    except KeyError:
        times_out(sleep, LONG)


def timeout_of_a_block_that_computes():
    def block():
        with Timeout(0.01):
            begun = time.monotonic()
            while time.monotonic() - begun < 0.1:
                pass
            sleep(0)

    raises(Timeout, block)


def fifty_timeouts():
    handles = [spawn(times_out, sleep, LONG) for _ in range(50)]
    for handle in handles:
        within(LONG / 2, handle.result)


# ---- in any blocking call: workers only ----


def blocked_in_time_sleep():
    times_out(time.sleep, LONG)


def blocked_in_recv():
    a, b = socket.socketpair()
    with a, b:
        times_out(a.recv, 1)
        b.send(b"x")
        assert a.recv(1) == b"x"
        a.settimeout(LONG)
        times_out(a.recv, 1)


def blocked_in_send():
    a, b = socket.socketpair()
    with a, b:
        times_out(a.sendall, bytes(10 << 20))


def blocked_in_accept():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        times_out(listener.accept)


def blocked_in_connect():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        others = []
        try:
            for _ in range(4):
                others.append(socket.socket())
                others[-1].setblocking(False)
                others[-1].connect_ex(listener.getsockname())
            time.sleep(0.02)
            with socket.socket() as s:
                times_out(s.connect, listener.getsockname())
        finally:
            for each in others:
                each.close()


def blocked_in_pipe():
    r, w = os.pipe()
    try:
        times_out(os.read, r, 1)
        with open(r, "rb", closefd=False) as f:
            times_out(f.read, 1)
    finally:
        os.close(r)
        os.close(w)


def blocked_in_select():
    a, b = socket.socketpair()
    with a, b:
        times_out(select.select, [a], [], [])
        poll = select.poll()
        poll.register(a, select.POLLIN)
        times_out(poll.poll)
        with select.epoll() as epoll:
            epoll.register(a, select.EPOLLIN)
            times_out(epoll.poll)


def blocked_in_asyncio():
    import asyncio

    times_out(asyncio.run, asyncio.sleep(LONG))


def hold(lock, held, go):
    with lock:
        held.set()
        go.wait()


def blocked_in_lock():
    for make in threading.Lock, threading.RLock:
        lock = make()
        go, held = threading.Event(), threading.Event()
        holder = spawn(hold, lock, held, go)
        held.wait()
        times_out(lock.acquire)
        times_out(lock.acquire, True)
        times_out(lambda lock=lock: lock.acquire(timeout=-1))
        times_out(lambda lock=lock: lock.acquire(timeout=LONG))
        times_out(lock.__enter__)
        assert not lock.acquire(False) and not lock.acquire(timeout=0.01)
        go.set()
        holder.result()
        with lock:
            pass


def blocked_in_queue():
    q = queue.Queue(1)
    times_out(q.get)
    q.put(1)
    times_out(q.put, 2)
    assert q.get() == 1 and q.empty()


def blocked_in_event_and_condition():
    times_out(threading.Event().wait)
    times_out(threading.Event().wait, LONG)
    condition = threading.Condition()
    with condition:
        times_out(condition.wait)
    times_out(threading.Semaphore(0).acquire)
    times_out(threading.Barrier(2).wait)


def blocked_in_future():
    from concurrent.futures import Future

    times_out(Future().result)


def blocked_in_subprocess():
    for wait in lambda p: p.wait(), lambda p: os.waitpid(p.pid, 0), lambda p: p.communicate():
        with subprocess.Popen(["sleep", str(LONG)], stdout=subprocess.PIPE) as p:
            try:
                times_out(wait, p)
            finally:
                p.kill()
    assert subprocess.run(["true"]).returncode == 0


def blocked_and_the_error_is_caught():
    """A library's own handling of OSError does not keep it: another exception comes out of the wait."""

    def retry():
        for _ in range(1000):
            try:
                time.sleep(LONG)
            except OSError:
                pass

    times_out(retry)


def not_interrupted_but_told():
    """What cannot be interrupted ends by itself; the block still ends with the Timeout."""
    q = queue.SimpleQueue()
    spawn(lambda: (sleep(0.2), q.put(1)))
    times_out(q.get)


def cancelled_in_each():
    a, b = socket.socketpair()
    with a, b:
        waits = (a.recv, 1), (threading.Lock().acquire,), (queue.Queue().get,), (select.select, [a], [], [])
        handles = [spawn(lambda w: (w[0](*w[1:]), time.sleep(LONG)), w) for w in waits]
        sleep(0.02)
        for handle in handles:
            assert handle.cancel()
        for handle in handles:
            assert handle.join(LONG) and handle.cancelled()


def interrupted_again_and_again():
    """Queues that fifty use while they are interrupted stay sound."""
    q = queue.Queue(3)
    got, put = [], []

    def producer(n):
        for i in range(20):
            with Timeout(0.001, False):
                q.put((n, i))
                put.append((n, i))

    def consumer():
        while True:
            with Timeout(0.0015, False):
                item = q.get()
                if item is None:
                    return
                got.append(item)

    producers = [spawn(producer, n) for n in range(25)]
    consumers = [spawn(consumer) for _ in range(25)]
    for handle in producers:
        handle.result()
    for _ in consumers:
        q.put(None)
    for handle in consumers:
        handle.result()
    # an item may be taken, or put, by who is interrupted before he can say so
    assert len(set(got)) == len(got) and set(put) >= set(put) & set(got) and q.empty()


# ---- Pool ----


def pool():
    most = []
    running = set()

    def function(i):
        running.add(i)
        most.append(len(running))
        sleep(0.002)
        running.discard(i)
        return i * i

    p = Pool(4)
    assert p.map(function, range(20)) == [i * i for i in range(20)]
    assert max(most) == 4
    assert list(p.imap(function, range(20))) == [i * i for i in range(20)]
    assert p.apply(function, (3,)) == 9
    handle = p.spawn(function, i=5)
    assert p.join() and handle.result() == 25 and max(most) == 4 and len(p) == 0


def pool_failures():
    p = Pool(2)
    raises(KeyError, p.map, lambda i: fails() if i == 3 else i, range(6))
    assert p.join(LONG) and p.map(str, range(3)) == ["0", "1", "2"]
    raises(ValueError, Pool, 0)


def pool_is_full():
    p = Pool(1)
    first = p.spawn(sleep, LONG)
    times_out(p.spawn, sleep, LONG)
    assert len(p) == 1 and not p.join(0.01)
    first.cancel()
    assert p.join(LONG)


ANYWHERE = [
    spawn_and_result, spawned_fn_is_any_keyword, exceptions_are_kept, waits_have_limits, many_wait_for_one,
    context_is_a_copy, current_and_name, threads_spawn, ten_thousand, nobody_asked, statistics,
    cancel_before_it_begins, cancel_while_it_waits, cancelled_function_may_go_on, cancel_from_a_thread,
    cancel_hits_no_other, timeout_of_sleep, timeout_not_reached, timeout_as_in_gevent, timeout_silent,
    timeout_raises_another, timeouts_nested, timeout_around_result, fallback_after_timeout,
    timeout_of_a_block_that_computes, fifty_timeouts, pool, pool_failures, pool_is_full,
]  # fmt: skip
WORKERS = [
    value for name, value in sorted(globals().items()) if name.startswith("blocked_in") or name in (
        "blocked_and_the_error_is_caught", "not_interrupted_but_told", "cancelled_in_each", "interrupted_again_and_again"
    )
]  # fmt: skip


def outlives():
    def function():
        while not os.path.exists("go"):
            sleep(0.01)
        print("it is done", file=sys.stderr, flush=True)

    os.chdir(os.environ["TEST_FOLDER"])
    spawn(function)


def lasts():
    spawn(sleep, LONG)


def forks():
    """In a child there is no worker: it has threads."""
    pid = os.fork()
    if pid == 0:
        timeout = Timeout(0.02)
        try:
            with timeout:
                sleep(LONG)
        except Timeout as caught:
            os._exit(spawn(int, "7").result() if caught is timeout else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def in_a_query():
    """libpq takes it for a lost connection; the Timeout has its error as context."""
    import psycopg2

    connection = psycopg2.connect(os.environ["TEST_DSN"])
    try:
        with Timeout(0.05), connection.cursor() as cursor:
            cursor.execute("select pg_sleep(%d)" % LONG)
    except Timeout as timeout:
        assert isinstance(timeout.__context__, psycopg2.Error)
    else:
        raise AssertionError("not interrupted")
    connection.close()
    connection = psycopg2.connect(os.environ["TEST_DSN"])
    cursor = connection.cursor()
    cursor.execute("select 1")
    assert cursor.fetchone() == (1,)
    connection.close()


CASES = {case.__name__: case for case in [*ANYWHERE, *WORKERS, outlives, lasts, forks, in_a_query]}


def app(environ, start_response):
    name = environ["PATH_INFO"][1:]
    try:
        CASES[name]()
        text = "ok"
    except BaseException:
        text = traceback.format_exc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        CASES[name]()
        print(name, "ok", flush=True)
