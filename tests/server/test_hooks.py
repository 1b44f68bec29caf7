"""gunicorn's server hooks: docs/hooks.md."""

import json
import os
import re
import signal
import subprocess

import harness
import pytest
from harness import wait_for


class Hooked:
    """A server whose hooks note what they see: tests/apps/hooked.py."""

    def __init__(self, serve, folder, *names, env=None, **settings):
        self.notes = str(folder / "notes")
        hooks = {name: "hooked:%s" % name for name in names}
        env = {"HOOKED": self.notes, **(env or {})}
        self.server = serve("hooked_app", env=env, wait=False, **{**hooks, **settings})
        self.wait_workers(settings.get("workers", 1))

    def wait_workers(self, n):
        """So many have become ready since the start, and the master knows; their pids, in that order."""
        return [int(pid) for pid in self.server.wait_log(r"worker \d+ \(pid (\d+)\): ready", 30, count=n)]

    def noted(self, name=None):
        try:
            with open(self.notes) as f:
                found = [json.loads(line) for line in f.read().splitlines() if line.endswith("}")]
        except FileNotFoundError:
            return []
        return [note for note in found if name in (None, note["hook"])]

    def names(self):
        return [note["hook"] for note in self.noted()]

    def wait(self, name, n=1):
        return wait_for(lambda: len(self.noted(name)) >= n and self.noted(name), 20, "%s, %d times" % (name, n))


@pytest.fixture
def hooked(serve, tmp_path):
    return lambda *names, **settings: Hooked(serve, tmp_path, *names, **settings)


def hooks_of(notes, *names):
    return [note["hook"] for note in notes if note["hook"] in names]


# ---- in the worker ----


def test_a_workers_life(hooked):
    h = hooked("post_fork", "post_worker_init", "worker_exit", workers=1)
    pid, master = h.server.worker(), h.server.process.pid
    fork, init = h.noted()
    assert (fork["pid"], fork["worker"], fork["age"], fork["ppid"]) == (pid, pid, 1, master)
    assert fork["server"] == master and fork["workers"] == 1
    assert fork["address"] == [["127.0.0.1", h.server.port]] and fork["listening"] == fork["address"][0]
    assert init["wsgi"] == "application" and init["alive"] is True and init["booted"] is False
    assert re.search(r"\[%d\] \[INFO\] post_fork of %d$" % (pid, pid), h.server.log_text(), re.M)
    assert h.server.stop() == 0
    assert h.names() == ["post_fork", "post_worker_init", "worker_exit"]
    assert h.noted("worker_exit")[0]["worker"] == pid and h.noted("worker_exit")[0]["alive"] is False
    assert "does nothing here" not in h.server.log_text()


def test_requests(hooked):
    h = hooked("pre_request", "post_request")
    with h.server.connect() as c:
        for path in ("/a%20b?q=1&r=2", "/second"):
            c.get(path, [("X-One", " 1 "), ("X-Two", "")])
            assert c.response().status == 200
    before, after = h.noted("pre_request"), h.wait("post_request", 2)
    assert [note["hook"] for note in h.noted()] == ["pre_request", "post_request"] * 2
    assert before[0]["method"] == "GET" and before[0]["uri"] == "/a%20b?q=1&r=2"
    assert before[0]["path"] == "/a%20b" and before[0]["query"] == "q=1&r=2"
    assert ["X-ONE", "1"] in before[0]["headers"] and ["X-TWO", ""] in before[0]["headers"]
    assert after[0]["path"] == "/a b" and after[0]["status"] == "200 OK" and after[0]["code"] == 200
    assert sorted(name for name, _ in after[0]["headers"]) == ["Content-Length", "Content-Type", "X-Own"]
    assert ["X-Own", "a: b"] in after[0]["headers"] and after[0]["peer"] == "127.0.0.1"
    assert [note["nr"] for note in after] == [1, 2] and after[0]["version"] == [1, 1] and 0 < after[0]["took"] < 60
    assert str(after[0]["sent"]) == dict(after[0]["headers"])["Content-Length"]


def test_requests_that_fail(hooked):
    """As in gunicorn: pre_request may refuse one; post_request is called for each."""
    h = hooked("pre_request", "post_request")
    assert h.server.get("/refused").status == 500
    assert h.server.get("/broken").status == 500
    refused, broken = h.wait("post_request", 2)
    assert refused["path"] is None and refused["status"] == "500 Internal Server Error"
    assert broken["path"] == "/broken" and broken["code"] == 500
    log = h.server.log_text()
    assert re.search(r"ERROR\] Error handling request GET /refused\n(.*\n)*ValueError: not this one", log)


