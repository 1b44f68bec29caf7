"""Python's loggers gunicorn.error and gunicorn.access, which applications know, and greenicorn.

Built into greenicorn-worker. The logs themselves are written in C; these loggers write to them, in
gunicorn's format. When logconfig or the application has changed a logger (a handler, a filter, a
level, a formatter), the server's own lines come through it, too: see logs.c.
"""

import importlib
import json
import logging
import operator
import os
import re
import sys
import types

from _greenicorn import load_file

ERROR_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"
MESSAGE_FORMAT = "%(message)s"

# What gunicorn takes of its own for the parts that logconfig_dict and logconfig_json leave out.
DEFAULTS = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": True, "qualname": "gunicorn.error"},
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": True, "qualname": "gunicorn.access"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
    },
    "formatters": {"generic": {"format": ERROR_FORMAT, "datefmt": DATE_FORMAT, "class": "logging.Formatter"}},
}  # fmt: skip

# gunicorn's atoms: all of them are in each record's args. Those that it has as numbers.
ATOMS = "h l u t r m U q H s B b f a T M D L p".split()
NUMBERS = "BTMD"

# gunicorn's own logger classes, and what classes made from them cannot change here.
KNOWN_CLASSES = ("gunicorn.glogging.Logger", "gunicorn.instrument.statsd.Statsd")
NOT_CALLED = "access atoms now log critical error warning info debug exception".split()

error_log = logging.getLogger("gunicorn.error")
access_log = logging.getLogger("gunicorn.access")
own_log = logging.getLogger("greenicorn")


class LogConfigError(Exception):
    """What is wrong with the settings: a line for the log."""


class Stream:
    """What gunicorn's handlers have as .stream: a file that can be written to."""

    encoding = "utf-8"

    def __init__(self, write):
        self._write = write

    def write(self, text):
        self._write(logging.INFO, text)
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False


class Handler(logging.StreamHandler):
    """Writes through a function in C, so that no two lines mix and no slow reader holds it up."""

    _gunicorn = True

    def __init__(self, write, form, date=None, terminator="\n"):
        super().__init__(Stream(write))
        self._write = write
        self.terminator = terminator
        self._form = logging.Formatter(form, date)
        self.setFormatter(self._form)

    def emit(self, record):
        try:
            self._write(record.levelno, self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)

    def as_made(self):
        return self.formatter is self._form and self.level == logging.NOTSET and not self.filters


class Atoms(dict):
    """record.args of an access line; an atom that does not exist is "-"."""

    def __missing__(self, key):
        return "-"


class Logger:
    """gunicorn.glogging.Logger where gunicorn is not installed, for classes that are made from it."""

    error_fmt, datefmt, access_fmt, syslog_fmt = ERROR_FORMAT, DATE_FORMAT, MESSAGE_FORMAT, ERROR_FORMAT

    def __init__(self, cfg):
        self.error_log = error_log
        self.access_log = access_log
        self.cfg = cfg
        self.setup(cfg)

    def setup(self, cfg):
        self.loglevel = self.error_log.level

    def __getattr__(self, name):
        return getattr(logging.getLogger("gunicorn.error"), name)


_object = None  # of logger_class
_made = {}  # a logger's state as we have set it: handlers, level


def _make(logger, level, handlers):
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers[:] = handlers
    _made[logger] = list(handlers), logger.level


def _is_as_made(logger):
    handlers, level = _made[logger]
    if logger.handlers != handlers or logger.level != level:
        return False
    if logger.filters or logger.propagate or logger.disabled:
        return False
    return all(handler.as_made() for handler in handlers)


def _with_defaults(given):
    """gunicorn replaces each whole part; its own handlers and formatters stay, so that its root can be made."""
    config = {**DEFAULTS, **given}
    for part in ("handlers", "formatters"):
        config[part] = {**DEFAULTS[part], **config[part]}
    return config


def _configure(s):
    """logconfig_dict wins over logconfig_json, and that over logconfig."""
    import logging.config

    given = json.loads(s["logconfig_dict"] or "{}")
    if given:
        logging.config.dictConfig(_with_defaults(given))
    elif s["logconfig_json"]:
        with open(s["logconfig_json"], encoding="utf-8") as f:
            logging.config.dictConfig(_with_defaults(json.load(f)))
    elif s["logconfig"]:
        path = s["logconfig"]
        if not os.path.exists(path):
            raise FileNotFoundError("no such file: %s" % path)
        logging.config.fileConfig(
            path, {"__file__": path, "here": os.path.dirname(path)}, disable_existing_loggers=False
        )  # fmt: skip


