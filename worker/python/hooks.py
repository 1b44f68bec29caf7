"""gunicorn's server hooks: the functions that the settings name, and what they are called with.

Built into greenicorn-worker, and only run when a hook is set: in each worker, and in the process
that workers are forked from, which is what gunicorn calls the arbiter. The names, arguments and
attributes are gunicorn's; docs/hooks.md says what differs.
"""

import importlib
import inspect
import json
import logging
import marshal
import operator
import os
import signal
import socket
import sys

from _greenicorn import load_file

# How many arguments each is called with.
ARGUMENTS = {
    "on_starting": 1,
    "when_ready": 1,
    "on_reload": 1,
    "pre_exec": 1,
    "on_exit": 1,
    "nworkers_changed": 3,
    "pre_fork": 2,
    "post_fork": 2,
    "post_worker_init": 1,
    "pre_request": 2,
    "post_request": 4,
    "worker_int": 1,
    "worker_abort": 1,
    "worker_exit": 2,
    "child_exit": 2,
}

# What a request's end sends by itself: none of the application's header fields.
OWN_FIELDS = ("server", "date", "connection", "transfer-encoding")


class HookError(Exception):
    """A setting that names no such function: a line for the log. Its cause is what the module has raised."""


# ---- finding the functions ----


def _takes(function, n):
    """Whether it can be called with n arguments; what cannot be known is believed."""
    try:
        inspect.signature(function).bind(*(None,) * n)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _with_arguments(name, text, function):
    """post_request may leave out resp, or environ as well."""
    n = ARGUMENTS[name]
    if not callable(function):
        raise HookError("%s: %s is not callable" % (name, text))
    if _takes(function, n):
        return function
    if name == "post_request":
        if _takes(function, 3):
            return lambda worker, req, environ, resp: function(worker, req, environ)
        if _takes(function, 2):
            return lambda worker, req, environ, resp: function(worker, req)
    raise HookError("%s: %s does not take %d argument%s" % (name, text, n, "s" * (n > 1)))


def _find(name, text):
    """The function that text names: module:function, module.function or file.py:function."""
    module_name, _, attribute = text.rpartition(":" if ":" in text else ".")
    is_file = module_name.endswith(".py")
    if is_file and not os.path.isfile(module_name):
        raise HookError("%s: there is no file %s in %s" % (name, module_name, os.getcwd()))
    try:
        module = load_file(module_name) if is_file else importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise HookError("%s: cannot import %s: %s" % (name, text, error)) from None
        raise HookError("%s: cannot import %s" % (name, text)) from error
    except BaseException as error:
        raise HookError("%s: cannot import %s" % (name, text)) from error
    try:
        function = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise HookError("%s: Failed to find attribute %r in %r." % (name, attribute, module_name)) from None
    return _with_arguments(name, text, function)


# ---- what they are called with ----


class Log:
    """gunicorn's logger, whose methods are those of Python's "gunicorn.error": logs.py."""

    def __init__(self):
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")

    def __getattr__(self, name):
        return getattr(self.error_log, name)

    def log(self, level, message, *args, **kwargs):
        """The level may be a name."""
        level = logging.getLevelName(level.upper()) if isinstance(level, str) else level
        self.error_log.log(level, message, *args, **kwargs)


def _address(bind):
    if bind.startswith("unix:"):
        return bind[5:].removeprefix("//")
    host, found, port = bind.removeprefix("tcp://").rpartition(":")
    if not found or bind.endswith("]"):
        host, port = bind, "8000"
    return (host.strip("[]"), int(port)) if port.isdecimal() else bind


class _Setting:
    def __init__(self, name, value):
        self.name = name
        self.value = value

    def get(self):
        return self.value


class Config:
    """server.cfg: an attribute for each setting."""

    def __init__(self, values):
        self.__dict__.update(values)
        self.env = dict(item.split("=", 1) for item in self.raw_env if "=" in item)
        if self.logconfig_dict:
            self.logconfig_dict = json.loads(self.logconfig_dict)
        self.secure_scheme_headers = dict(item.split(": ", 1) for item in self.secure_scheme_headers)
        if self.proc_name is None:
            self.proc_name = self.wsgi_app
        self.worker_class_str = self.worker_class
        self.is_ssl = bool(self.certfile or self.keyfile)
        self.uid, self.gid = os.getuid(), os.getgid()
        self._names = list(values)

    @property
    def settings(self):
        return {name: _Setting(name, getattr(self, name)) for name in self._names}

    @property
    def address(self):
        return [_address(bind) for bind in self.bind]

    def set(self, name, value):
        if name not in self._names:
            raise AttributeError("No configuration setting for: %s" % name)
        setattr(self, name, value)