def test_post_request_with_fewer_arguments_and_a_dotted_name(hooked):
    h = hooked(post_request="hooked.short_post_request", env={"HOOKED_RAISE": "post_request"})
    assert h.server.get("/x").status == 200
    assert h.wait("post_request")[0]["path"] == "/x"
    h.server.wait_log(r"ERROR\] Exception in post_request hook\n(.*\n)*RuntimeError: post_request fails")
    assert h.server.get("/last").status == 200  # worker.alive = False: this one ends
    h.server.wait_log(r"Worker exiting \(pid: \d+\)")
    h.wait_workers(2)


@pytest.mark.parametrize("busy", [False, True])
def test_quit(hooked, busy):
    h = hooked("worker_int", "worker_exit", "pre_request")
    pid = h.server.worker()
    with h.server.connect() as c:
        if busy:
            c.get("/sleep")
            h.wait("pre_request")
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    assert hooks_of(h.noted(), "worker_int", "worker_exit") == ["worker_int", "worker_exit"]


@pytest.mark.parametrize("sig", [signal.SIGQUIT, signal.SIGTERM])
def test_a_hook_that_hangs_does_not_keep_a_worker(hooked, sig):
    h = hooked("worker_int", "worker_exit", env={"HOOKED_HANG": "worker_int worker_exit"}, graceful_timeout=1)
    pid = h.wait_workers(1)[0]
    os.kill(pid, sig)
    h.server.wait_log(r"Worker graceful timeout \(pid:%d\)" % pid)
    wait_for(lambda: not os.path.exists("/proc/%d" % pid))


@pytest.mark.parametrize("path", ["/spin", "/sleep"])
def test_abort(hooked, path):
    h = hooked("worker_abort")
    pid = h.server.worker()
    with h.server.connect() as c:
        c.get(path)
        if path == "/spin":
            h.server.wait_log("lets no other request run")
        os.kill(pid, signal.SIGABRT)
        assert h.wait("worker_abort")[0]["aborted"] is True
        h.server.wait_log(r"Worker \(pid:%d\) was sent SIGABRT" % pid)
    os.rename(h.server.log, h.server.log + ".old")  # the end of a worker by SIGABRT is what this asked for


