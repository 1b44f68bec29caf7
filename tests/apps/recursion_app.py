"""Infinite recursion in every form, one a route: each ends in a RecursionError, whoever is in between.

/NAME runs the form and lets its exception out, /forms lists them. The paths of OVERFLOWS recurse in
C code that CPython does not count: nothing can catch that.
"""

import abc
import ast
import copy
import ctypes
import functools
import itertools
import json
import marshal
import operator
import os
import pickle
import re
import signal
import sqlite3
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

LONG = 20  # for what ends otherwise
FORMS, OVERFLOWS = {}, {}


def form(function):
    FORMS["/" + function.__name__] = function
    return function


def overflow(function):
    OVERFLOWS["/" + function.__name__] = function
    return function


# ---- Python calls Python ----


@form
def function():
    def f():
        return f() + 1

    return f()


@form
def method():
    class A:
        def f(self):
            return self.f() + 1

    return A().f()


@form
def generator():
    def g():
        yield from g()

    return list(g())


@form
def coroutine():
    async def c():
        await c()

    c().send(None)


@form
def comprehension():
    def f(n):
        return [f(n + 1) for _ in (1,)]

    return f(0)


@form
def waits():
    """A deep stack that parks at every level near its end."""

    def f(n):
        if n % 100 == 0:
            time.sleep(0.001)
        return f(n + 1) + 1

    return f(0)


# ---- C calls Python ----


class Getattr:
    def __getattr__(self, name):
        return getattr(self, name + "x")


@form
def dunder_getattr():
    return Getattr().missing


@form
def dunder_getattribute():
    class A:
        def __getattribute__(self, name):
            return self.x

    return A().x


@form
def property_():
    class A:
        @property
        def x(self):
            return self.x

    return A().x


@form
def dunder_repr():
    class A:
        def __repr__(self):
            return repr(self)

    return repr(A())


@form
def dunder_str():
    class A:
        def __str__(self):
            return "%s" % self

    return str(A())


@form
def dunder_format():
    class A:
        def __format__(self, spec):
            return f"{self}"

    return f"{A()}"


@form
def dunder_eq():
    class A:
        def __eq__(self, other):
            return self == other

    return A() == A()


@form
def dunder_hash():
    class A:
        def __hash__(self):
            return hash(self)

    return hash(A())


@form
def dunder_call():
    class A:
        def __call__(self):
            return self()

    return A()()


@form
def dunder_call_of_call():
    class A:
        pass

    A.__call__ = A()
    return A()()


@form
def dunder_add():
    class A:
        def __add__(self, other):
            return self + other

    return A() + A()


@form
def dunder_iter():
    class A:
        def __iter__(self):
            return iter(list(self))

    return list(A())


@form
def dunder_init():
    class A:
        def __init__(self):
            A()

    return A()


@form
def dunder_new():
    class A:
        def __new__(cls):
            return A()

    return A()


@form
def dunder_instancecheck():
    class Meta(type):
        def __instancecheck__(cls, it):
            return isinstance(it, A)

    class A(metaclass=Meta):
        pass

    return isinstance(1, A)


@form
def dunder_missing():
    class A(dict):
        def __missing__(self, key):
            return self[key]

    return A()[1]


@form
def sorted_key():
    def key(x):
        return sorted([x], key=key)

    return sorted([1], key=key)


@form
def map_():
    def f(x):
        return list(map(f, (x,)))

    return f(1)


@form
def reduce():
    def f(x, y):
        return functools.reduce(f, (x, y))

    return f(1, 2)


@form
def partial():
    def f():
        return functools.partial(f)()

    return f()


@form
def lru_cache():
    @functools.lru_cache(None)
    def f(n):
        return f(n + 1)

    return f(0)


@form
def re_sub():
    def f(match):
        return re.sub(".", f, "x")

    return re.sub(".", f, "x")


@form
def exec_():
    code = "exec(code, {'code': code})"
    return exec(code, {"code": code})


@form
def eval_():
    return eval("f()", {"f": eval_})