class Listener:
    """A listening socket, as one of Python's once that is asked for."""

    def __init__(self, fd, text):
        self._fd = fd
        self._text = text

    def __str__(self):
        return self._text

    def __getattr__(self, name):
        if name == "sock":
            self.sock = socket.socket(fileno=os.dup(self._fd))
            return self.sock
        return getattr(self.sock, name)

    def fileno(self):
        return self._fd

    def close(self):
        if "sock" in self.__dict__:
            self.sock.close()


class App:
    """worker.app: what gunicorn has around the WSGI application."""

    def __init__(self, cfg):
        self.cfg = cfg
        self.callable = None

    def wsgi(self):
        return self.callable


class Server:
    """gunicorn's arbiter."""

    def __init__(self, cfg, log, listeners, pid):
        self.cfg = cfg
        self.log = log
        self.app = App(cfg)
        self.pid = pid
        self.address = cfg.address
        self.proc_name = cfg.proc_name
        self.timeout = cfg.timeout
        self.num_workers = cfg.workers
        self.worker_age = 0
        self.LISTENERS = listeners
        self.WORKERS = {}
        self._own = {"_own", *vars(self)}


class Tmp:
    """worker.tmp: gunicorn's file by whose time a worker shows that it lives."""

    @staticmethod
    def last_update():
        return worker_row()[2]  # noqa: F821 - of hooks.c

    @staticmethod
    def notify():
        """The loop does."""


class Worker:
    def __init__(self, age, pid, server):
        self.age = age
        self.pid = "[booting]" if pid is None else pid
        self.ppid = server.pid
        self.sockets = server.LISTENERS
        self.app = server.app
        self.cfg = server.cfg
        self.log = server.log
        self.timeout = server.timeout / 2  # gunicorn's: how often a worker shows life
        self.max_requests = server.cfg.max_requests or sys.maxsize
        self.booted = False
        self.aborted = False
        self.tmp = Tmp()
        self._own = {"_own", *vars(self)}

    def __str__(self):
        return "<Worker %s>" % self.pid

    def _row(self):
        """What the scoreboard says, in the worker itself: whether it serves on, and how many requests."""
        return worker_row() if self is worker else (True, 0, 0)  # noqa: F821 - of hooks.c

    @property
    def nr(self):
        return self._row()[1]

    @property
    def alive(self):
        return self._row()[0]

    @alive.setter
    def alive(self, alive):
        """gunicorn's way to have a worker end when it has answered what it has begun."""
        if not alive and self is worker:
            os.kill(os.getpid(), signal.SIGTERM)

    def notify(self):
        """The loop does."""


class Lazy:
    """Made of what the server has at hand; read into attributes when somebody asks for one."""

    def __init__(self, *raw):
        self._raw = raw

    def __getattr__(self, name):
        raw = self.__dict__.pop("_raw", None)
        if raw is None:
            raise AttributeError("%r object has no attribute %r" % (type(self).__name__, name))
        self.__dict__.update({**self._read(*raw), **self.__dict__})
        return getattr(self, name)


def _fields(lines):
    return [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]


class Request(Lazy):
    """pre_request's and post_request's req."""

    def _read(self, head, minor, addr, port, scheme, body):
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, target = line.partition(" ")
        uri = target.partition(" ")[0]
        rest, _, fragment = uri.partition("#")
        if "://" in rest.partition("?")[0]:
            rest = "/" + rest.partition("://")[2].partition("/")[2]
        path, _, query = rest.partition("?")
        peer = (addr, int(port)) if port else addr
        return {
            "method": method,
            "uri": uri,
            "path": path,
            "query": query,
            "fragment": fragment,
            "version": (1, minor),
            "headers": [(name.upper(), value) for name, value in _fields(fields)],
            "trailers": [],
            "body": body,
            "scheme": scheme,
            "peer_addr": peer,
            "remote_addr": peer,
            "req_number": 1,
            "proxy_protocol_info": None,
        }

    def get_header(self, name):
        name = name.upper()
        return next((value for n, value in self.headers if n == name), None)

    def should_close(self):
        connection = (self.get_header("CONNECTION") or "").lower()
        return connection == "close" or (self.version < (1, 1) and connection != "keep-alive")


class Response(Lazy):
    """post_request's resp."""

    def _read(self, req, head, sent, headers_sent):
        line, *fields = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")  # a short body is behind it
        fields = _fields(fields)
        known = {name.lower(): value for name, value in fields}
        status = line.partition(" ")[2]
        length = known.get("content-length")
        return {
            "req": req,
            "version": "greenicorn",
            "status": status or None,
            "status_code": int(status[:3]) if status else None,
            "headers": [(name, value) for name, value in fields if name.lower() not in OWN_FIELDS],
            "headers_sent": headers_sent,
            "sent": sent,
            "response_length": int(length) if length else None,
            "chunked": known.get("transfer-encoding") == "chunked",
            "must_close": known.get("connection") == "close",
            "upgrade": known.get("connection") == "upgrade",
        }


