"""All server hooks; each notes in the file $HOOKED that it ran, where, and what it was given."""

import json
import os
import sys
import time

RAISE = os.environ.get("HOOKED_RAISE", "").split()  # the hooks that fail
DIE = os.environ.get("HOOKED_DIE", "").split()  # that end their process
HANG = os.environ.get("HOOKED_HANG", "").split()  # and those that do not come back, the first time


def note(hook, **facts):
    line = json.dumps({"hook": hook, "pid": os.getpid(), "loaded": "application" in globals(), **facts})
    with open(os.environ["HOOKED"], "a") as f:
        f.write(line + "\n")
    if hook in DIE:
        os._exit(0)
    if hook in RAISE:
        raise RuntimeError("%s fails" % hook)
    if hook in HANG and not os.path.exists(os.environ["HOOKED"] + "." + hook):
        open(os.environ["HOOKED"] + "." + hook, "w").close()
        time.sleep(3600)


def about(worker):
    return {
        "worker": worker.pid,
        "age": worker.age,
        "ppid": worker.ppid,
        "name": getattr(worker, "name", None),
    }


def post_fork(server, worker):
    worker.log.info("post_fork of %s", worker.pid)
    assert worker.cfg is server.cfg and str(worker) == "<Worker %s>" % os.getpid()
    address = server.LISTENERS[0].getsockname()
    note(
        "post_fork",
        **about(worker),
        server=server.pid,
        address=server.address,
        listening=address,
        workers=server.cfg.workers,
        wsgi="hooked.wsgi" in sys.modules,
        known=sorted(server.WORKERS),
    )


def post_worker_init(worker):
    note("post_worker_init", wsgi=worker.wsgi.__name__, booted=worker.booted, alive=worker.alive)


def pre_request(worker, req):
    note("pre_request", method=req.method, uri=req.uri, path=req.path, query=req.query, headers=req.headers)
    if req.path == "/refused":
        raise ValueError("not this one")
    req.started = time.monotonic()


def post_request(worker, req, environ, resp):
    note(
        "post_request",
        path=environ and environ["PATH_INFO"],
        status=resp.status,
        code=resp.status_code,
        headers=resp.headers,
        sent=resp.sent,
        took=time.monotonic() - getattr(req, "started", 0),
        version=req.version,
        nr=worker.nr,
        peer=req.remote_addr[0],
    )


def short_post_request(worker, req):
    if req.path == "/last":
        worker.alive = False
    note("post_request", path=req.path)


def worker_int(worker):
    note("worker_int")


def worker_abort(worker):
    note("worker_abort", frames=len(sys._current_frames()), aborted=worker.aborted)


def worker_exit(server, worker):
    note("worker_exit", worker=worker.pid, alive=worker.alive)


def on_starting(server):
    note("on_starting", server=server.pid, parent=os.getppid())
    os.environ["SET_BY_ON_STARTING"] = "yes"


def when_ready(server):
    note("when_ready", addresses=[str(listener) for listener in server.LISTENERS])


def on_reload(server):
    note("on_reload")


def pre_exec(server):
    note("pre_exec")


def on_exit(server):
    note("on_exit", known=sorted(server.WORKERS))


def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", new=new_value, old=old_value, num=server.num_workers)


def pre_fork(server, worker):
    worker.name = "worker-%d" % worker.age
    note("pre_fork", **about(worker))


def child_exit(server, worker):
    note("child_exit", **about(worker), known=sorted(server.WORKERS))


def wrong_arguments(server):
    raise AssertionError("this is never called")


not_callable = "text"
