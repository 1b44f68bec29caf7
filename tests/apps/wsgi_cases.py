"""One route for each rule of PEP 3333 that a test asks about: the function's name is the path.

What happened is kept in EVENTS, which /events prints and empties: close() calls,
exceptions that write() raised, and the like.
"""

import contextvars
import decimal
import gc
import gzip
import io
import json
import os
import queue
import sys
import tempfile
import threading
import time

ROUTES = {}
EVENTS = []
KEPT = {}
VAR = contextvars.ContextVar("var", default="unset")
PLAIN = [("Content-Type", "text/plain")]


def route(function):
    ROUTES["/" + function.__name__] = function
    return function


def app(environ, start_response):
    function = ROUTES.get(environ["PATH_INFO"])
    if function is None:
        start_response("404 Not Found", PLAIN)
        return [b"no such case\n"]
    return function(environ, start_response)


def answer(start_response, value):
    body = json.dumps(value, default=repr).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class Closing:
    """An iterable that notes its close()."""

    def __init__(self, chunks, name, error=None):
        self.chunks = iter(chunks)
        self.name = name
        self.error = error

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def close(self):
        EVENTS.append("closed " + self.name)
        if self.error:
            raise self.error


@route
def events(environ, start_response):
    happened, EVENTS[:] = list(EVENTS), []
    return answer(start_response, happened)


# environ


@route
def environ(environ, start_response):
    return answer(start_response, {key: value for key, value in environ.items()})


@route
def hop(environ, start_response):
    start_response("200 OK", [("Keep-Alive", "timeout=9"), ("Transfer-Encoding", "chunked"), ("Content-Length", "2")])
    return [b"ok"]


@route
def environ_types(environ, start_response):
    environ["added.by.application"] = "here"
    return answer(
        start_response,
        {
            "exact dict": type(environ) is dict,
            "not native": [k for k, v in environ.items() if k[:5] != "wsgi." and k != "gunicorn.socket" and type(v) is not str],
            "order": [k for k in environ if k.startswith("HTTP_")],
        },
    )


@route
def log_environ(environ, start_response):
    environ["REMOTE_USER"] = "grace"
    environ["app.number"] = 42
    start_response("200 OK", PLAIN)
    return [b"ok"]


# wsgi.input


@route
def read(environ, start_response):
    """Call the methods of wsgi.input that the query lists: ?read,5;readline;read"""
    out = []
    for call in environ["QUERY_STRING"].split(";"):
        method, *args = call.split(",")
        try:
            args = [None if arg == "None" else int(arg) for arg in args]
            value = getattr(environ["wsgi.input"], method)(*args)
            value = [line.decode("latin-1") for line in value] if type(value) is list else value
            out.append(value.decode("latin-1") if type(value) is bytes else value)
        except Exception as error:
            out.append("%s: %s" % (type(error).__name__, error))
    return answer(start_response, out)


@route
def iterate(environ, start_response):
    return answer(start_response, [line.decode("latin-1") for line in environ["wsgi.input"]])


@route
def readinto(environ, start_response):
    buffer, out = bytearray(7), b""
    while n := environ["wsgi.input"].readinto(buffer):
        out += buffer[:n]
    return answer(start_response, out.decode("latin-1"))


@route
def text_wrapper(environ, start_response):
    text = io.TextIOWrapper(io.BufferedReader(environ["wsgi.input"]), encoding="utf-8")
    return answer(start_response, list(text))


@route
def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body]


@route
def echo_stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return iter(lambda: environ["wsgi.input"].read(4096), b"")


@route
def size(environ, start_response):
    return answer(start_response, len(environ["wsgi.input"].read()))


@route
def unread(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"did not read"]


@route
def input_error(environ, start_response):
    """Catch what a broken body raises and tell about it in /events."""
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        EVENTS.append("%s %s" % (type(error).__name__, error))
        raise
    return answer(start_response, "whole")


@route
def keep_input(environ, start_response):
    """Keep what belongs to this request; /use_kept tries it in a later one."""
    KEPT.update(input=environ["wsgi.input"], start_response=start_response)
    KEPT["write"] = start_response("200 OK", PLAIN)
    return [b"kept"]


