"""Which worker answers. /compute?FILE keeps its worker busy until there is such a file."""

import os
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/compute":
        end = time.monotonic() + 120
        while not os.path.exists(environ["QUERY_STRING"]) and time.monotonic() < end:
            sum(range(1000))
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
