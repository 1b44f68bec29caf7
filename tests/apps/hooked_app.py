"""What tests/apps/hooked.py's hooks are around."""

import json
import os
import sys
import time


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/spin":
        while True:
            pass
    if path == "/sleep":
        time.sleep(3600)
    if path == "/broken":
        raise RuntimeError("the application fails")
    body = json.dumps({"pid": os.getpid(), "hooked": "hooked" in sys.modules, "env": dict(os.environ)}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Own", "a: b"), ("Content-Length", str(len(body)))])
    return [body]
