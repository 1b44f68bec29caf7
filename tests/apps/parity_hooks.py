"""Server hooks that note in the file $PARITY_NOTES what they are called with, by gunicorn and by greenicorn."""

import json
import os

SERVER = "address cfg log pid proc_name timeout num_workers worker_age app WORKERS LISTENERS".split()
WORKER = "age pid ppid log cfg app sockets timeout nr alive booted aborted max_requests tmp wsgi".split()
REQUEST = "method uri path query fragment version headers trailers body scheme peer_addr remote_addr req_number".split()
RESPONSE = "status status_code headers headers_sent sent response_length chunked must_close upgrade version req".split()


def note(hook, **facts):
    with open(os.environ["PARITY_NOTES"], "a") as f:
        f.write(json.dumps({"hook": hook, **facts}) + "\n")
    if hook == os.environ.get("PARITY_RAISE"):
        raise RuntimeError("%s on purpose" % hook)


def kinds(name, of, attributes):
    """{name.attribute: its type}; only whether it is there when it is of the server's own."""

    def kind(value):
        return type(value).__name__ if type(value).__module__ == "builtins" else "an object"

    return {"%s.%s" % (name, a): kind(getattr(of, a)) if hasattr(of, a) else None for a in attributes}


def on_starting(server):
    note("on_starting", pid=server.pid == os.getppid() or server.pid == os.getpid())


def when_ready(server):
    note("when_ready", kinds=kinds("server", server, SERVER), cfg=[server.cfg.workers, server.cfg.timeout, len(server.cfg.bind)])


def on_reload(server):
    note("on_reload")


def pre_exec(server):
    note("pre_exec")


def on_exit(server):
    note("on_exit", workers=len(server.WORKERS))


def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", numbers=[new_value, old_value, server.num_workers])


def pre_fork(server, worker):
    worker.mine = worker.age
    note("pre_fork", pid=str(worker.pid), age=worker.age)


def post_fork(server, worker):
    note("post_fork", kinds=kinds("worker", worker, WORKER), is_ours=worker.pid == os.getpid(), mine=worker.mine)


def post_worker_init(worker):
    note("post_worker_init", booted=worker.booted, callable=callable(worker.wsgi))


def pre_request(worker, req):
    req.mine = 1
    note("pre_request", nr=worker.nr)


def post_request(worker, req, environ, resp):
    note(
        "post_request",
        kinds={**kinds("req", req, REQUEST), **kinds("resp", resp, RESPONSE)},
        req=[req.method, req.uri, req.path, req.query, req.version, sorted(req.headers), req.mine],
        resp=resp and [resp.status, resp.status_code, sorted(name for name, _ in resp.headers), resp.sent],
        environ=environ and environ["PATH_INFO"],
        nr=worker.nr,
    )


def worker_int(worker):
    note("worker_int", alive=worker.alive)


def worker_abort(worker):
    note("worker_abort")


def worker_exit(server, worker):
    note("worker_exit", is_ours=worker.pid == os.getpid())


def child_exit(server, worker):
    note("child_exit", mine=worker.mine, known=worker.pid in server.WORKERS)
