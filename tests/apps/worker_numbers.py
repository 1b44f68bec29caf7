"""A recipe in circulation for gunicorn: each worker has the lowest number that is free."""


def on_starting(server):
    server._numbers_after_reload = set()


def nworkers_changed(server, new_value, old_value):
    server._numbers = new_value


def on_reload(server):
    server._numbers_after_reload = set(range(1, server.cfg.workers + 1))


def next_number(server):
    if server._numbers_after_reload:
        return server._numbers_after_reload.pop()
    in_use = {w._number for w in tuple(server.WORKERS.values()) if w.alive}
    return min(set(range(1, server._numbers + 1)) - in_use)


def pre_fork(server, worker):
    worker._number = next_number(server)


def post_fork(server, worker):
    worker.log.info("number %d of %d", worker._number, server._numbers)
