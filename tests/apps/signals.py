"""Sets signal handlers while it is loaded, as applications do; they count."""

import os
import signal
import threading
import time

seen = []


def on_usr2(number, frame):
    time.sleep(0.01)  # a handler may block: it runs on a green thread
    seen.append((number, threading.current_thread() is threading.main_thread()))


def on_alarm(number, frame):
    raise RuntimeError("from a signal handler")


signal.signal(signal.SIGUSR2, on_usr2)
signal.signal(signal.SIGALRM, on_alarm)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/kill":
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR2)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(seen).encode()]