@form
def import_hook():
    class Finder:
        def find_spec(self, name, path=None, target=None):
            __import__(name + "x")

    finder = Finder()
    sys.meta_path.append(finder)
    try:
        import no_such_module_at_all
    finally:
        sys.meta_path.remove(finder)
    return no_such_module_at_all


@form
def ctypes_callback():
    """Nothing in C counts these; what a callback raises is printed, and it gives 0."""
    seen = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

    def f(n):
        try:
            return callback(n + 1)
        except RecursionError as error:
            seen.append(error)
            return 0

    callback = kind(f)
    callback(0)
    raise seen[0] if seen else RecursionError("printed by ctypes")


@form
def settrace():
    def f():
        return f() + 1

    def trace(frame, event, arg):
        return trace

    sys.settrace(trace)
    try:
        return f()
    finally:
        sys.settrace(None)


@form
def exception_in_except():
    def f():
        try:
            raise ValueError
        except ValueError:
            f()

    return f()


@form
def sqlite_function():
    """SQLite makes an error of its own of what its functions raise."""

    def f(n):
        return db.execute("SELECT f(?)", (n + 1,)).fetchone()[0]

    db = sqlite3.connect(":memory:")
    db.create_function("f", 1, f)
    try:
        return db.execute("SELECT f(1)").fetchone()
    except sqlite3.OperationalError as error:
        raise RecursionError from error


# ---- data that are deep ----

DEEP = 200_000
BOTTOMLESS = 400_000


def nested(kind, n=DEEP):
    it = kind()
    for _ in range(n):
        it = kind((it,)) if kind is not dict else {1: it}
    return it


@form
def list_repr():
    return repr(nested(list))


@form
def dict_repr():
    return str(nested(dict))


@form
def tuple_repr():
    return repr(nested(tuple))


@form
def list_compare():
    return nested(list) == nested(list)


@form
def json_dumps():
    return json.dumps(nested(list))


@form
def json_dumps_default():
    return json.dumps(object(), default=lambda it: [object()])


@form
def json_loads():
    return json.loads("[" * DEEP)


@form
def json_loads_objects():
    return json.loads('{"a":' * DEEP)


@form
def pickle_dumps():
    return pickle.dumps(nested(list))


class Reduced:
    def __reduce__(self):
        return Reduced, (Reduced(),)


@form
def pickle_reduce():
    return pickle.dumps(Reduced())


@form
def deepcopy():
    return copy.deepcopy(nested(list))


@form
def marshal_dumps():
    try:
        return marshal.dumps(nested(list))
    except ValueError as error:  # "object too deeply nested to marshal"
        raise RecursionError from error


@form
def regex_compile():
    return re.compile("(" * DEEP + ")" * DEEP)


@form
def isinstance_tuple():
    return isinstance(1, nested(tuple))


@form
def issubclass_tuple():
    it = int
    for _ in range(DEEP):
        it = (it, str)
    return issubclass(bytes, it)


@overflow
def partial_chain():
    it = print
    for _ in range(BOTTOMLESS):
        it = functools.partial(it)
        it.x = 1  # or they are flattened
    return it()


@overflow
def methodcaller():
    class A:
        pass

    A.f = property(operator.attrgetter("f"))
    return A().f


@overflow
def map_chain():
    it = iter((1,))
    for _ in range(BOTTOMLESS):
        it = map(int, it)
    return next(it)


@overflow
def filter_chain():
    it = iter((1,))
    for _ in range(BOTTOMLESS):
        it = filter(None, it)
    return next(it)


@form
def compile_parentheses():
    try:
        return compile("(" * DEEP + ")" * DEEP, "x", "eval")
    except (MemoryError, SyntaxError) as error:
        raise RecursionError from error


@form
def compile_operators():
    try:
        return compile("-" * DEEP + "1", "x", "eval")
    except (MemoryError, SyntaxError) as error:
        raise RecursionError from error