@route
def use_kept(environ, start_response):
    out = []
    for call in (
        lambda: KEPT["input"].read(),
        lambda: KEPT["input"].readline(),
        lambda: KEPT["input"].readlines(),
        lambda: KEPT["input"].readinto(bytearray(3)),
        lambda: next(KEPT["input"]),
        lambda: KEPT["start_response"]("200 OK", []),
        lambda: KEPT["write"](b"late"),
    ):
        try:
            out.append(repr(call()))
        except Exception as error:
            out.append(type(error).__name__)
    out.append(KEPT["input"].closed)
    return answer(start_response, out)


@route
def thread_reads(environ, start_response):
    """Leave a thread behind that still waits for the body when the request is over."""
    entered = threading.Event()

    def read():
        entered.set()
        try:
            EVENTS.append("read %r" % environ["wsgi.input"].read())
        except Exception as error:
            EVENTS.append("reader %s" % type(error).__name__)

    KEPT["reader"] = threading.Thread(target=read)
    KEPT["reader"].start()
    entered.wait()
    time.sleep(0.05)
    start_response("200 OK", PLAIN)
    return [b"left"]


@route
def join_reader(environ, start_response):
    KEPT["reader"].join(5)
    return answer(start_response, KEPT["reader"].is_alive())


# wsgi.errors


@route
def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    print("one line for the error log", file=stream)
    stream.write("snow \u2603 surrogate \udc80 ")
    stream.writelines(["two ", "three\n"])
    stream.flush()
    try:
        stream.write(b"bytes")
    except TypeError:
        stream.write("bytes are refused\n")
    start_response("200 OK", PLAIN)
    return [b"ok"]


# start_response and write


@route
def status(environ, start_response):
    start_response(environ["QUERY_STRING"].replace("+", " "), PLAIN)
    return [b"body"]


@route
def write(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"first ")
    write(b"")
    write(b"second ")
    return [b"third"]


@route
def write_str(environ, start_response):
    start_response("200 OK", PLAIN)("text")
    return []


@route
def start_twice(environ, start_response):
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return [b"unreachable"]


@route
def start_again(environ, start_response):
    """A second call with exc_info before the head has left replaces the first."""
    start_response("200 OK", [("X-First", "1")])
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response("503 Service Unavailable", [("X-Second", "2")], sys.exc_info())
    return [b"replaced"]


@route
def start_too_late(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"sent ")
    try:
        raise ValueError("after the head")
    except ValueError:
        start_response("500 Oops", PLAIN, sys.exc_info())
    return [b"unreachable"]


@route
def start_keywords(environ, start_response):
    start_response(status="200 OK", headers=PLAIN, exc_info=None)
    return [b"keywords"]


@route
def start_in_generator(environ, start_response):
    yield b""
    start_response("200 OK", PLAIN)
    yield b""
    yield b"late "
    yield b"start"


@route
def no_start(environ, start_response):
    return [b"forgot start_response"]


@route
def no_start_generator(environ, start_response):
    yield b"forgot start_response"


@route
def no_start_empty(environ, start_response):
    return []


BAD_STARTS = {
    "status int": (200, []),
    "status bytes": (b"200 OK", []),
    "status short": ("20 OK", []),
    "status crlf": ("200 OK\r\nX-Evil: 1", []),
    "status wide": ("200 \u2603", []),
    "headers none": ("200 OK", None),
    "headers int": ("200 OK", 5),
    "header three": ("200 OK", [("a", "b", "c")]),
    "header int": ("200 OK", [5]),
    "name bytes": ("200 OK", [(b"X-A", "b")]),
    "name space": ("200 OK", [("X A", "b")]),
    "name colon": ("200 OK", [("X-A:", "b")]),
    "name empty": ("200 OK", [("", "b")]),
    "value int": ("200 OK", [("X-A", 5)]),
    "value bytes": ("200 OK", [("X-A", b"b")]),
    "value none": ("200 OK", [("X-A", None)]),
    "value lf": ("200 OK", [("X-A", "b\nX-Evil: 1")]),
    "value cr": ("200 OK", [("X-A", "b\rX-Evil: 1")]),
    "value nul": ("200 OK", [("X-A", "b\0")]),
    "value wide": ("200 OK", [("X-A", "\u2603")]),
    "length word": ("200 OK", [("Content-Length", "ten")]),
    "length negative": ("200 OK", [("Content-Length", "-1")]),
}


