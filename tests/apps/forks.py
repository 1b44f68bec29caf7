"""Views that make processes, in good and in bad manners."""

import concurrent.futures
import logging
import multiprocessing
import os
import sys
import threading
import time


def double(x):
    time.sleep(0.02)
    return x * 2


def fork():
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            time.sleep(0.02)
            os.write(w, b"main thread: %r" % (threading.current_thread() is threading.main_thread()))
        finally:
            os._exit(3)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        return f.read().decode(), status_of(pid)


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def process():
    logging.warning("makes a _DummyThread of this one")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(double(4)))
    child.start()
    child.join(20)
    return queue.get(), child.exitcode


def pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(double, range(4))


# Python 3.14's ProcessPoolExecutor hangs when several threads fork at once, without us, too: a
# child runs the exit handlers of the other executors, whose locks were held at its fork.
EXECUTOR = multiprocessing.get_context("fork" if sys.version_info < (3, 14) else "spawn")


def executor():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=EXECUTOR) as pool:
        return list(pool.map(double, range(4)))


def comes_back(how):
    """A child that does not end in the view."""
    pid = os.fork()
    if pid == 0:
        if how == "raises":
            raise RuntimeError("in the child")
        if how == "exits":
            sys.exit(5)
        return "the child's"
    return status_of(pid)


VIEWS = {
    "/fork": fork,
    "/process": process,
    "/pool": lambda: pool("fork"),
    "/spawn": lambda: pool("spawn"),
    "/executor": executor,
    "/returns": lambda: comes_back("returns"),
    "/raises": lambda: comes_back("raises"),
    "/exits": lambda: comes_back("exits"),
}


def app(environ, start_response):
    if environ["PATH_INFO"] == "/generator":
        return generator(start_response)
    value = VIEWS[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(value).encode()]


def generator(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one "
    pid = os.fork()
    yield b"status %d" % (status_of(pid) if pid else -1)
