"""What it costs to wait and go on: greenicorn's hooked calls beside gevent's own, and a bare greenlet.switch().

Two take turns N times; nanoseconds of CPU for each turn, of the thread that runs both. Run as a
program it measures gevent.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from statistics import median

N = 50000
KINDS = ["sleep", "lock", "socket"]
WORDS = {
    "sleep": "time.sleep(0)",
    "lock": "a lock acquired from the other, one released for it",
    "socket": "a byte sent to the other by a socket, one received",
}
MOST = 3  # times a greenlet.switch(), where the kernel has no part in it


class Turns:
    """Two sides of one kind, with the lock and the sleep of whoever is measured."""

    def __init__(self, lock=None, sleep=None):
        self.sleep = sleep or time.sleep
        self.locks = [(lock or threading.Lock)() for _ in range(2)]
        self.ends = socket.socketpair()
        self.locks[1].acquire()

    def take(self, kind, side):
        start = time.thread_time_ns()
        getattr(self, kind + "_turns")(side)
        return (time.thread_time_ns() - start) / 2 / N

    def sleep_turns(self, side):
        for _ in range(N):
            self.sleep(0)

    def lock_turns(self, side):
        mine, other = self.locks[side], self.locks[1 - side]
        for _ in range(N):
            mine.acquire()
            other.release()

    def socket_turns(self, side):
        end = self.ends[side]
        for _ in range(N):
            end.send(b"x")
            end.recv(1)


# ---- greenicorn: an application of two requests at once, /KIND/SIDE ----

turns = Turns()


def switches(environ, start_response):
    parts = environ["PATH_INFO"].split("/")[1:]
    body = b"ready" if len(parts) < 2 else b"%f" % turns.take(parts[0], int(parts[1]))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def greenicorn(server, kind):
    """Both measure the whole, and the later one from its first turn to its last."""
    sides = [server.connect() for _ in range(2)]
    for side, connection in enumerate(sides):
        connection.get("/%s/%d" % (kind, side))
    figures = [float(connection.response().text) for connection in sides]
    for connection in sides:
        connection.close()
    return max(figures)


# ---- gevent ----


def bare_switch():
    import greenlet

    main = greenlet.getcurrent()

    def other():
        while True:
            main.switch()

    it = greenlet.greenlet(other)
    start = time.thread_time_ns()
    for _ in range(N):
        it.switch()
    return (time.thread_time_ns() - start) / 2 / N


def gevent_turns(kind):
    import gevent
    from gevent import lock, monkey

    monkey.patch_socket()
    both = Turns(lambda: lock.Semaphore(1), gevent.sleep)
    sides = [gevent.spawn(both.take, kind, side) for side in range(2)]
    return max(it.get() for it in gevent.joinall(sides))


def other(kind):
    command = ["/usr/bin/python3", "-B", os.path.abspath(__file__), kind]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


class SwitchScenario:
    what = (
        "Waiting and going on: two requests, or greenlets, take turns; nanoseconds of CPU for each turn, user and system. "
        "The last column compares greenicorn with a bare greenlet.switch(), which does not wait for anything."
    )
    columns = ["a turn", "greenicorn", "gevent", "greenlet.switch()", "greenicorn to that", "target", "met"]

    def run(self, options):
        from servers import GREENICORN, running
        from tables import spread, verdict

        rows = []
        with running([GREENICORN], "switches", options.build) as (server,):
            for kind in KINDS:
                rounds = [(greenicorn(server, kind), other(kind), other("switch")) for _ in range(options.rounds)]
                ours, gevents, bare = (list(figures) for figures in zip(*rounds))
                ratio = median(ours) / median(bare)
                target = [] if kind == "socket" else [("≤ %d×" % MOST, ratio <= MOST)]
                figures = [spread(of, "%.0f", " ns") for of in (ours, gevents, bare)]
                rows.append([WORDS[kind], *figures, "%.1f×" % ratio, *verdict(target)])
        return rows


if __name__ == "__main__":
    print(bare_switch() if sys.argv[1] == "switch" else gevent_turns(sys.argv[1]))
