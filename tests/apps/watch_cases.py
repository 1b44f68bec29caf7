"""Requests that wait, compute, block and deadlock, for the watchdog (test_watch.py)."""

import ctypes
import os
import queue
import re
import signal
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc_with_gil = ctypes.PyDLL(None)
SYS_NANOSLEEP = {"x86_64": 35, "aarch64": 101}[os.uname().machine]


def sleep_unhooked(library, seconds):
    """nanosleep(2) by its number: nothing stands in front of it."""
    spec = (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
    library.syscall(SYS_NANOSLEEP, spec, None, 0, 0, 0, 0)


def compute(seconds):
    """Nearly all of it in one line, which is where the watchdog finds us."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100000))


def backtrack(n):
    """A match that holds the GIL: about a second for 25, twice that for 26, and so on."""
    return re.match(r"(a+)+$", "a" * n + "b")


def pair(kind):
    """Two locks, to be taken in this order by one and in the other order by another."""
    first, second = kind(), kind()
    return {"a": (first, second), "b": (second, first)}


LOCKS, RLOCKS, MORE_LOCKS = pair(threading.Lock), pair(threading.RLock), pair(threading.Lock)


def hold_both(first, second):
    """Two at once wait for each other for ever."""
    with first:
        time.sleep(0.5)
        with second:
            pass


def acquire_both(first, second):
    first.acquire()
    time.sleep(0.5)
    second.acquire()


mutexes = ctypes.create_string_buffer(128)  # two pthread_mutex_t: zeros are their initialiser
MUTEXES = {"a": (0, 64), "b": (64, 0)}


def lock_both(name):
    first, second = (ctypes.byref(mutexes, at) for at in MUTEXES[name])
    libc.pthread_mutex_lock(first)
    time.sleep(0.5)
    libc.pthread_mutex_lock(second)
    libc.pthread_mutex_unlock(second)
    libc.pthread_mutex_unlock(first)


def lock_twice():
    own = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(own)
    libc.pthread_mutex_lock(own)


held = threading.Lock()


def hold(holding, seconds):
    with held:
        holding.set()
        time.sleep(seconds)


def wait_for_a_lock(seconds):
    holding = threading.Event()
    threading.Thread(target=hold, args=(holding, seconds), daemon=True).start()
    holding.wait()
    with held:
        pass


def answer_later(answers, seconds):
    time.sleep(seconds)
    answers.put("from a thread")


def wait_for_a_thread(seconds):
    answers = queue.Queue()
    threading.Thread(target=answer_later, args=(answers, seconds), daemon=True).start()
    return answers.get()


def fork():
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGRTMIN + 3)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


CASES = {
    "/sleep": lambda q: time.sleep(float(q)),
    "/compute": lambda q: compute(float(q)),
    "/syscall": lambda q: sleep_unhooked(libc, float(q)),
    "/syscall-gil": lambda q: sleep_unhooked(libc_with_gil, float(q)),
    "/backtrack": lambda q: backtrack(int(q)),
    "/locks": lambda q: hold_both(*LOCKS[q]),
    "/rlocks": lambda q: hold_both(*RLOCKS[q]),
    "/acquire": lambda q: acquire_both(*MORE_LOCKS[q]),
    "/mutexes": lock_both,
    "/queue": lambda q: wait_for_a_thread(float(q)),
    "/held": lambda q: wait_for_a_lock(float(q)),
    "/self": lambda q: lock_twice(),
    "/abort": lambda q: os.abort(),
    "/fork": lambda q: fork(),
    "/": lambda q: None,
}


def app(environ, start_response):
    path = environ["PATH_INFO"].split(";")[0]
    if path == "/body":
        environ["wsgi.input"].read(1)
    else:
        CASES[path](environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