@route
def bad_start(environ, start_response):
    start_response(*BAD_STARTS[environ["QUERY_STRING"].replace("+", " ")])
    return [b"accepted"]


@route
def bad_start_recovers(environ, start_response):
    try:
        start_response("200 OK", [("X-Good", "1"), ("X-Bad", "a\nb")])
    except ValueError:
        start_response("200 OK", [("X-Recovered", "yes")], sys.exc_info())
    return [b"recovered"]


@route
def latin1(environ, start_response):
    start_response("200 D\xe9j\xe0", [("X-Latin", "caf\xe9")])
    return [b"ok"]


@route
def headers_generator(environ, start_response):
    start_response("200 OK", (pair for pair in [("X-A", "1"), ["X-B", "2"]]))
    return [b"ok"]


# iterables


@route
def empty_list(environ, start_response):
    start_response("200 OK", PLAIN)
    return []


@route
def one_empty(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b""]


@route
def tuple_one(environ, start_response):
    start_response("200 OK", PLAIN)
    return (b"tuple",)


@route
def several(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"a", b"", b"b", b"c"]


@route
def generator(environ, start_response):
    start_response("200 OK", PLAIN)
    for i in range(5):
        yield b"chunk %d\n" % i


@route
def generator_only_empty(environ, start_response):
    start_response("200 OK", [("X-Empty", "yes")])
    yield b""
    yield b""


@route
def paced(environ, start_response):
    """Each chunk must leave before the next is asked for."""
    start_response("200 OK", PLAIN)
    for i in range(3):
        yield b"part%d" % i
        time.sleep(0.3)


@route
def closing(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing([b"a", b"b"], "closing")


@route
def closing_fails(environ, start_response):
    start_response("200 OK", PLAIN)

    def chunks():
        yield b"a"
        raise RuntimeError("in the middle")

    return Closing(chunks(), "closing_fails")


@route
def close_raises(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing([b"whole"], "close_raises", RuntimeError("from close()"))


@route
def item_str(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing(["text"], "item_str")


@route
def item_str_list(environ, start_response):
    start_response("200 OK", PLAIN)
    return ["text"]


@route
def returns_bytes(environ, start_response):
    start_response("200 OK", PLAIN)
    return b"not a list"


@route
def returns_none(environ, start_response):
    start_response("200 OK", PLAIN)


@route
def length_short(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return [b"five!"]


@route
def length_long(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return Closing([b"four", b"more"], "length_long")


@route
def endless(environ, start_response):
    start_response("200 OK", PLAIN)

    def chunks():
        while True:
            yield b"x" * 65536

    return Closing(chunks(), "endless")


@route
def endless_write(environ, start_response):
    write = start_response("200 OK", PLAIN)
    try:
        while True:
            write(b"x" * 65536)
    except OSError as error:
        EVENTS.append("write raised %s" % type(error).__name__)
        raise


@route
def big(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"0123456789abcdef" * (int(environ["QUERY_STRING"]) // 16)]


# wsgi.file_wrapper


class NoFileno:
    def __init__(self, data):
        self.data = io.BytesIO(data)

    def read(self, n):
        return self.data.read(n)

    def close(self):
        EVENTS.append("closed no_fileno")


class NotingFile(io.FileIO):
    def close(self):
        if not self.closed:
            EVENTS.append("closed file")
        super().close()


def stored(environ):
    path = os.path.join(tempfile.gettempdir(), "greenicorn-test-%d" % os.getpid())
    if not os.path.exists(path):
        with open(path, "wb") as f:
            f.write(b"".join(b"%07d\n" % i for i in range(25000)))
        import atexit

        atexit.register(os.unlink, path)
    return path


@route
def file(environ, start_response):
    f = open(stored(environ), "rb")
    f.read(int(environ["QUERY_STRING"] or 0))
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](f)


@route
def file_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "16")])
    return environ["wsgi.file_wrapper"](open(stored(environ), "rb"), 4096)


@route
def file_closes(environ, start_response):
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](NotingFile(stored(environ)))


@route
def file_no_fileno(environ, start_response):
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](NoFileno(b"n" * 20000), 7000)


@route
def file_gzip(environ, start_response):
    """fileno() gives the compressed file, read() the text: the text is wanted."""
    f = tempfile.NamedTemporaryFile(suffix=".gz")
    with gzip.open(f.name, "wb") as z:
        z.write(b"plain text " * 1000)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](gzip.open(f.name, "rb"))


