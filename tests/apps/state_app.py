"""State that belongs to one request, or to its thread: each route sets some, waits beside the others, and looks."""

import asyncio
import contextvars
import ctypes
import decimal
import errno
import os
import ssl
import sys
import threading
import time

ROUNDS, WAIT = 5, 0.01
VARIABLE = contextvars.ContextVar("VARIABLE", default="nobody's")
LOCAL = threading.local()
STATES = {}
libc = ctypes.CDLL(None, use_errno=True)
crypto = ctypes.CDLL(ssl._ssl.__file__)  # of which OpenSSL is a dependency
crypto.ERR_peek_error.restype = ctypes.c_ulong
libc.newlocale.restype = libc.uselocale.restype = ctypes.c_void_p
libc.newlocale.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
libc.uselocale.argtypes = [ctypes.c_void_p]
LOCALES = [libc.newlocale(0x1FBF, name, None) for name in (b"C", b"C.UTF-8")]  # LC_ALL_MASK


def state(function):
    STATES["/" + function.__name__] = function
    return function


@state
def context_variable(n):
    assert VARIABLE.get() == "nobody's"
    VARIABLE.set(n)
    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert VARIABLE.get() == n


@state
def decimal_context(n):
    assert decimal.getcontext().prec == 28
    decimal.getcontext().prec = n + 1
    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert len(str(decimal.Decimal(1) / 7)) == n + 3


@state
def decimal_local_context(n):
    with decimal.localcontext() as context:
        context.prec = n + 1
        for _ in range(ROUNDS):
            time.sleep(WAIT)
            assert len(str(decimal.Decimal(1) / 7)) == n + 3


@state
def thread_local(n):
    LOCAL.n = n
    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert LOCAL.n == n


@state
def exception(n):
    assert sys.exc_info() == (None, None, None)
    try:
        raise KeyError(n)
    except KeyError:
        for _ in range(ROUNDS):
            time.sleep(WAIT)
            assert sys.exc_info()[1].args == (n,)
            try:
                raise
            except KeyError as error:
                assert error.args == (n,)


@state
def exception_in_generator(n):
    def g():
        try:
            raise ValueError(n)
        except ValueError:
            while True:
                yield sys.exc_info()[1].args[0]

    it = g()
    for _ in range(ROUNDS):
        assert next(it) == n
        time.sleep(WAIT)
        assert sys.exc_info() == (None, None, None)


@state
def c_errno(n):
    """ctypes keeps one for each thread and makes it libc's for a call: one that waits, and one that fails."""
    for _ in range(ROUNDS):
        ctypes.set_errno(1000 + n)
        assert libc.usleep(int(WAIT * 1e6)) == 0 and ctypes.get_errno() == 1000 + n
        assert libc.close(-1) == -1 and ctypes.get_errno() == errno.EBADF


@state
def openssl_errors(n):
    """Odd ones have an error in their queue, even ones must not see it."""
    crypto.ERR_clear_error()
    if n % 2:
        crypto.ERR_new()
        crypto.ERR_set_error(3, n, None)
    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert crypto.ERR_peek_error() & 0x7FFFFF == (n if n % 2 else 0)


@state
def thread_locale(n):
    mine = LOCALES[n % 2]
    libc.uselocale(mine)
    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert libc.uselocale(None) == mine


@state
def running_loop(n):
    """One that runs in the middle of a wait, and none beside it."""
    if n % 2:
        loop = asyncio.new_event_loop()
        asyncio._set_running_loop(loop)
        try:
            for _ in range(ROUNDS):
                time.sleep(WAIT)
                assert asyncio.get_running_loop() is loop
        finally:
            asyncio._set_running_loop(None)
            loop.close()
    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert asyncio._get_running_loop() is None


@state
def event_loop(n):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        for _ in range(ROUNDS):
            time.sleep(WAIT)
            assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@state
def trace(n):
    """Who traces sees all of its own calls and none of the others'."""
    seen = []

    def called(value):
        return value

    def tracer(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "called":
            seen.append(frame.f_locals["value"])

    mine = tracer if n % 3 == 0 else None
    (sys.setprofile if n % 2 else sys.settrace)(mine)
    try:
        for i in range(1, ROUNDS):
            time.sleep(WAIT)
            called(n)
            assert (sys.getprofile() if n % 2 else sys.gettrace()) is mine
            assert seen == ([n] * i if mine else [])
    finally:
        sys.setprofile(None)
        sys.settrace(None)


@state
def async_context(n):
    """A context entered by hand, and waits in it."""
    context = contextvars.copy_context()
    context.run(VARIABLE.set, n)

    def look():
        assert VARIABLE.get() == n
        time.sleep(WAIT / 10)
        assert VARIABLE.get() == n

    for _ in range(ROUNDS):
        time.sleep(WAIT)
        context.run(look)
        assert VARIABLE.get() == "nobody's"


@state
def recursion_depth(n):
    """How deep one is counts for itself alone."""

    def down(levels):
        if levels == 0:
            time.sleep(WAIT)
            return 0
        return down(levels - 1) + 1

    for _ in range(ROUNDS):
        time.sleep(WAIT)
        assert down(800) == 800


def look_before():
    """What the request before this one has left on this thread."""
    return {
        "thread": threading.get_ident(),
        "variable": VARIABLE.get(),
        "prec": decimal.getcontext().prec,
        "exception": repr(sys.exc_info()[1]),
        "trace": repr(sys.gettrace()),
        "loop": repr(asyncio._get_running_loop()),
        "local": getattr(LOCAL, "left", None),
    }


def leave():
    """All that is not put back."""
    found = look_before()
    VARIABLE.set("a request's")
    decimal.getcontext().prec = 5
    LOCAL.left = LOCAL.left + 1 if hasattr(LOCAL, "left") else 1
    return found


def leave_and_fail():
    leave()
    raise ValueError("a request's")


def leave_context():
    """Entered, and not left: the server has to be rid of it."""
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "a request's")
    enter = ctypes.pythonapi.PyContext_Enter
    enter.argtypes = [ctypes.py_object]
    enter(context)
    return look_before()


LEFT = {"/look": look_before, "/leave": leave, "/leave_and_fail": leave_and_fail, "/leave_context": leave_context}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path in STATES:
        n = int(environ["QUERY_STRING"].partition("=")[2])
        STATES[path](n)
        body = str(n)
    elif path in LEFT:
        body = repr(LEFT[path]())
    else:
        body = " ".join(STATES) if path == "/states" else str(os.getpid())
    start_response("200 OK", [])
    return [body.encode()]
