"""Requests beside threads of the application's own, one meeting a route: GET /NAME?n=N answers N when all was right."""

import asyncio
import concurrent.futures
import ctypes
import io
import logging
import os
import queue
import sys
import threading
import time

WAIT = 0.1
LONG = 60  # for what comes much sooner unless something is wrong
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def beside(function, *args):
    """Run it on an OS thread: a future."""
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run).start()
    return future


def here(function, *args):
    """Run it in the request: what beside() gives, but done."""
    future = concurrent.futures.Future()
    future.set_result(function(*args))
    return future


def both_ways(function):
    """A case whose function(n, first, second) does its two halves first on an OS thread, then the other way round.

    first() runs its function on another thread at once, second() in the request.
    """

    def case_of_both(n):
        function(n, beside, here)
        waiting = threading.Event()

        def late(half, *args):
            """In the request, after the other half has begun on its thread."""
            assert waiting.wait(LONG)
            return here(half, *args)

        def early(half, *args):
            def run():
                waiting.set()
                return half(*args)

            return beside(run)

        function(n, Deferred(late), early)
        return n

    case_of_both.__name__ = function.__name__
    return case(case_of_both)


class Deferred:
    """Calls its function only when the result is asked for: by then the other half runs."""

    def __init__(self, run):
        self.run = run

    def __call__(self, *call):
        self.call = call
        return self

    def result(self, timeout=None):
        return self.run(*self.call).result(timeout)


# ---- primitives ----


@both_ways
def locks(n, first, second):
    """One holds it while the other one tries for a time, in vain, and then waits for it."""
    lock, held, tried = threading.Lock(), threading.Event(), threading.Event()

    def holds():
        with lock:
            held.set()
            assert tried.wait(LONG)
            time.sleep(WAIT / 2)
        return n

    def tries():
        assert held.wait(LONG)
        assert not lock.acquire(timeout=WAIT / 2)
        tried.set()
        assert lock.acquire(timeout=LONG)
        lock.release()
        return n

    a = first(holds)
    b = second(tries)
    assert (a.result(LONG), b.result(LONG)) == (n, n)


@both_ways
def rlocks(n, first, second):
    lock, held, tried = threading.RLock(), threading.Event(), threading.Event()

    def holds():
        with lock, lock:
            held.set()
            assert tried.wait(LONG)
        return n

    def tries():
        assert held.wait(LONG)
        assert not lock.acquire(timeout=WAIT / 2)
        try:
            lock.release()
        except RuntimeError:
            pass
        else:
            raise AssertionError("released what another thread holds")
        tried.set()
        with lock:
            return n

    a = first(holds)
    b = second(tries)
    assert (a.result(LONG), b.result(LONG)) == (n, n)


@both_ways
def queues(n, first, second):
    there, back, simple = queue.Queue(1), queue.Queue(), queue.SimpleQueue()

    def asks():
        there.put(n)
        for i in range(20):
            there.put(i, timeout=LONG)  # it is full most of the time
        try:
            back.get(timeout=WAIT / 2)
        except queue.Empty:
            simple.put("late")
        assert back.get(timeout=LONG) == n + 1
        return n

    def answers():
        value = there.get()
        assert [there.get(timeout=LONG) for _ in range(20)] == list(range(20))
        assert simple.get(timeout=LONG) == "late"
        back.put(value + 1)
        return n

    a = first(asks)
    b = second(answers)
    assert (a.result(LONG), b.result(LONG)) == (n, n)


@both_ways
def events(n, first, second):
    ping, pong = threading.Event(), threading.Event()

    def one():
        assert not pong.wait(WAIT / 2)
        ping.set()
        assert pong.wait(LONG)
        return n

    def other():
        assert ping.wait()
        pong.set()
        return n

    a = first(one)
    b = second(other)
    assert (a.result(LONG), b.result(LONG)) == (n, n)


