"""Routes for tests of the server around the application: time, size, and what was received."""

import atexit
import os
import time


atexit.register(print, "exit handler ran", flush=True)


def application(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], hello)(environ, start_response)


def text(start_response, body, *headers):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
    return [body]


def hello(environ, start_response):
    """The path and query, so that pipelined answers can be told apart."""
    return text(start_response, (environ["RAW_URI"] + "\n").encode())


def method(environ, start_response):
    return text(start_response, environ["REQUEST_METHOD"].encode())


def sleep(environ, start_response):
    """/sleep?0.5"""
    time.sleep(float(environ["QUERY_STRING"]))
    return text(start_response, b"slept\n")


def busy(environ, start_response):
    """/busy?0.5: without giving way."""
    end = time.monotonic() + float(environ["QUERY_STRING"])
    while time.monotonic() < end:
        pass
    return text(start_response, b"busy\n")


def big(environ, start_response):
    """/big?1000: one string."""
    return text(start_response, b"x" * int(environ["QUERY_STRING"]))


def stream(environ, start_response):
    """/stream?100: as many chunks of 64 KiB, of unknown length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (b"x" * 65536 for _ in range(int(environ["QUERY_STRING"])))


def cut(environ, start_response):
    """Announces more than it sends."""
    start_response("200 OK", [("Content-Length", "100")])
    return [b"short"]


def fail(environ, start_response):
    raise RuntimeError("as asked")


def fail_late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    raise RuntimeError("as asked, late")


def echo(environ, start_response):
    return text(start_response, environ["wsgi.input"].read())


def environ_value(environ, start_response):
    """/environ_value?KEY"""
    return text(start_response, str(environ[environ["QUERY_STRING"]]).encode())


def part(environ, start_response):
    """/part?10: reads that much of the body."""
    return text(start_response, environ["wsgi.input"].read(int(environ["QUERY_STRING"])))


def close(environ, start_response):
    return text(start_response, b"bye\n", ("Connection", "close"))


def peer(environ, start_response):
    names = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
    return text(start_response, " ".join(repr(environ.get(name)) for name in names).encode())


def pid(environ, start_response):
    return text(start_response, str(os.getpid()).encode())


def child(environ, start_response):
    """Fork a child that is told to stop; it must not stop us."""
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    os.kill(pid, 15)
    _, status = os.waitpid(pid, 0)
    return text(start_response, str(os.waitstatus_to_exitcode(status)).encode())


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


ROUTES = {
    "/" + function.__name__: function
    for function in (
        method, sleep, busy, big, stream, cut, fail, fail_late, echo, part, close, peer, pid, child, no_content,
        environ_value,
    )
}
