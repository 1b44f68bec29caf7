"""What the worker does in Python before its first request and after its last.

Built into greenicorn-worker (see meson.build), so that no file of ours must be
found on sys.path. Error texts are gunicorn's: people search for them.
"""

import ast
import atexit
import faulthandler
import gc
import importlib.machinery
import importlib.util
import os
import re
import signal
import site
import sys
import threading
import traceback

from _greenicorn_connection import end_connection, make_connection  # noqa: F401 - called by the worker
from _greenicorn_hubs import (  # noqa: F401 - called by the worker
    check_hubs_before_fork,
    finish_hubs,
    forget_hubs_after_fork,
    wait_in_hub,
)


class AppImportError(Exception):
    """The URI names no application: exit code 4, where other errors give 3."""


class VirtualenvError(Exception):
    """The virtual environment cannot be used with this Python."""


def paths(chdir, pythonpath):
    """Put chdir, then each of pythonpath's directories, first on sys.path."""
    found = [chdir or os.getcwd()]
    if pythonpath:
        found += [os.path.abspath(path) for path in pythonpath.split(",") if path.strip()]
    for path in found:
        if path not in sys.path:
            sys.path.insert(0, path)


def _pyvenv_cfg(prefix):
    """The keys of pyvenv.cfg, read as site.py reads it; empty without the file."""
    keys = {}
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as f:
            for line in f:
                key, found, value = line.partition("=")
                if found:
                    keys[key.strip().lower()] = value.strip()
    except FileNotFoundError:
        pass
    return keys


def _site_packages(prefix, cfg):
    """The site-packages of prefix for this version of Python; raises when there are none."""
    ours = "%d.%d" % sys.version_info[:2]
    theirs = ".".join(cfg.get("version", cfg.get("version_info", ours)).split(".")[:2])
    packages = os.path.join(prefix, "lib", "python" + ours, "site-packages")
    if theirs != ours:
        raise VirtualenvError(
            "virtualenv %s is made for Python %s, and this worker runs Python %s" % (prefix, theirs, ours)
        )
    if not os.path.isdir(packages):
        raise VirtualenvError("virtualenv %s has no %s" % (prefix, packages))
    return packages


def virtualenv(prefix):
    """Make the virtual environment at prefix this interpreter's, as its own python3 would.

    The standard library stays the one that libpython was built with: the venv's
    "home" may be another build of the same version, which need not fit.
    """
    prefix = os.path.abspath(prefix)
    cfg = _pyvenv_cfg(prefix)
    packages = _site_packages(prefix, cfg)
    with_system = cfg.get("include-system-site-packages", "false").lower() == "true"

    system = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        system.append(site.getusersitepackages())
    base = [path for path in sys.path if path not in system]
    system = [path for path in sys.path if path in system]

    sys.prefix = sys.exec_prefix = prefix
    for name in ("python3", "python"):
        executable = os.path.join(prefix, "bin", name)
        if os.access(executable, os.X_OK):
            sys.executable = executable
            break
    site.PREFIXES[:] = [prefix] + (site.PREFIXES if with_system else [])
    if not with_system:
        site.ENABLE_USER_SITE = False

    sys.path[:] = base
    site.addsitedir(packages)  # appends it, and what its .pth files name
    if with_system:
        sys.path += system


def _parse(name):
    """Split "app" or "factory(1, k=2)" into a name, args and kwargs (None for a plain name)."""
    failed = "Failed to parse %r as an attribute name or function call." % name
    try:
        node = ast.parse(name, mode="eval").body
    except (SyntaxError, ValueError):
        raise AppImportError(failed) from None
    if isinstance(node, ast.Name):
        return node.id, None, None
    if not isinstance(node, ast.Call):
        raise AppImportError(failed)
    if not isinstance(node.func, ast.Name):
        raise AppImportError("Function reference must be a simple name: %r" % name)
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (ValueError, TypeError):
        raise AppImportError("Failed to parse arguments as literal values: %r" % name) from None
    if None in kwargs:
        raise AppImportError("Failed to parse arguments as literal values: %r" % name)
    return node.func.id, args, kwargs


def _entered(function, trace):
    """Whether the traceback, from its second frame on, reached the function's own code."""
    code = getattr(function, "__code__", None)
    trace = trace.tb_next
    while trace is not None:
        if code is None or trace.tb_frame.f_code is code:
            return True
        trace = trace.tb_next
    return False


def load(uri):
    """Import "module", "module:name" or "module:factory(...)"; returns the application."""
    module_name, _, name = uri.partition(":")
    name = name or "application"
    if not module_name:
        raise AppImportError("No application module specified.")
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        if module_name.endswith(".py") and os.path.exists(module_name):
            raise ImportError(
                "Failed to find application, did you mean '%s:%s'?" % (module_name[:-3], name)
            ) from None
        raise

    attribute, args, kwargs = _parse(name)
    try:
        app = getattr(module, attribute)
    except AttributeError:
        raise AppImportError("Failed to find attribute %r in %r." % (attribute, module_name)) from None
    if args is not None:
        try:
            app = app(*args, **kwargs)
        except TypeError as error:
            # Wrong arguments are the URI's mistake, anything later the factory's.
            if _entered(app, error.__traceback__):
                raise
            text = "".join(traceback.format_exception_only(TypeError, error)).strip()
            raise AppImportError(text) from None
    if app is None:
        raise AppImportError("Failed to find application object: %r" % name)
    if not callable(app):
        raise AppImportError("Application object must be callable.")
    return app


