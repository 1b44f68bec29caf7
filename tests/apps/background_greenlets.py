"""Starts greenlets while it is loaded, as applications do that come from gunicorn -k gevent."""

import os
import signal
import sys
import time

library = __import__(os.environ["GREEN_LIBRARY"])
ticks, asked = [], []


def tick():
    while True:
        ticks.append(time.monotonic())
        library.sleep(0.02)


def on_usr2(number, frame):
    asked.append(number)


def on_alarm(number, frame):
    library.spawn(sys.exit)  # as in a signal handler, it ends the worker


library.spawn(tick)
signal.signal(signal.SIGUSR2, on_usr2)
signal.signal(signal.SIGALRM, on_alarm)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %d" % (len(ticks), len(asked))]
