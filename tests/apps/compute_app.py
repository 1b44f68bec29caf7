"""Requests that compute in pure Python, beside others; for the setting preempt."""

import os
import sys
import threading
import time

LOCAL = threading.local()
LOCK = threading.Lock()
COUNTER = {"locked": 0, "computing": 0}
STOP = threading.Event()


def endless():
    """Until /stop; it never waits."""
    with LOCK:
        COUNTER["computing"] += 1
    while not STOP.is_set():
        pass
    return "stopped"


def compute(n):
    """n thousand steps. Not even a lock is taken: /computing sees it only when it is interrupted."""
    COUNTER["computing"] += 1
    count = 0
    for _ in range(n * 1000):
        count += 1
    COUNTER["computing"] -= 1
    return count


def locked():
    """Read, change and write back, which a lock makes one."""
    for _ in range(5000):
        with LOCK:
            value = COUNTER["locked"]
            COUNTER["locked"] = value + 1
    return COUNTER["locked"]


def identity():
    """What belongs to a thread, looked at over and over."""
    me = LOCAL.me = threading.get_ident()
    for i in range(50000):
        assert threading.get_ident() == me == LOCAL.me
        try:
            raise KeyError(me)
        except KeyError:
            assert sys.exc_info()[1].args == (me,)
    return me


def stop():
    STOP.set()


def stop_after(ms):
    sleep(ms)
    stop()


def sleep(ms):
    time.sleep(ms / 1000)
    return ms


ROUTES = {
    "/compute": compute,
    "/computing": lambda: COUNTER["computing"],
    "/counter": lambda: COUNTER["locked"],
    "/endless": endless,
    "/identity": identity,
    "/locked": locked,
    "/pid": os.getpid,
    "/sleep": sleep,
    "/stop": stop,
    "/stop_after": stop_after,
}


def app(environ, start_response):
    arguments = [int(environ["QUERY_STRING"])] if environ["QUERY_STRING"] else []
    body = str(ROUTES[environ["PATH_INFO"]](*arguments)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
