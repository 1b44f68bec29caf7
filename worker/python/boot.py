"""What the worker does in Python before its first request and after its last.

Built into greenicorn-worker (see meson.build), so that no file of ours must be
found on sys.path. Error texts are gunicorn's: people search for them.
"""

import ast
import atexit
import faulthandler
import gc
import importlib.machinery
import os
import signal
import site
import sys
import threading
import traceback


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


def watch_faults(fd):
    """Have SIGSEGV, SIGABRT and their like leave all Python stacks in the error log."""
    faulthandler.enable(file=fd, all_threads=True)


def watch_stacks(number, fd):
    """Make a handler for that signal which writes the stack of the thread that it runs on."""
    if fd != -1:
        faulthandler.register(number, file=fd, all_threads=False, chain=False)


_signal_pipe = ()


def watch_signals():
    """A descriptor that is readable when Python's C-level handler has a signal to be handled."""
    global _signal_pipe
    _signal_pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(_signal_pipe[1], warn_on_full_buffer=False)
    return _signal_pipe[0]


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


def _drop_hubs():
    """The loops that gevent and eventlet have made for this thread hold descriptors."""
    gevent = sys.modules.get("gevent._hub_local")
    hub = gevent.get_hub_if_exists() if gevent else None
    if hub is not None:
        hub.destroy(destroy_loop=True)
    eventlet = getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None)
    hub = getattr(eventlet, "hub", None)
    if hub is not None:
        hub.abort(wait=True)
        if hasattr(hub, "poll"):
            hub.poll.close()


def forget_thread():
    """A thread is about to end: drop what current_thread() made for it.

    Python 3.13 does so by itself; before it such entries stay for ever.
    """
    threading._active.pop(threading.get_ident(), None)
    _drop_hubs()


# Functions that replace blocking calls in the whole process by those of a library that cannot
# know about our threads. Applications bring the calls from gunicorn -k gevent; here they do nothing.
_patching = {
    "gevent.monkey": lambda name: name.startswith("patch_") and name not in ("patch_item", "patch_module"),
    "eventlet.patcher": lambda name: name == "monkey_patch",
    "psycogreen.gevent": lambda name: name in ("patch_psycopg", "make_psycopg_green"),
    "psycogreen.eventlet": lambda name: name in ("patch_psycopg", "make_psycopg_green"),
}


def _defuse(module):
    """Put functions that do nothing in the place of those, and say so when one is called first."""

    def harmless(name):
        said = []

        def function(*args, **kwargs):
            if not said:
                said.append(True)
                log_info(  # noqa: F821 - of interpreter.c
                    "%s.%s() did nothing: it is not needed here, blocking calls let other requests run as they are"
                    % (module.__name__, name)
                )
            return True

        function.__name__ = function.__qualname__ = name
        return function

    for name, value in list(vars(module).items()):
        if callable(value) and _patching[module.__name__](name):
            setattr(module, name, harmless(name))


def _real_popen(gevent_subprocess):
    """gevent's can watch children from Python's main thread only; the real one works in each request."""
    import subprocess

    gevent_subprocess.Popen = subprocess.Popen


_after_import = {**dict.fromkeys(_patching, _defuse), "gevent.subprocess": _real_popen}


class _Module:
    """The module greenicorn, which is in the worker's program: greenicorn.py."""

    create_module = staticmethod(lambda spec: None)
    get_source = staticmethod(lambda name: module_source())  # noqa: F821 - of interpreter.c

    @staticmethod
    def exec_module(module):
        exec(compile(module_source(), "<greenicorn.py>", "exec"), vars(module))  # noqa: F821


class _Finder:
    """Finds these modules as the others do, and changes them once they are loaded."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "greenicorn":
            return importlib.machinery.ModuleSpec(name, _Module, origin="built-in")
        if name not in _after_import:
            return None
        finders = [finder for finder in sys.meta_path if finder is not cls]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            _after_import[name](module)

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, _Finder)


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
