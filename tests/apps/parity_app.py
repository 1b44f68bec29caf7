"""What the parity test asks of gunicorn and of greenicorn: see tests/server/parity_cases.py."""

import json
import os
import time


def show(value):
    if isinstance(value, (str, bool, int, float, type(None))):
        return value
    if isinstance(value, tuple):
        return list(value)
    return "object"


def environ(environ, start_response):
    body = json.dumps({key: show(value) for key, value in environ.items()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def chunks(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"one", b"", b"two"])


def write(environ, start_response):
    send = start_response("200 OK", [("Content-Type", "text/plain")])
    send(b"written ")
    return [b"returned"]


def headers(environ, start_response):
    fields = [("Content-Length", "2"), ("X-One", "1"), ("x-one", "2"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    start_response("200 OK", fields)
    return [b"ok"]


def own(environ, start_response):
    """Fields that are the server's."""
    start_response("200 OK", [("Server", "mine"), ("Date", "today"), ("Content-Length", "2")])
    return [b"ok"]


def hop(environ, start_response):
    start_response("200 OK", [("Keep-Alive", "timeout=9"), ("Content-Length", "2")])
    return [b"ok"]


def status(environ, start_response):
    start_response("%s Thing" % environ["PATH_INFO"].rsplit("/", 1)[1], [("X-One", "1")])
    return []


def body_of_none(environ, start_response):
    """A body where there may be none."""
    start_response("%s Thing" % environ["PATH_INFO"].rsplit("/", 1)[1], [])
    return [b"nobody reads this"]


def too_long(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"four and more"]


def error(environ, start_response):
    raise ValueError("on purpose")


def error_late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun "
    raise ValueError("too late")


def bad_header(environ, start_response):
    start_response("200 OK", [("X-Split", "a\r\nX-Evil: 1"), ("Content-Length", "2")])
    return [b"ok"]


def file(environ, start_response):
    start_response("200 OK", [("Content-Length", str(os.path.getsize(__file__)))])
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))


def sleep(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 1))
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def pid(environ, start_response):
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


PAGES = {
    f.__name__: f
    for f in (environ, echo, chunks, write, headers, own, hop, status, body_of_none, too_long)
    + (error, error_late, bad_header, file, sleep, pid)
}


def app(env, start_response):
    page = env["PATH_INFO"].strip("/").split("/")[0]
    return PAGES.get(page, environ)(env, start_response)


not_callable = 7