def _class(text):
    """The class that text names: module.Class, module:Class or file.py:Class."""
    module_name, _, name = text.rpartition(":" if ":" in text else ".")
    try:
        importlib.import_module("gunicorn.glogging")
    except ImportError:
        package, module = types.ModuleType("gunicorn"), types.ModuleType("gunicorn.glogging")
        package.__path__, package.glogging, module.Logger = [], module, Logger
        sys.modules.update({"gunicorn": package, "gunicorn.glogging": module})
    module = load_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
    return operator.attrgetter(name)(module)


def _use_class(s):
    """logger_class: an object is made; what it does to the loggers counts."""
    global _object
    made = _class(s["logger_class"])
    own = [c for c in made.__mro__ if c not in (Logger, object) and not c.__module__.startswith("gunicorn.")]
    unused = [name for name in NOT_CALLED if any(name in vars(c) for c in own)]
    if unused:
        error_log.warning("logger_class: %s does not get to call %s", s["logger_class"], ", ".join(unused))
    cfg = types.SimpleNamespace(**s)
    cfg.logconfig_dict = json.loads(s["logconfig_dict"] or "{}")
    cfg.proc_name = s["proc_name"] or s["wsgi_app"]
    cfg.user, cfg.group = os.geteuid(), os.getegid()
    _object = made(cfg)


def setup(s):
    """Before the application is loaded. s has the settings that this is about."""
    errors = [Handler(write_error, ERROR_FORMAT, DATE_FORMAT)]  # noqa: F821 - of logs.c, as all write_*
    accesses = []
    if s["accesslog"] is not None:
        accesses.append(Handler(write_access, MESSAGE_FORMAT))  # noqa: F821
    if s["syslog"]:
        errors.append(Handler(write_syslog_error, MESSAGE_FORMAT, terminator=""))  # noqa: F821
        if not s["disable_redirect_access_to_syslog"]:
            accesses.append(Handler(write_syslog_access, MESSAGE_FORMAT, terminator=""))  # noqa: F821
    level = s["loglevel"].upper()
    _make(error_log, level, errors)
    _make(own_log, level, errors)
    _make(access_log, "INFO", accesses)
    if s["capture_output"]:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)
    name = "logger_class"
    try:
        if s["logger_class"] not in (None, *KNOWN_CLASSES):
            _use_class(s)
        name = next((n for n in ("logconfig_dict", "logconfig_json", "logconfig") if s[n]), None)
        if name is not None:
            _configure(s)
    except Exception as error:
        cause = error.__cause__  # dictConfig says where, its cause what
        raise LogConfigError("%s: %s%s" % (name, error, ": %s" % cause if cause else "")) from None


def error_wanted():
    """The level from which on the server's own lines are to come here; None: it may write them.

    disable_existing_loggers, a default of logging.config, is not meant for the server's error log.
    """
    error_log.disabled = own_log.disabled = False
    return None if _is_as_made(error_log) else error_log.getEffectiveLevel()


_access_format = ""
_access_keys = []


def access_wanted(form):
    """In which format the access log's lines are to come here; None: they may be written.

    It has one atom behind the other, those of each record first, then what form has besides.
    """
    global _access_format, _access_keys
    if _is_as_made(access_log):
        return None
    _access_format = form
    if form == "json":
        return form
    more = [key for key in re.findall(r"%\((.*?)\)", form.replace("%%", "")) if key not in ATOMS]
    _access_keys = ATOMS + list(dict.fromkeys(more))
    return "\x1f".join("%%(%s)s" % key for key in _access_keys)


def _handle(logger, level, message, args):
    if logger.isEnabledFor(level):
        logger.handle(logger.makeRecord(logger.name, level, "(greenicorn)", 0, message, args, None))


def error(level, text):
    _handle(error_log, level, text, ())


def access(text):
    if _access_format == "json":
        _handle(access_log, logging.INFO, text, ())
        return
    atoms = Atoms(zip(_access_keys, text.split("\x1f")))
    for key in NUMBERS:
        atoms[key] = int(atoms[key])
    _handle(access_log, logging.INFO, _access_format, (atoms,))


def exception(what, value):
    error_log.error("%s", what, exc_info=value)


def reopen():
    """At SIGUSR1: the files of Python's handlers, as gunicorn does."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    for handler in handlers:
        if not isinstance(handler, logging.FileHandler) or handler.stream is None:
            continue
        handler.acquire()
        try:
            old, handler.stream = handler.stream, handler._open()
            old.close()
        except OSError as failure:
            error(logging.WARNING, "cannot reopen %s: %s" % (handler.baseFilename, failure))
        finally:
            handler.release()
