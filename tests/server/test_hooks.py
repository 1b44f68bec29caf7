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
        self.server = serve("hooked_app", env={"HOOKED": self.notes, **(env or {})}, **{**hooks, **settings})

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
    assert after[0]["version"] == [1, 1] and 0 < after[0]["took"] < 60
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
    assert h.server.get("/y").status == 200


@pytest.mark.parametrize("busy", [False, True])
def test_quit(hooked, busy):
    h = hooked("worker_int", "worker_exit")
    pid = h.server.worker()
    with h.server.connect() as c:
        if busy:
            c.get("/sleep")
            h.server.wait_log(r"worker \d+ \(pid %d\): ready" % pid)
            wait_for(lambda: len(c.sock.getsockname()) and True)
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    assert [note["hook"] for note in h.noted() if note["pid"] == pid] == ["worker_int", "worker_exit"]


def test_a_hook_that_hangs_does_not_keep_a_worker(hooked):
    h = hooked("worker_int", "worker_exit", env={"HOOKED_HANG": "worker_int worker_exit"}, graceful_timeout=1)
    for sig in (signal.SIGQUIT, signal.SIGTERM):
        pid = wait_for(h.server.ready_workers)[0]
        os.kill(pid, sig)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid), 15)  # noqa: B023


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
        ("worker_int", "hooked", "worker_int: 'hooked' is no module:function"),
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