@both_ways
def conditions(n, first, second):
    condition, steps = threading.Condition(), []

    def step(even):
        with condition:
            assert not condition.wait_for(lambda: len(steps) > 100, WAIT / 4)
            for i in range(20):
                assert condition.wait_for(lambda: len(steps) % 2 == even, LONG)
                steps.append(i)
                condition.notify_all()
        return n

    a = first(step, 0)
    b = second(step, 1)
    assert (a.result(LONG), b.result(LONG)) == (n, n)
    assert steps == [i // 2 for i in range(40)]


@case
def barriers(n):
    barrier, broken = threading.Barrier(4), threading.Barrier(2)
    others = [beside(barrier.wait, LONG) for _ in range(3)]
    assert sorted([barrier.wait(LONG)] + [other.result(LONG) for other in others]) == [0, 1, 2, 3]
    try:
        broken.wait(WAIT / 2)
    except threading.BrokenBarrierError:
        return n


@both_ways
def semaphores(n, first, second):
    semaphore, done = threading.BoundedSemaphore(2), threading.Event()
    semaphore.acquire()
    semaphore.acquire()

    def gives():
        assert not semaphore.acquire(timeout=WAIT / 2)
        semaphore.release()
        assert done.wait(LONG)
        semaphore.release()
        return n

    def takes():
        assert semaphore.acquire(timeout=LONG)
        done.set()
        return n

    a = first(gives)
    b = second(takes)
    assert (a.result(LONG), b.result(LONG)) == (n, n)


@case
def joins(n):
    """With a time limit that is over first, and by several at once, green and not."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait, args=(LONG,))
    thread.start()
    thread.join(WAIT / 2)
    assert thread.is_alive()
    other = beside(thread.join, LONG)
    go.set()
    thread.join()
    other.result(LONG)
    assert not thread.is_alive()
    return n


# ---- concurrent.futures ----

POOL = concurrent.futures.ThreadPoolExecutor(8)


def double(x):
    time.sleep(WAIT / 10)
    return 2 * x


def fail():
    raise KeyError("on purpose")


@case
def executors(n):
    futures = [POOL.submit(double, i) for i in range(4)]
    assert sorted(future.result() for future in concurrent.futures.as_completed(futures, LONG)) == [0, 2, 4, 6]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(double, range(4), timeout=LONG)) == [0, 2, 4, 6]
        assert isinstance(pool.submit(fail).exception(LONG), KeyError)
        gate = threading.Event()
        slow, quick = pool.submit(gate.wait, LONG), pool.submit(double, n)
        done, waiting = concurrent.futures.wait([slow, quick], LONG, concurrent.futures.FIRST_COMPLETED)
        assert (done, waiting) == ({quick}, {slow})
        try:
            slow.result(WAIT / 2)
        except concurrent.futures.TimeoutError:
            gate.set()
        assert slow.result(LONG) is True
        return quick.result() // 2


@both_ways
def futures(n, first, second):
    future, called = concurrent.futures.Future(), []

    def waits():
        try:
            return future.result(WAIT / 2)
        except concurrent.futures.TimeoutError:
            return future.result(LONG)

    def sets():
        future.add_done_callback(lambda future: called.append(threading.get_ident()))
        time.sleep(WAIT)
        future.set_result(n)
        return threading.get_ident()

    a = first(waits)
    b = second(sets)
    assert a.result(LONG) == n and called == [b.result(LONG)]


# ---- an event loop on a thread of its own ----


def loop_start():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="loop").start()
    return loop


LOOP = loop_start()


@case
def coroutines(n):
    async def later(value):
        await asyncio.sleep(WAIT)
        return value, threading.current_thread().name

    async def never():
        await asyncio.sleep(LONG)

    assert asyncio.run_coroutine_threadsafe(later(n), LOOP).result(LONG) == (n, "loop")
    future = asyncio.run_coroutine_threadsafe(never(), LOOP)
    try:
        future.result(WAIT / 2)
    except concurrent.futures.TimeoutError:
        assert future.cancel()
    return n


@case
def coroutine_waits_for_request(n):
    ours = concurrent.futures.Future()

    async def main():
        return 2 * await asyncio.wrap_future(ours)

    theirs = asyncio.run_coroutine_threadsafe(main(), LOOP)
    time.sleep(WAIT / 2)
    ours.set_result(n)
    assert theirs.result(LONG) == 2 * n
    called = threading.Event()
    LOOP.call_soon_threadsafe(called.set)
    assert called.wait(LONG)
    return n


# ---- threads that C code makes ----

@case
def pending_calls(n):
    """What a C library asks Python's main thread to do is done there, within seconds."""
    done = []

    @ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    def call(_):
        done.append(threading.current_thread() is threading.main_thread())
        return 0

    assert ctypes.pythonapi.Py_AddPendingCall(call, None) == 0
    end = time.monotonic() + LONG
    while not done and time.monotonic() < end:
        time.sleep(0.05)
    assert done == [True]
    return n


CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int)
if "TEST_LIBRARY" in os.environ:
    LIBRARY = ctypes.CDLL(os.environ["TEST_LIBRARY"])
    LIBRARY.call_later.argtypes = [CALLBACK, ctypes.c_int, ctypes.c_int]


@case
def c_calls_back(n):
    """A C thread runs Python, which wakes the request."""
    numbers, names = queue.Queue(), []

    @CALLBACK
    def callback(value):
        names.append(threading.current_thread().name)
        time.sleep(WAIT / 10)
        numbers.put(value)

    assert LIBRARY.call_later(callback, n, int(WAIT * 1000)) == 0
    assert numbers.get(timeout=LONG) == n
    assert LIBRARY.join_last() == 0
    assert names[0].startswith("Dummy-")
    return n


