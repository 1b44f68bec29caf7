"""An application for clients that count what is lost: every answer can be checked."""

import hashlib
import time


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/upload":
        body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    elif path == "/download":
        body = b"0123456789abcdef" * (int(environ["QUERY_STRING"]) // 16)
    elif path == "/sleep":
        time.sleep(float(environ["QUERY_STRING"]))
        body = environ["QUERY_STRING"].encode()
    else:
        body = path.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