# ---- the life of the processes ----

functions = {}
server = None
worker = None  # in a worker: this one
_exited = False


def open_hooks(settings, listeners, pid, memory):
    """Find the functions. Raises what the start is to fail with."""
    global server, _memory
    _memory = memory
    cfg = Config(settings)
    functions.update((name, _find(name, settings[name])) for name in ARGUMENTS if settings[name])
    for name in ARGUMENTS:
        setattr(cfg, name, functions.get(name, lambda *args: None))
    server = Server(cfg, Log(), [Listener(*item) for item in listeners], pid)


def call(name, *args):
    if name in functions:
        functions[name](*args)


def call_safely(name, *args):
    """What it raises is logged; sys.exit() too, unless it is for a process that the hook has forked."""
    pid = os.getpid()
    try:
        call(name, *args)
    except BaseException:
        if os.getpid() != pid:
            raise
        server.log.exception("Exception in the hook %s", name)


# ---- the arbiter's ----

_next = None  # the worker that is to be forked
_memory = -1  # a file in memory, for the arbiter after this one
_recalled = None  # what was in it


def _plain(thing):
    """What hooks have set on the server or a worker, but for what only this process can have."""
    found = {}
    for name, value in vars(thing).items():
        if name not in thing._own:
            try:
                marshal.dumps(value)
            except ValueError:
                continue
            found[name] = value
    return found


def _remember():
    if _memory == -1:
        return
    state = {pid: _plain(each) for pid, each in server.WORKERS.items()}
    data = marshal.dumps({**state, 0: _plain(server)})
    os.ftruncate(_memory, 0)
    os.pwrite(_memory, data, 0)


def _recall():
    global _recalled
    _recalled = {}
    if _memory == -1:
        return
    try:
        _recalled = marshal.loads(os.pread(_memory, os.fstat(_memory).st_size, 0))
    except (EOFError, ValueError, TypeError):  # empty: the first one; or its writer was killed
        pass
    vars(server).update(_recalled.get(0, {}))


def _want(workers, before):
    server.num_workers = workers
    call_safely("nworkers_changed", server, workers, before)


def _start(workers):
    _want(workers, None)
    call("on_starting", server)
    call_safely("when_ready", server)


def _reload(workers, before):
    _want(workers, before)
    call_safely("on_reload", server)


def _again(workers):
    server.num_workers = workers


def _known(pid, age):
    server.WORKERS[pid] = Worker(age, pid, server)
    vars(server.WORKERS[pid]).update(_recalled.get(pid, {}))


def _pre_fork(age):
    global _next
    _next = Worker(age, None, server)
    call_safely("pre_fork", server, _next)


def _child_exit(pid, age):
    call_safely("child_exit", server, server.WORKERS.pop(pid, None) or Worker(age, pid, server))


def _deaf():
    for listener in server.LISTENERS:
        listener.close()


_orders = {
    "deaf": _deaf,
    "start": _start,
    "reload": _reload,
    "again": _again,
    "known": _known,
    "pre_fork": _pre_fork,
    "child_exit": _child_exit,
    "nworkers_changed": _want,
    "pre_exec": lambda: call_safely("pre_exec", server),
    "on_exit": lambda: call_safely("on_exit", server),
}


def heed(words):
    """What the master says of the server: an order and its numbers."""
    if _recalled is None:
        _recall()
    order, *numbers = words.split()
    _orders[order](*map(int, numbers))
    _remember()


def forking(age):
    global _next
    if _next is None or _next.age != age:
        _next = Worker(age, None, server)
    server.worker_age = age


def forked(pid):
    """In the parent."""
    global _next
    if pid != -1:
        _next.pid = pid
        server.WORKERS[pid] = _next
        _remember()
    _next = None


# ---- a worker's ----


def began(age):
    """In a new worker, before the application is loaded."""
    global worker
    worker = _next or Worker(age, None, server)
    worker.pid = os.getpid()
    call("post_fork", server, worker)


def loaded(application):
    worker.app.callable = worker.wsgi = application
    call("post_worker_init", worker)
    worker.booted = True


def interrupted():
    call_safely("worker_int", worker)


def aborted():
    if worker is not None:
        worker.aborted = True
        call_safely("worker_abort", worker)


def ended():
    """Once: at the end, or when there is no more time to wait for it."""
    global _exited
    if worker is not None and not _exited:
        _exited = True
        call_safely("worker_exit", server, worker)