@form
def compile_attributes():
    try:
        return compile("a" + ".a" * DEEP, "x", "eval")
    except (MemoryError, SyntaxError) as error:
        raise RecursionError from error


@form
def compile_sum():
    try:
        return compile("1" + "+a" * DEEP, "x", "eval")
    except (MemoryError, SyntaxError) as error:
        raise RecursionError from error


@form
def literal_eval():
    try:
        return ast.literal_eval("[" * 90 + "-" * DEEP)
    except (MemoryError, SyntaxError) as error:
        raise RecursionError from error


@form
def ast_compile():
    node = ast.Constant(1)
    for _ in range(DEEP):
        node = ast.UnaryOp(ast.USub(), node)
    return compile(ast.fix_missing_locations(ast.Expression(node)) and ast.Expression(node), "x", "eval")


@form
def xml_repr():
    root = element = ElementTree.Element("a")
    for _ in range(DEEP):
        element = ElementTree.SubElement(element, "a")
    return ElementTree.tostring(root)


@form
def xml_parse():
    return ElementTree.tostring(ElementTree.fromstring("<a>" * DEEP + "</a>" * DEEP))


@form
def abc_subclasses():
    class A(abc.ABC):
        @classmethod
        def __subclasshook__(cls, it):
            return issubclass(it, A)

    return issubclass(int, A)


# ---- long chains that come to their end: nothing is raised, nothing must break ----


@form
def ends_nested():
    for kind in (list, tuple, dict):
        nested(kind)
    raise RecursionError


@form
def ends_objects():
    class A:
        pass

    first = it = A()
    for _ in range(DEEP):
        it.next = A()
        it = it.next
    del first, it
    raise RecursionError


@form
def ends_with_del():
    class A:
        def __del__(self):
            pass

    it = None
    for _ in range(DEEP):
        previous, it = it, A()
        it.previous = previous
    del it, previous
    raise RecursionError


@form
def ends_tee():
    it, _ = itertools.tee(itertools.repeat(1, DEEP * 10))
    for _ in it:
        pass
    raise RecursionError


@form
def ends_iterators():
    for kind in (lambda it: map(int, it), lambda it: itertools.chain(it), enumerate, zip, reversed_of):
        it = iter(())
        for _ in range(DEEP):
            it = kind(it)
    raise RecursionError


def reversed_of(it):
    return itertools.islice(it, 1)


@form
def ends_exceptions():
    error = None
    for _ in range(DEEP):
        next_error = ValueError()
        next_error.__context__ = error
        error = next_error
    raise RecursionError from error


@form
def ends_frames():
    """Tracebacks of tracebacks, to be logged and to be freed."""

    def f(n, previous):
        try:
            if n:
                f(n - 1, previous)
            raise ValueError(n)
        except ValueError as error:
            raise KeyError(n) from error

    try:
        f(300, None)
    except KeyError as error:
        raise RecursionError from error


def read_at(address):
    return ctypes.string_at(address, 1)


def raises(number):
    os.kill(os.getpid(), number)
    time.sleep(LONG)


def fault_in_thread():
    it = threading.Thread(target=read_at, args=(64,))
    it.start()
    it.join()


CRASHES = {
    "/fault": lambda: read_at(64),
    "/thread": fault_in_thread,
    "/segv": lambda: raises(signal.SIGSEGV),
    "/bus": lambda: raises(signal.SIGBUS),
    **OVERFLOWS,
}


def recurses_in_thread():
    """What an application's own thread raises is printed."""
    it = threading.Thread(target=FORMS["/function"])
    it.start()
    it.join()
    raise RecursionError


FORMS["/in_thread"] = recurses_in_thread


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path in FORMS:
        it = FORMS[path]()
        raise AssertionError("it has come to an end: %.100s" % type(it))
    if path in CRASHES:
        CRASHES[path]()
        raise AssertionError("it has not crashed")
    if path == "/wait":
        time.sleep(LONG)
    start_response("200 OK", [])
    return [" ".join(FORMS).encode() if path == "/forms" else str(os.getpid()).encode()]
