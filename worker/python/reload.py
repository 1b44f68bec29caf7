"""--reload: a thread that looks whether files of the application have changed. --spew: each line that runs.

What is compared is a file's time, size and inode: with those that it had when its module was loaded, so that a second
save while the application is being loaded is not missed. inotify only says when to look again.
"""

import ctypes
import glob
import importlib.machinery
import linecache
import os
import select
import struct
import sys
import threading
import time
import traceback

EVERY = 1.0  # seconds between two looks, if nothing says that something has changed
SETTLE = 0.05  # a save is often several events

_loaded = {}  # path: what it was when its module was loaded
_extra = []  # patterns
_engine = None
_failed = False


def _stamp(path):
    """None while it is not there: an editor may be about to put a new one in its place."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


# ---- how to wait ----


class _Poll:
    def watch(self, folder):
        pass

    def wait(self):
        time.sleep(EVERY)


class _Inotify:
    # IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_MOVED_FROM
    MASK = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x40
    IGNORED = 0x8000  # the folder is gone

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd == -1:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.folders = {}
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)

    def watch(self, folder):
        if folder not in self.folders.values():
            number = self.libc.inotify_add_watch(self.fd, os.fsencode(folder), self.MASK)
            if number != -1:  # else the look each second is all there is
                self.folders[number] = folder

    def wait(self):
        if not self.poll.poll(EVERY * 1000):
            return
        time.sleep(SETTLE)
        try:
            events = os.read(self.fd, 65536)
        except BlockingIOError:
            return
        while len(events) >= 16:
            number, mask, _, n = struct.unpack_from("iIII", events)
            if mask & self.IGNORED:
                self.folders.pop(number, None)
            events = events[16 + n :]


def _engine_of(name):
    if name != "poll":
        try:
            return _Inotify()
        except (OSError, AttributeError) as error:
            if name == "inotify":
                raise RuntimeError("reload_engine: no inotify: %s" % error) from None
    return _Poll()


# ---- what to watch ----


def _modules():
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            yield os.path.abspath(path[:-1] if path.endswith((".pyc", ".pyo")) else path)


def _matches():
    """Files of the patterns, and of an application that was not loaded: what it lacks may be about to be written."""
    patterns = [*_extra, "*.py", os.path.join("*", "*.py")] if _failed else _extra
    for pattern in patterns:
        for path in glob.iglob(pattern, recursive=True):
            yield os.path.abspath(path)


def _changed_file(seen, first):
    for paths, new_ones_count in ((_modules(), False), (_matches(), not first)):
        for path in paths:
            now = _stamp(path)
            _engine.watch(os.path.dirname(path))
            before = seen.get(path)
            if before is None:
                before = _loaded.get(path)
                if before is None and not new_ones_count:
                    before = now
            if now is not None and now != before:
                return path
            seen[path] = before
    return None


def _watch():
    seen = {}
    path = _changed_file(seen, True)
    while path is None:
        _engine.wait()
        path = _changed_file(seen, False)
    changed("Worker reloading: %s modified" % path)  # noqa: F821 - reload.c's


# ---- what reload.c calls ----


def begin(reload, engine, extra_files):
    global _engine
    if not reload:
        return
    sys.dont_write_bytecode = True  # two saves within a second may look the same to it
    _extra.extend(extra_files)
    _engine = _engine_of(engine)
    path_stats = importlib.machinery.SourceFileLoader.path_stats

    def remembering(self, path):
        _loaded[os.path.abspath(path)] = _stamp(path)
        return path_stats(self, path)

    importlib.machinery.SourceFileLoader.path_stats = remembering


def watch():
    threading.Thread(target=_watch, name="greenicorn reload", daemon=True).start()


def page(error):
    """In place of an application that was not loaded, as gunicorn does it: its traceback, in the browser."""
    global _failed
    _failed = True
    for frame in traceback.extract_tb(error.__traceback__):
        _extra.append(glob.escape(frame.filename))
    if isinstance(error, SyntaxError) and error.filename:
        _extra.append(glob.escape(error.filename))
    body = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")

    def application(environ, start_response):
        start_response(
            "500 Internal Server Error",
            [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
        )
        return [body]

    return application


def spew():
    """As gunicorn's: the module, the number and the text of each line, on standard output."""

    def trace(frame, event, arg):
        if event == "line":
            name = frame.f_globals.get("__name__", "[unknown]")
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
            sys.stdout.write("%s:%d: %s\n" % (name, frame.f_lineno, text.rstrip()))
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