@case
def c_condition(n):
    return LIBRARY.by_condition(n, int(WAIT * 1000))


@case
def c_semaphore(n):
    return LIBRARY.by_semaphore(n, int(WAIT * 1000))


@case
def c_join(n):
    return LIBRARY.by_join(n, int(WAIT * 1000))


@case
def c_pipe(n):
    return LIBRARY.by_pipe(n, int(WAIT * 1000))


# ---- what threading says of a request ----

OUTPUT = io.StringIO()
LOGGER = logging.getLogger("threads")
LOGGER.addHandler(logging.StreamHandler(OUTPUT))
LOGGER.handlers[0].setFormatter(logging.Formatter("%(threadName)s: %(message)s"))
LOGGER.propagate = False


@case
def names(n):
    thread = threading.current_thread()
    assert thread.name == "GET /names", thread.name
    time.sleep(WAIT)
    assert thread is threading.current_thread() and thread.is_alive() and thread in threading.enumerate()
    assert thread.ident == threading.get_ident() and not thread.daemon
    assert beside(lambda: thread.name).result(LONG) == "GET /names"
    assert "GET /names" in repr(thread)
    with open("/proc/self/comm") as f:
        command = f.read()
    thread.name = "mine %d" % n
    with open("/proc/self/comm") as f:
        assert f.read() == command
    time.sleep(WAIT)
    LOGGER.error("a line")
    assert "mine %d: a line\n" % n in OUTPUT.getvalue()
    assert beside(lambda: threading.current_thread().daemon).result(LONG) is False
    assert threading.main_thread().name == "MainThread" and threading.main_thread() is not thread
    return n


def name():
    return threading.current_thread().name


def native_id():
    return "%d %d" % (threading.get_native_id(), os.getpid())


# ---- destructors of thread-local values, entries of threads that have ended ----

LOCAL, LIVES = threading.local(), set()


class Value:
    def __init__(self):
        LIVES.add(id(self))

    def __del__(self):
        LIVES.discard(id(self))


GATE, WAITING = threading.Event(), set()


@case
def gate(n):
    if not hasattr(LOCAL, "value"):
        LOCAL.value = Value()
    assert threading.current_thread().name == "GET /gate"
    WAITING.add(n)
    assert GATE.wait(LONG)
    WAITING.discard(n)
    return n


def gate_open():
    GATE.set()
    GATE.clear()  # for those that come
    return "open"


def counts():
    return "%d %d %d" % (len(WAITING), len(LIVES), len(threading._active))


# ---- hooks ----

EXCEPTIONS, TRACED, PROFILED = [], set(), set()
threading.excepthook = lambda args: EXCEPTIONS.append(args)


def trace(frame, event, arg):
    TRACED.add(frame.f_code.co_name)


def profile(frame, event, arg):
    PROFILED.add(frame.f_code.co_name)


if os.environ.get("TEST_TRACE"):
    threading.settrace(trace)
    threading.setprofile(profile)


def traced():
    beside(double, 1).result(LONG)
    return "%s %s" % ({"traced", "double"} <= TRACED, {"traced", "double"} <= PROFILED)


def excepthook():
    before = len(EXCEPTIONS)
    thread = threading.Thread(target=fail, name="fails")
    thread.start()
    thread.join(LONG)
    seen = [(args.exc_type.__name__, args.thread.name) for args in EXCEPTIONS[before:]]
    EXCEPTIONS.clear()
    return repr(seen)


# ---- the end ----


def note(text):
    with open(os.environ["TEST_NOTES"], "a") as f:
        f.write(text + "\n")


def work():
    time.sleep(1)
    note("worked")


def endless():
    while True:
        time.sleep(0.01)


def busy():
    while True:
        pass


def starts(how):
    target, _, daemon = how.partition(" ")
    arguments = {"daemon": daemon == "daemon"} if daemon else {}
    threading.Thread(target={"work": work, "endless": endless, "busy": busy}[target], **arguments).start()
    return "started"


def submits():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    for _ in range(2):
        pool.submit(work)
    return "submitted"


VIEWS = {f.__name__: f for f in (name, native_id, counts, gate_open, traced, excepthook, submits)}
VIEWS[""] = lambda: str(os.getpid())


def app(environ, start_response):
    name, _, rest = environ["PATH_INFO"][1:].partition("/")
    if name in CASES:
        answer = str(CASES[name](int(environ["QUERY_STRING"].partition("=")[2])))
    elif name == "starts":
        answer = starts(rest)
    else:
        answer = VIEWS.get(name, VIEWS["name"])()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
