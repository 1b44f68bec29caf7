"""What runs a request, and how many of them at once: see tests/server/test_worker_class.py."""

import json
import os
import subprocess
import threading
import time

lock = threading.Lock()
local = threading.local()
running = most = 0
gate = threading.Event()


def sleep(environ):
    time.sleep(float(environ["QUERY_STRING"]))


def compute(environ):
    end = time.monotonic() + float(environ["QUERY_STRING"])
    while time.monotonic() < end:
        pass


def wait(environ):
    assert gate.wait(30)


def open_gate(environ):
    gate.set()


def child(environ):
    return subprocess.check_output(["grep", "SigBlk", "/proc/self/status"]).decode()


def error(environ):
    raise ValueError("on purpose")


PAGES = {"/sleep": sleep, "/compute": compute, "/wait": wait, "/open": open_gate, "/child": child, "/error": error}


def reply(environ):
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    try:
        body = environ["wsgi.input"].read()
        said = PAGES.get(environ["PATH_INFO"], lambda environ: None)(environ)
    finally:
        with lock:
            running -= 1
    local.requests = getattr(local, "requests", 0) + 1
    return {
        "most": most,
        "pid": os.getpid(),
        "native": threading.get_native_id(),
        "main": threading.current_thread() is threading.main_thread(),
        "requests": local.requests,
        "multithread": environ["wsgi.multithread"],
        "body": len(body),
        "said": said,
    }


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"x" * 65536 for _ in range(64))
    body = json.dumps(reply(environ)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