# ---- mistakes ----


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("post_fork", "hooked:nothing", r"post_fork: Failed to find attribute 'nothing' in 'hooked'\."),
        ("post_fork", "nomodule:f", r"post_fork: cannot import nomodule:f: No module named 'nomodule'"),
        ("pre_request", "hooked.wrong_arguments", r"pre_request: hooked.wrong_arguments does not take 2 arguments"),
        ("worker_exit", "hooked:not_callable", "worker_exit: hooked:not_callable is not callable"),
        ("post_fork", "hooked_broken.f", r"post_fork: cannot import hooked_broken.f\n(.*\n)*ZeroDivisionError"),
        ("worker_exit", "nofile.py:f", "worker_exit: there is no file nofile.py in %s" % re.escape(harness.APPS)),
    ],
)
def test_a_hook_that_is_not_there(serve, tmp_path, name, text, said):
    server = serve("hooked_app", wait=False, **{name: text})
    assert server.process.wait(20 * harness.PATIENCE) == 1
    assert re.search(said, server.log_text())
    check = subprocess.run(
        [harness.MASTER, "-c", server.config, "--check-config", "hooked_app"],
        env=server.env, cwd=server.folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert check.returncode == 1 and re.search(said, check.stderr)


def test_post_fork_that_fails(serve, tmp_path):
    env = {"HOOKED": str(tmp_path / "notes"), "HOOKED_RAISE": "post_fork"}
    server = serve("hooked_app", wait=False, post_fork="hooked:post_fork", env=env)
    assert server.process.wait(20 * harness.PATIENCE) == 3
    assert re.search(r"Exception in worker process\n(.*\n)*RuntimeError: post_fork fails", server.log_text())


# ---- in the master, as gunicorn calls it ----

ARBITER = ("on_starting", "when_ready", "nworkers_changed", "pre_fork", "child_exit", "on_exit")


@pytest.mark.parametrize("preload", [False, True])
def test_a_servers_life(hooked, preload):
    h = hooked(*ARBITER, "post_fork", "worker_exit", "on_reload", workers=2, preload_app=preload)
    assert h.server.stop() == 0
    notes, log = h.noted(), h.server.log_text()
    assert h.names()[:3] == ["nworkers_changed", "on_starting", "when_ready"]
    assert notes[0]["new"] == notes[0]["num"] == 2 and notes[0]["old"] is None
    (arbiter,) = {note["pid"] for note in notes if note["hook"] in ARBITER}
    assert notes[1]["server"] == notes[1]["parent"] == h.server.process.pid
    assert notes[2]["addresses"] == ["http://127.0.0.1:%d" % h.server.port]
    forks, begun = h.noted("pre_fork"), h.noted("post_fork")
    assert [note["age"] for note in forks] == [1, 2] == sorted(note["age"] for note in begun)
    assert {note["worker"] for note in forks} == {"[booting]"}
    assert sorted(note["name"] for note in begun) == ["worker-1", "worker-2"]  # what pre_fork has set
    exits = h.noted("child_exit")
    assert {note["worker"] for note in exits} == {note["pid"] for note in begun}
    assert {(note["age"], note["name"]) for note in exits} == {(1, "worker-1"), (2, "worker-2")}
    assert exits[-1]["known"] == [] and h.names()[-1] == "on_exit" and notes[-1]["known"] == []
    assert log.count("to fork workers from") == 1 and "are lost" not in log
    assert ("preload_app" in log) is False and arbiter not in {note["pid"] for note in begun}


def test_what_on_starting_leaves_is_in_the_workers(hooked):
    h = hooked("on_starting")
    answer = json.loads(h.server.get().body)
    assert answer["env"]["SET_BY_ON_STARTING"] == "yes" and answer["hooked"]


def test_no_process_for_hooks_of_the_worker(hooked):
    h = hooked("post_fork", "pre_request")
    assert "Booting mold" not in h.server.log_text() and len(h.server.workers()) == 1


def test_workers_that_die_and_numbers_that_change(hooked):
    h = hooked(*ARBITER, workers=2, graceful_timeout=5)
    pid = h.wait_workers(2)[0]
    os.kill(pid, signal.SIGKILL)
    (exited,) = h.wait("child_exit")
    assert exited["worker"] == pid and exited["ppid"] == h.server.process.pid
    third = h.wait("pre_fork", 3)
    assert third[2]["age"] == 3 and hooks_of(h.noted(), "pre_fork", "child_exit")[2:] == ["child_exit", "pre_fork"]
    h.server.signal(signal.SIGTTIN)
    assert [(n["new"], n["old"]) for n in h.wait("nworkers_changed", 2)] == [(2, None), (3, 2)]
    h.wait("pre_fork", 4)


def test_reload(hooked):
    """The hooks are loaded anew, in a process that knows the old workers."""
    h = hooked(*ARBITER, "on_reload", "post_fork", workers=1)
    pid = h.noted("post_fork")[0]["pid"]
    h.server.write_config(workers=2)
    h.server.signal(signal.SIGHUP)
    exited = h.wait("child_exit")[0]
    assert exited["worker"] == pid and exited["age"] == 1 and exited["name"] == "worker-1"
    reloaded = h.noted("on_reload")[0]
    assert reloaded["pid"] != h.noted("on_starting")[0]["pid"] == h.noted("when_ready")[0]["pid"]
    assert [(n["new"], n["old"]) for n in h.noted("nworkers_changed")] == [(1, None), (2, 1)]
    assert h.names().count("on_starting") == h.names().count("when_ready") == h.names().count("on_reload") == 1
    assert pid in h.wait("post_fork", 2)[1]["known"]
    h.wait("pre_fork", 3)
    assert h.server.stop() == 0
    assert len(h.noted("child_exit")) == 3 and h.names()[-1] == "on_exit"


def test_the_death_of_what_calls_them_is_survived(hooked):
    h = hooked(*ARBITER, "post_fork", workers=1)
    arbiter, pid = h.noted("on_starting")[0]["pid"], h.noted("post_fork")[0]["pid"]
    os.kill(arbiter, signal.SIGKILL)
    h.server.wait_log(r"Server hooks loaded, to fork workers from", count=2)
    assert h.server.get().status == 200
    os.kill(pid, signal.SIGTERM)
    exited = h.wait("child_exit")[0]
    assert exited["worker"] == pid and exited["pid"] != arbiter and exited["name"] == "worker-1"
    h.wait("post_fork", 2)
    assert h.names().count("on_starting") == 1


@pytest.mark.parametrize("preload", [False, True])
def test_on_starting_that_fails(serve, tmp_path, preload):
    env = {"HOOKED": str(tmp_path / "notes"), "HOOKED_RAISE": "on_starting"}
    hooks = {name: "hooked:%s" % name for name in ("on_starting", "when_ready", "on_exit")}
    server = serve("hooked_app", wait=False, env=env, preload_app=preload, **hooks)
    assert server.process.wait(20 * harness.PATIENCE) == 1
    log = server.log_text()
    assert re.search(r"Exception in a server hook\n(.*\n)*RuntimeError: on_starting fails", log)
    assert "Reason: The hook on_starting failed." in log and "Booting worker" not in log
    assert [json.loads(line)["hook"] for line in open(tmp_path / "notes")] == ["on_starting"]


def test_on_starting_that_ends_its_process(serve, tmp_path):
    env = {"HOOKED": str(tmp_path / "notes"), "HOOKED_DIE": "on_starting"}
    server = serve("hooked_app", wait=False, env=env, on_starting="hooked:on_starting", on_exit="hooked:on_exit")
    assert server.process.wait(20 * harness.PATIENCE) == 1
    assert "The hook on_starting was cut short" in server.log_text()
    assert "Reason: The hook on_starting failed." in server.log_text()


def test_an_application_that_does_not_load(serve, tmp_path):
    """child_exit and on_exit are called all the same; at a reload old hooks stay with the old workers."""
    notes = tmp_path / "notes"
    hooks = {name: "hooked:%s" % name for name in ("post_fork", "worker_exit", "child_exit", "on_exit")}
    server = serve("hooked_app:missing", wait=False, env={"HOOKED": str(notes)}, **hooks)
    assert server.process.wait(20 * harness.PATIENCE) == 4
    said = [json.loads(line)["hook"] for line in notes.read_text().splitlines()]
    assert said == ["post_fork", "worker_exit", "child_exit", "on_exit"]


def test_a_reload_with_hooks_that_are_not_there(hooked):
    h = hooked("child_exit", "on_exit", "post_fork")
    h.server.write_config(pre_fork="hooked:missing")
    h.server.signal(signal.SIGHUP)
    h.server.wait_log("pre_fork: Failed to find attribute 'missing' in 'hooked'")
    h.server.wait_log("Reload failed: the old configuration stays")
    os.kill(h.noted("post_fork")[0]["pid"], signal.SIGTERM)
    h.wait("post_fork", 2)
    assert h.server.stop() == 0 and h.names().count("child_exit") == 2 and h.names()[-1] == "on_exit"


def test_signals_for_all_processes(hooked):
    """A terminal's, or a service manager's: what calls the hooks stays until on_exit."""
    h = hooked("on_exit", "nworkers_changed", "child_exit")
    arbiter = h.noted("nworkers_changed")[0]["pid"]
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        os.kill(arbiter, sig)
    assert h.server.stop(signal.SIGINT) == 0
    assert {note["pid"] for note in h.noted()} == {arbiter} and h.names()[-2:] == ["child_exit", "on_exit"]


def test_others_that_fail_are_logged(hooked):
    fail = ("when_ready", "nworkers_changed", "pre_fork", "child_exit", "on_exit")
    h = hooked(*ARBITER, env={"HOOKED_RAISE": " ".join(fail)})
    assert h.server.get().status == 200 and h.server.stop() == 0
    for name in fail:
        assert re.search(r"Exception in the hook %s\n(.*\n)*RuntimeError: %s fails" % (name, name), h.server.log_text())


def test_log_files_are_opened_again(hooked, tmp_path):
    path = tmp_path / "server0" / "error.log"
    h = hooked("nworkers_changed", env={"HOOKED_RAISE": "nworkers_changed"}, errorlog=str(path))
    path.rename(str(path) + ".1")
    h.server.signal(signal.SIGUSR1)
    wait_for(path.exists)
    h.server.signal(signal.SIGTTIN)
    h.server.wait_log(r"RuntimeError: nworkers_changed fails")


def test_a_recipe_for_numbers_of_workers(serve):
    """It keeps what it knows in attributes of the server and of workers, as people do under gunicorn."""
    names = ("on_starting", "nworkers_changed", "on_reload", "pre_fork", "post_fork")
    server = serve("hello:app", wait=False, workers=2, **{name: "worker_numbers:" + name for name in names})
    server.wait_log(r"worker \d+ \(pid \d+\): ready", 30, count=2)
    server.signal(signal.SIGHUP)
    pids = server.wait_log(r"worker \d+ \(pid (\d+)\): ready", 30, count=4)
    server.wait_log(r"Worker exiting \(pid: \d+\)", 30, count=2)
    for n, pid in enumerate(pids[2:], 5):
        os.kill(int(pid), signal.SIGKILL)
        server.wait_log(r"worker \d+ \(pid \d+\): ready", 30, count=n)
    numbers = server.wait_log(r"number (\d) of", count=6)
    assert sorted(numbers[:2]) == sorted(numbers[2:4]) == sorted(numbers[4:]) == ["1", "2"]


def test_one_that_hangs(hooked):
    """The server goes on without it, and what calls hooks is replaced."""
    timeout = 10 if harness.SANITIZED else 5  # the workers', too
    h = hooked("child_exit", env={"HOOKED_HANG": "child_exit"}, workers=2, timeout=timeout)
    os.kill(h.wait_workers(2)[0], signal.SIGKILL)
    h.wait("child_exit")
    assert h.server.get().status == 200
    h.server.wait_log(r"CRITICAL\] The hook child_exit has not come back: what calls it is killed", 30)
    h.server.wait_log("The hook child_exit was cut short")
    os.kill(h.wait_workers(3)[2], signal.SIGKILL)
    h.wait("child_exit", 2)
    h.wait_workers(4)


def test_pre_exec(hooked):
    h = hooked("pre_exec", "when_ready", "on_exit")
    h.server.signal(signal.SIGUSR2)
    h.wait("pre_exec")
    pid = int(h.server.wait_log(r"Starting a new master with pid: (\d+)")[0])
    h.server.wait_log(r"The new master \(pid:%d\) is ready" % pid)
    os.kill(pid, signal.SIGTERM)
    h.server.wait_log(r"The new master \(pid:%d\) has stopped" % pid)
    assert hooks_of(h.noted(), "pre_exec", "when_ready", "on_exit") == ["when_ready", "pre_exec", "when_ready", "on_exit"]


# ---- what people do with them ----


def metrics_of(server):
    lines = server.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


@pytest.mark.parametrize("preload", [False, True])
def test_prometheus_and_an_exporter_of_spans(serve, tmp_path, preload):
    """Counters survive the workers that have counted; what a dead one had in progress is dropped."""
    harness.needs("prometheus_client")
    folder, spans = tmp_path / "metrics", tmp_path / "spans"
    folder.mkdir()
    server = serve(
        "metrics_app", workers=2, preload_app=preload, wait=False,
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "SPANS": str(spans)},
        **{name: "metrics_app:" + name for name in ("child_exit", "post_fork", "worker_exit")},
    )  # fmt: skip
    server.wait_log(r"worker \d+ \(pid \d+\): ready", 30, count=2)
    for _ in range(10):
        assert server.get("/count").status == 200
    with server.connect() as c, pytest.raises(harness.Closed):
        c.get("/die")
        c.response()
    died = int(server.wait_log(r"Worker \(pid:(\d+)\) was sent SIGKILL")[0])
    server.wait_log(r"worker \d+ \(pid \d+\): ready", 30, count=3)
    wait_for(lambda: not list(folder.glob("gauge_live*_%d.db" % died)))
    for _ in range(10):
        assert server.get("/count").status == 200
    metrics = metrics_of(server)
    assert metrics["requests_total"] == 21 and metrics["in_progress"] == 0
    assert server.log_text().count("Worker spawned (pid: ") == 3
    assert server.stop() == 0
    written = [line.split() for line in spans.read_text().splitlines()]
    assert len(written) >= 10 and all(pid == worker for pid, worker, _ in written)


def test_hooks_in_gunicorns_own_file(serve, tmp_path):
    """Also what is no module's name: greenicorn --from-gunicorn writes such hooks."""
    (tmp_path / "gunicorn.conf.py").write_text(
        "import os\nloaded = os.getpid()\n"
        "def pre_fork(server, worker):\n    worker.note = loaded\n"
        "def post_fork(server, worker):\n    worker.log.info('note %d', worker.note)\n"
    )
    hooks = {name: "gunicorn.conf.py:" + name for name in ("pre_fork", "post_fork")}
    server = serve("hello:app", wait=False, chdir=str(tmp_path), pythonpath=harness.APPS, **hooks)
    server.wait_log(r"INFO\] note \d+$")
