"""Functions beside the request that starts them, time limits for any blocking code, pools.

In a worker of greenicorn functions run on green threads; in any other Python, so that the tests of an
application need no server, on threads of their own. docs/module.md says what differs.
"""

import _thread
import collections
import contextvars
import heapq
import itertools
import os
import sys
import threading
import time

__all__ = ["Cancelled", "Handle", "Pool", "Thread", "Timeout", "current", "sleep", "spawn", "stats"]

_worker = sys.modules.get("_greenicorn")  # the C half, inside a worker (interrupt.c, spawn.c)
_names = itertools.count(1)
_running = {}  # by thread: the Handle of what runs there
_unfinished = set()  # Handles
_forked = False


def _in_worker():
    """Whether there are green threads here: not in other Pythons, nor in children of a worker."""
    ready = _worker is not None and _worker.spawn_ready()
    if ready is None:
        raise RuntimeError(
            "with preload_app the application is loaded before there is a worker: "
            "greenicorn's functions can be called from requests on"
        )
    return ready


class Cancelled(BaseException):
    """Raised in a function by its handle's cancel()."""

    def _thrown(self):
        return self


# ---- interrupting threads outside a worker -----------------------------------------------------


class _Clock:
    """Calls timeout._fire() when it is time, on a thread of its own that exists while there is one."""

    def __init__(self):
        self.changed = threading.Condition(threading.Lock())
        self.heap = []
        self.numbers = itertools.count()  # so that entries of the same time are in order
        self.thread = None

    def add(self, entry):
        with self.changed:
            heapq.heappush(self.heap, entry)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="greenicorn-clock", daemon=True)
                self.thread.start()
            elif self.heap[0] is entry:
                self.changed.notify()

    def remove(self, entry):
        with self.changed:
            if entry in self.heap:
                self.heap.remove(entry)
                heapq.heapify(self.heap)

    def run(self):
        while True:
            with self.changed:
                left = self.heap[0][0] - time.monotonic() if self.heap else None
                if left is None or left > 0:
                    # the process may go on for long without another one: the thread does not
                    woken = self.changed.wait(10 if left is None else min(left, 3600))
                    if left is None and not woken and not self.heap:
                        self.thread = None
                        return
                    continue
                entry = heapq.heappop(self.heap)
            entry[2].fire(entry[3])


class _Slot:
    """What may interrupt a plain thread; the counterpart of the one in interrupt.c.

    The exception is raised when the thread runs Python code again: what waits in C goes on waiting,
    but for the waits of this module.
    """

    def __init__(self):
        self.ident = threading.get_ident()
        self.lock = threading.RLock()  # also taken by what interrupts who has it
        self.job = None
        self.entries = {}  # armed: by timeout
        self.wanted = []  # fired, not yet raised
        self.raised = set()
        self.waits_for = None

        class Wanted(BaseException):
            """Python makes an object of the class that is to be raised: the one that is wanted."""

            def __new__(cls, made=None):
                return self.take() if made is None else made  # Python may call it again with the object

        self.raises = Wanted

    def _set(self, what):
        import ctypes

        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.ident), None if what is None else ctypes.py_object(what)
        )

    def take(self):
        with self.lock:
            key = self.wanted.pop(0)
            self.raised.add(key)
            if self.wanted:
                self._set(self.raises)
        return key._thrown()

    def _want(self, key):
        self.wanted.append(key)
        self._set(self.raises)
        if self.waits_for is not None:
            _release(self.waits_for)

    def begin(self, job):
        with self.lock:
            self.job = job
            self.wanted.clear()
            self.raised.clear()
            self._set(None)

    def throw(self, job, key):
        with self.lock:
            if self.job is job:
                self._want(key)

    def fire(self, timeout):
        with self.lock:
            if timeout in self.entries:
                self._want(timeout)

    def arm(self, timeout, seconds):
        entry = self.entries[timeout] = (time.monotonic() + seconds, next(_clock.numbers), self, timeout)
        _clock.add(entry)

    def disarm(self, timeout):
        with self.lock:
            entry = self.entries.pop(timeout, None)
        if entry is None:
            return False
        _clock.remove(entry)
        with self.lock:
            if timeout in self.wanted:
                self.wanted.remove(timeout)
                self._set(self.raises if self.wanted else None)
            elif timeout in self.raised:
                self.raised.discard(timeout)
                return False
        return time.monotonic() >= entry[0]

    def acquire(self, lock, seconds):
        self.waits_for = lock
        try:
            if not self.wanted:
                return lock.acquire(True, seconds)
        finally:
            self.waits_for = None


_clock = _Clock()
_local = threading.local()


