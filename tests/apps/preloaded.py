"""An application that tells where it was loaded, and what its worker has of its own."""

import gc
import json
import os
import random
import signal
import threading
import time

LOADED_BY = os.getpid()
BALLAST = [{"number": i, "text": "x%d" % i} for i in range(int(os.environ.get("TEST_BALLAST", "0")))]
signals = []

if os.environ.get("TEST_THREAD"):
    threading.Thread(target=time.sleep, args=(3600,), name="exporter", daemon=True).start()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/alarm":
        os.kill(os.getpid(), signal.SIGALRM)
        time.sleep(0.3)
    if environ["PATH_INFO"] == "/thread":
        thread = threading.Thread(target=time.sleep, args=(0.05,))
        thread.start()
        thread.join()
    time.sleep(0.01)
    about = {
        "loaded_by": LOADED_BY,
        "pid": os.getpid(),
        "random": random.random(),
        "frozen": gc.get_freeze_count(),
        "signals": signals,
        "main": threading.main_thread().name,
        "threads": sorted(t.name for t in threading.enumerate()),
    }
    body = json.dumps(about).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


signal.signal(signal.SIGALRM, lambda *_: signals.append((os.getpid(), threading.current_thread() is threading.main_thread())))