@route
def file_pipe(environ, start_response):
    r, w = os.pipe()
    os.write(w, b"through a pipe")
    os.close(w)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](os.fdopen(r, "rb"))


@route
def file_proc(environ, start_response):
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](open("/proc/self/status", "rb"))


@route
def file_closed(environ, start_response):
    f = open(stored(environ), "rb")
    f.close()
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](f)


@route
def file_iterated(environ, start_response):
    wrapper = environ["wsgi.file_wrapper"](open(stored(environ), "rb"), 8)
    start_response("200 OK", PLAIN)
    body = b"".join(wrapper)
    wrapper.close()
    return [body[:16]]


# exceptions

RAISES = {
    "Exception": Exception("plain"),
    "SystemExit": SystemExit(7),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "MemoryError": MemoryError(),
    "StopIteration": StopIteration("odd"),
    "Surrogate": ValueError("\udcff and \0 and \u2603"),
}


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


RAISES["Unprintable"] = Unprintable()


def recurse():
    return recurse()


@route
def raises(environ, start_response):
    name = environ["QUERY_STRING"]
    if name == "RecursionError":
        recurse()
    raise RAISES[name].with_traceback(None)


@route
def raises_after_start(environ, start_response):
    start_response("200 OK", [("X-Not", "sent")])
    raise ValueError("after start_response")


@route
def raises_in_generator(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"some "
    raise ValueError("after the head has left")


@route
def raises_first_in_generator(environ, start_response):
    start_response("200 OK", PLAIN)
    raise ValueError("before anything was sent")
    yield b""


@route
def exits_in_generator(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"some "
    sys.exit(1)


@route
def reader_raises(environ, start_response):
    """An OSError of the application's own is no client that went away."""
    raise ConnectionResetError(104, "a database is gone")


# threads, contexts, state that must not leak


@route
def context(environ, start_response):
    before, precision = VAR.get(), decimal.getcontext().prec
    VAR.set(environ["QUERY_STRING"])
    decimal.getcontext().prec = 7
    time.sleep(0.01)
    return answer(start_response, [before, VAR.get(), precision])


@route
def context_left(environ, start_response):
    """Enter a context and never leave it: the next request must not be in it."""
    left = contextvars.copy_context()
    KEPT["generator"] = enter_context(left)
    next(KEPT["generator"])
    VAR.set("leaked")
    return answer(start_response, VAR.get())


def enter_context(context):
    import ctypes

    ctypes.pythonapi.PyContext_Enter(ctypes.py_object(context))
    yield


@route
def exc_info(environ, start_response):
    return answer(start_response, [repr(item) for item in sys.exc_info()])


@route
def thread(environ, start_response):
    current = threading.current_thread()
    return answer(
        start_response,
        {
            "name": current.name,
            "ident": current.ident,
            "same": current.ident == threading.get_ident(),
            "main": current is threading.main_thread(),
            "active": len(threading._active),
        },
    )


LOCAL = threading.local()
QUEUE = queue.Queue()


@route
def sleep(environ, start_response):
    LOCAL.value = environ["QUERY_STRING"]
    time.sleep(float(environ["QUERY_STRING"] or 0.1))
    return answer(start_response, LOCAL.value == environ["QUERY_STRING"])


@route
def queue_get(environ, start_response):
    return answer(start_response, QUEUE.get(timeout=5))


@route
def queue_put(environ, start_response):
    QUEUE.put(environ["QUERY_STRING"])
    return answer(start_response, True)


@route
def collect(environ, start_response):
    gc.collect()
    return answer(start_response, len(gc.get_objects()))


@route
def modules(environ, start_response):
    return answer(
        start_response,
        {"path": sys.path, "prefix": sys.prefix, "base_prefix": sys.base_prefix, "executable": sys.executable,
         "argv": sys.argv, "pid": os.getpid(), "software": os.environ.get("SERVER_SOFTWARE"),
         "main": threading.main_thread().ident},
    )