def _slot():
    """This thread's."""
    slot = _worker.slot() if _in_worker() else None
    if slot is None:
        slot = getattr(_local, "slot", None)
        if slot is None:
            slot = _local.slot = _Slot()
    return slot


# ---- waiting -----------------------------------------------------------------------------------


def _release(lock):
    try:
        lock.release()
    except RuntimeError:  # it has been
        pass


def _acquire(lock, seconds):
    slot = getattr(_local, "slot", None)
    if slot is None:
        return lock.acquire(True, seconds)
    return slot.acquire(lock, seconds)


def _wait(waiters, is_over, timeout=None):
    """Wait until is_over(); who makes it so calls _wake(waiters)."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while not is_over():
        lock = _thread.allocate_lock()
        lock.acquire()
        waiters.append(lock)
        try:
            left = -1 if deadline is None else min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
            if is_over():
                break
            if deadline is not None and left <= 0:
                return False
            _acquire(lock, left)
        finally:
            try:
                waiters.remove(lock)
            except ValueError:  # by _wake
                pass
    return True


def _wake(waiters):
    while waiters:
        try:
            _release(waiters.pop())
        except IndexError:
            return


def sleep(seconds=0):
    """Let others run for so long."""
    if getattr(_local, "slot", None) is None:
        time.sleep(max(seconds, 0))
    else:
        _wait([], lambda: False, seconds)


class Timeout(BaseException):
    """with Timeout(seconds): raise it in this thread when the block takes longer than that.

    Another exception can be given to be raised instead; with False the block just ends. None is no limit.
    """

    def __init__(self, seconds=None, exception=None):
        super().__init__(seconds, exception)
        self.seconds = seconds
        self.exception = exception
        self._armed_in = None

    @classmethod
    def start_new(cls, seconds=None, exception=None):
        timeout = cls(seconds, exception)
        timeout.start()
        return timeout

    @property
    def pending(self):
        return self._armed_in is not None

    def start(self):
        if self.pending:
            raise RuntimeError("%r is already started" % self)
        if self.seconds is not None:
            slot = _slot()
            self._armed_in = slot
            slot.arm(self, self.seconds)

    def close(self):
        self._end()

    cancel = close

    def _end(self):
        """Whether its time was over, and nobody has been told."""
        slot, self._armed_in = self._armed_in, None
        return slot is not None and slot.disarm(self)

    def _thrown(self):
        if self.exception is None or isinstance(self.exception, bool):
            return self
        if isinstance(self.exception, BaseException):
            return self.exception
        return self.exception()

    def __enter__(self):
        if not self.pending:
            self.start()
        return self

    def __exit__(self, kind, value, traceback):
        if self._end() and (value is None or isinstance(value, Exception)):
            # what could not be interrupted is over, or a library has made another error of it
            if self.exception is False:
                return True
            raise self._thrown()
        return value is self and self.exception is False

    def __str__(self):
        if self.seconds is None:
            return ""
        return "%s second%s" % (self.seconds, "" if self.seconds == 1 else "s")

    def __repr__(self):
        return "<Timeout of %s>" % (self or "no seconds")

    def __bool__(self):
        return True


# ---- functions ---------------------------------------------------------------------------------


class Handle:
    """What spawn() gives: a function that runs beside its caller."""

    def __init__(self, fn, args, kwargs):
        self.name = "spawn-%d" % next(_names)
        self._call = fn, args, kwargs
        self._context = contextvars.copy_context()
        self._waiters = []
        self._done = False
        self._cancel = False
        self._slot = None
        self._result = self._exception = None
        self._asked = False
        self._then = None

    def __repr__(self):
        state = "done" if self._done else "running" if self._slot is not None else "waiting"
        return "<Handle %s, %s>" % (self.name, state)

    def _run(self):
        ident = threading.get_ident()
        fn, args, kwargs = self._call
        self._call = None
        _running[ident] = self
        slot = _slot()
        try:
            slot.begin(self)
            self._slot = slot
            if self._cancel:
                raise Cancelled
            try:
                self._result = self._context.run(fn, *args, **kwargs)
            finally:
                slot.begin(None)
        except BaseException as error:
            if _forked:
                raise
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next  # this frame, which would hold us
            self._exception = error
        finally:
            _running.pop(ident, None)
        self._finish()

    def _finish(self):
        self._slot = self._context = None
        self._done = True
        _unfinished.discard(self)
        _wake(self._waiters)
        if self._then is not None:
            self._then(self)

    def __del__(self):
        error = self.__dict__.get("_exception")
        if error is None or self._asked or isinstance(error, Cancelled):
            return
        what = "%s failed, and nobody asked" % self.name
        if _worker is not None:
            _worker.spawn_log(what, error)
        else:
            import logging

            logging.getLogger("greenicorn").error(what, exc_info=error)

    def done(self):
        return self._done

    def cancelled(self):
        return self._done and isinstance(self._exception, Cancelled)

    def cancel(self):
        """Raise Cancelled in it at its next wait, or the one it is in. False: it is done."""
        if self._done:
            return False
        if not self._cancel:
            self._cancel = True
            slot = self._slot
            if slot is not None:
                slot.throw(self, Cancelled())
        return True

    def join(self, timeout=None):
        """Wait until it is done; whether it is."""
        return _wait(self._waiters, self.done, timeout)

    def exception(self, timeout=None):
        """What it has raised, or None."""
        if not self.join(timeout):
            raise TimeoutError("%s is not done" % self.name)
        self._asked = True
        if isinstance(self._exception, Cancelled):
            from concurrent.futures import CancelledError

            raise CancelledError(self.name)
        return self._exception

    def result(self, timeout=None):
        """What it has returned; raises what it has raised."""
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                error = self = None  # no cycle of the exception and this frame
        return self._result


def _start(handle):
    if _in_worker():
        _unfinished.add(handle)
        _worker.spawn_run(handle._run)
    else:
        threading.Thread(target=handle._run, name=handle.name).start()
    return handle


def spawn(fn, /, *args, **kwargs):
    """Run fn(*args, **kwargs) beside the caller, with a copy of its context variables: a Handle."""
    return _start(Handle(fn, args, kwargs))


class Thread(threading.Thread):
    """A threading.Thread that is a green thread, for libraries that can be told which class to use."""

    _green = None

    def _run_green(self):
        self._ident = threading.get_ident()
        self.run()

    def start(self):
        if self._green is not None:
            raise RuntimeError("threads can only be started once")
        self._green = Handle(self._run_green, (), {})
        self._green.name = self.name
        _start(self._green)
        if self.daemon:
            _unfinished.discard(self._green)

    def join(self, timeout=None):
        if self._green is None:
            raise RuntimeError("cannot join thread before it is started")
        self._green.join(timeout)

    def is_alive(self):
        return self._green is not None and not self._green.done()


def current():
    """The Handle of the function that runs in this thread, or None."""
    return _running.get(threading.get_ident())


def stats():
    """How many threads there are, how many are busy, how much waits for one, how often they were switched."""
    if _in_worker():
        return _worker.spawn_stats()
    return {"threads": threading.active_count(), "busy": len(_running), "queued": 0, "switches": 0}


class Pool:
    """At most size functions at a time: who wants to start another one waits."""

    def __init__(self, size):
        if size < 1:
            raise ValueError("a pool has room for one at least")
        self.size = size
        self._handles = set()
        self._waiters = []

    def __len__(self):
        return len(self._handles)

    def _has_room(self):
        return len(self._handles) < self.size

    def _is_empty(self):
        return not self._handles

    def _over(self, handle):
        self._handles.discard(handle)
        _wake(self._waiters)

    def spawn(self, fn, /, *args, **kwargs):
        handle = Handle(fn, args, kwargs)
        handle._then = self._over
        _wait(self._waiters, self._has_room)
        self._handles.add(handle)
        try:
            return _start(handle)
        except BaseException:
            self._handles.discard(handle)
            raise

    def apply(self, fn, args=(), kwargs={}):
        return self.spawn(fn, *args, **kwargs).result()

    def map(self, fn, *iterables):
        """The results, in order, when all are done. The first exception is raised then."""
        handles = [self.spawn(fn, *args) for args in zip(*iterables)]
        for handle in handles:
            handle.join()
            handle._asked = True
        return [handle.result() for handle in handles]

    def imap(self, fn, *iterables):
        """An iterator of the results, in order; it starts no more than it must to keep the pool full."""
        handles = collections.deque()
        for args in zip(*iterables):
            if len(handles) >= self.size:
                yield handles.popleft().result()
            handles.append(self.spawn(fn, *args))
        while handles:
            yield handles.popleft().result()

    def join(self, timeout=None):
        """Wait until all are done; whether they are."""
        return _wait(self._waiters, self._is_empty, timeout)


# ---- the end, and forks ------------------------------------------------------------------------


def _join_all():
    """Before the worker joins threads: what was spawned may finish. Plain threads are joined as such."""
    while _unfinished:
        for handle in list(_unfinished):
            handle.join()


def _after_fork():
    """In a child: of all that ran, only this thread is left, and it may not start green threads."""
    global _forked, _clock
    _forked = True
    _clock = _Clock()
    _running.clear()
    _unfinished.clear()
    if hasattr(_local, "slot"):
        del _local.slot


os.register_at_fork(after_in_child=_after_fork)