def load_file(path):
    """The module in a file, which need not be one that can be imported: gunicorn.conf.py."""
    name = "_hooks_" + re.sub(r"\W", "_", os.path.realpath(path))
    if name not in sys.modules:
        loader = importlib.machinery.SourceFileLoader(name, os.path.abspath(path))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def watch_faults(fd):
    """Have SIGSEGV, SIGABRT and their like leave all Python stacks in the error log."""
    faulthandler.enable(file=fd, all_threads=True)


def watch_stacks(number, fd):
    """Make a handler for that signal which writes the stack of the thread that it runs on."""
    if fd != -1:
        faulthandler.register(number, file=fd, all_threads=False, chain=False)


_signal_pipe = ()


def watch_signals():
    """A pipe that is readable when Python's C-level handler has a signal to be handled."""
    global _signal_pipe
    _signal_pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(_signal_pipe[1], warn_on_full_buffer=False)
    return _signal_pipe


def _unwatch_signals():
    """In a forked child: its signals are not the worker's."""
    global _signal_pipe
    fd = signal.set_wakeup_fd(-1)
    if fd not in _signal_pipe:  # an event loop of the application, which will see to it
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    for fd in _signal_pipe:
        os.close(fd)
    _signal_pipe = ()


def format_exception(error):
    return "".join(traceback.format_exception(error))


class RequestThread(threading._DummyThread):
    """What threading.current_thread() makes, when asked, for a thread that runs requests.

    Its name is the request's, GET /path, or what that request has set. Unlike a _DummyThread's
    its threads are no daemons: as under gunicorn's gthread, the end waits for them.
    """

    _slot = None
    _renamed = None, None

    def __init__(self):
        super().__init__()
        slot = serving_slot()  # noqa: F821 - of serving.c
        if slot is not None:
            self._slot = slot
            self._daemonic = False

    @property
    def _name(self):
        request = serving_request(self._slot)  # noqa: F821
        if request is None:
            spawned = self._spawned()
            return self._own_name if spawned is None else spawned.name
        begun, name = request
        return self._renamed[1] if self._renamed[0] == begun else name

    @_name.setter
    def _name(self, name):
        request = serving_request(self._slot)  # noqa: F821
        if request is None:
            spawned = self._spawned()
            if spawned is None:
                self._own_name = name
            else:
                spawned.name = name
        else:
            self._renamed = request[0], name

    def _spawned(self):
        module = sys.modules.get("greenicorn")
        return None if module is None else module._running.get(getattr(self, "_ident", None))

    def _set_os_name(self):
        """Python 3.14 would name the OS thread, which runs all of them."""


# threading names the class in current_thread() only, when it meets a thread that is not its own.
threading._DummyThread = RequestThread


def begin_thread():
    """threading.settrace() and setprofile() are for the threads that begin after them.

    What is known under our number was an ended thread's of some C library: see forget_thread.
    """
    threading._active.pop(threading.get_ident(), None)
    if threading.gettrace() is not None:
        sys.settrace(threading.gettrace())
    if threading.getprofile() is not None:
        sys.setprofile(threading.getprofile())


def forget_thread():
    """A thread is about to end: drop what current_thread() made for it.

    Python 3.13 does so by itself; before it such entries stay for ever.
    """
    threading._active.pop(threading.get_ident(), None)


def _forked():
    """In a child that a request forked, its thread is the main one, whatever it was before.

    Python 3.13 sees to it (gh-102512); before, a main thread that is a _DummyThread
    makes threading._shutdown, and with it every multiprocessing child, fail at its end.
    """
    _unwatch_signals()
    main = threading.main_thread()
    if isinstance(main, threading._DummyThread) and hasattr(main, "_set_tstate_lock"):
        main.__class__ = threading._MainThread
        main._name = "MainThread"
        main._daemonic = False
        main._set_tstate_lock()


os.register_at_fork(after_in_child=_forked)


class _Module:
    """Finds and loads the module greenicorn, which is in the worker's program: greenicorn.py."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, cls, origin="built-in") if name == "greenicorn" else None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        exec(compile(module_source(), "<greenicorn.py>", "exec"), vars(module))  # noqa: F821

    @staticmethod
    def get_source(name):
        return module_source()  # noqa: F821 - of interpreter.c


sys.meta_path.insert(0, _Module)


def exit_status(error):
    """What the interpreter makes of a SystemExit."""
    if error.code is None:
        return 0
    return error.code & 255 if isinstance(error.code, int) else 1


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # None, closed, or a full disk: nothing more can be done
            pass


def freeze():
    """Before workers are forked: the collector would write to every object, and so copy every page."""
    check_hubs_before_fork()
    gc.collect()
    gc.freeze()


def other_threads():
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return ", ".join(names) or "none of Python"


def stop(join):
    """What ends a Python program: join its threads (or do not), run its exit handlers, flush."""
    try:
        if join:
            if "greenicorn" in sys.modules:
                sys.modules["greenicorn"]._join_all()
            threading._shutdown()
        atexit._run_exitfuncs()
    finally:
        flush()
