"""gevent and eventlet in the application: what they need of a worker, and what they must not do.

Each thread that uses one of them has an event loop of its own, its hub, which runs while that
thread waits by it. Built into greenicorn-worker, as boot.py is.
"""

import sys

# How often what a request left behind may raise in the one that runs it.
RAISES_AT_MOST = 1000


def _gevent_hub():
    local = sys.modules.get("gevent._hub_local")
    return local.get_hub_if_exists() if local else None


def _eventlet_hub():
    return getattr(getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None), "hub", None)


def _run_out(run):
    """run() until it returns: a timeout that nobody has cancelled raises in it, and so does sys.exit()."""
    for _ in range(RAISES_AT_MOST):
        try:
            return run()
        except BaseException:  # gevent's own messages say what it was
            pass


def _finish_gevent(hub):
    """Ends the hub, too: gevent's locks belong to the hub that waited first, as long as that one lives."""
    _run_out(hub.join)
    if getattr(hub, "_threadpool", None) is not None:  # look-ups; a hub destroyed with one is never freed
        _run_out(hub._threadpool.kill)
        _run_out(hub.join)
    hub.destroy(destroy_loop=True)


def _finish_eventlet(hub):
    """eventlet has no join(): its hub is told to end when it asks how long to sleep with nothing to wait for."""

    def sleep_until():
        times = [when for when, timer in hub.timers if not timer.called]
        if not times and not hub.get_readers() and not hub.get_writers():
            hub.abort()
            return 0
        return min(times, default=None)

    hub.sleep_until = sleep_until
    _run_out(hub.switch)
    if hasattr(hub, "poll"):
        hub.poll.close()
    del sys.modules["eventlet.hubs"]._threadlocal.hub


def finish_hubs():
    """Run what the requests of this thread have left (gevent.spawn without join), then give its hubs up."""
    if _gevent_hub() is not None:
        _finish_gevent(_gevent_hub())
    if _eventlet_hub() is not None:
        _finish_eventlet(_eventlet_hub())


def wait_in_hub(fd):
    """Until fd is readable, on the main thread: run the greenlets that were started while the
    application was loaded. False: it has no hub.
    """
    hub = _gevent_hub()
    if hub is not None:
        watcher = hub.loop.io(fd, 1)
        try:
            hub.wait(watcher)
        finally:
            watcher.stop()
            watcher.close()
        return True
    if _eventlet_hub() is not None:
        sys.modules["eventlet.hubs"].trampoline(fd, read=True)
        return True
    return False


def check_hubs_before_fork():
    if _gevent_hub() is not None or _eventlet_hub() is not None:
        log_info(  # noqa: F821 - of interpreter.c
            "preload_app: greenlets that the application started while it was loaded "
            "do not run in its workers: start them in each worker"
        )


def forget_hubs_after_fork():
    """Their greenlets belong to a thread of the parent's; the main loop of gevent is one for the process."""
    if _gevent_hub() is not None:
        sys.modules["gevent.hub"].reinit()
        sys.modules["gevent._hub_local"].set_hub(None)
    if _eventlet_hub() is not None:
        del sys.modules["eventlet.hubs"]._threadlocal.hub


# Functions that replace blocking calls in the whole process by those of a library that cannot
# know about our threads. Applications bring the calls from gunicorn -k gevent; here they do nothing.
_patching = {
    "gevent.monkey": lambda name: name.startswith("patch_") and name not in ("patch_item", "patch_module"),
    "eventlet.patcher": lambda name: name == "monkey_patch",
    "psycogreen.gevent": lambda name: name in ("patch_psycopg", "make_psycopg_green"),
    "psycogreen.eventlet": lambda name: name in ("patch_psycopg", "make_psycopg_green"),
    "grpc.experimental.gevent": lambda name: name == "init_gevent",
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


def _in_place(eventlet_tpool):
    """eventlet's thread pool is for one hub, and for what would block other requests; here nothing does."""

    def execute(method, *args, **kwargs):
        return method(*args, **kwargs)

    eventlet_tpool.execute = execute


_after_import = {
    **dict.fromkeys(_patching, _defuse),
    "gevent.subprocess": _real_popen,
    "eventlet.tpool": _in_place,
    "gevent.hub": lambda module: watch_hubs(),  # noqa: F821 - of interpreter.c
    "eventlet.hubs": lambda module: watch_hubs(),  # noqa: F821
}


class _Finder:
    """Finds these modules as the others do, and changes them once they are loaded."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
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
