"""daemon: into the background once it serves; the command says whether it does."""

import os
import signal
import subprocess
import time

import pytest

import harness
from harness import wait_for

APP = """\
import sys
print("printed while it loads", file=sys.stderr)
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Daemon(harness.Server):
    """What the command starts; process is the command, which ends."""

    def __init__(self, folder, app="site_app:app", **settings):
        with open(folder / "site_app.py", "w") as f:
            f.write(APP)
        settings = {"chdir": str(folder), "daemon": True, "errorlog": str(folder / "daemon.log"), **settings}
        super().__init__(folder, app, start=False, **settings)
        self.pidfile = folder / "pid"
        self.settings.setdefault("pidfile", str(self.pidfile))

    def launch(self, env=None):
        self.write_config()
        with open(self.log, "ab") as log:
            return subprocess.run(
                [harness.MASTER, "-c", self.config, self.app], cwd=self.folder, env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60 * harness.PATIENCE,
            ).returncode  # fmt: skip

    def master(self):
        return int(self.pidfile.read_text())

    def daemon_log(self):
        with open(self.settings["errorlog"]) as f:
            return f.read()

    def end(self):
        if self.pidfile.exists():
            pid = self.master()
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: not os.path.exists("/proc/%d" % pid) or gone(pid), 30, "the daemon's end")


def gone(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def daemon(tmp_path):
    made = []

    def make(**arguments):
        made.append(Daemon(tmp_path, **arguments))
        return made[-1]

    yield make
    for each in made:
        each.end()


def streams(pid):
    return [os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in range(3)]


@pytest.mark.parametrize("preload", [False, True])
def test_it_serves_when_the_command_has_ended(daemon, preload):
    it = daemon(preload_app=preload, workers=2)
    assert it.launch() == 0
    assert it.get().status == 200
    pid = it.master()
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    ppid, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
    assert ppid != os.getpid() and session not in (os.getsid(0), pid) and terminal == 0
    wait_for(lambda: it.daemon_log().count("Worker ready") == 2)
    for process in (pid, *harness.children_of(pid)):
        wait_for(lambda: streams(process) == ["/dev/null"] * 3, what="a daemon without streams")
    assert "printed while it loads" in it.log_text() and "printed" not in it.daemon_log()


def test_a_failed_start_is_the_commands_failure(daemon):
    it = daemon(app="site_app:nothing")
    assert it.launch() == 4
    assert "has not started" in it.log_text() and it.settings["errorlog"] in it.log_text()
    assert "Failed to find attribute 'nothing' in 'site_app'." in it.daemon_log()
    assert not it.pidfile.exists()

    it = daemon(app="site_app:nothing", errorlog="-")
    assert it.launch() == 4
    assert "Failed to find attribute 'nothing' in 'site_app'." in it.log_text()


def test_signals_reach_a_daemon(daemon):
    it = daemon()
    assert it.launch() == 0
    pid = it.master()
    (worker,) = harness.children_of(pid)
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: harness.children_of(pid) and worker not in harness.children_of(pid), 30, "a new worker")
    assert it.get().status == 200
    os.kill(pid, signal.SIGWINCH)  # there is no terminal
    wait_for(lambda: not harness.children_of(pid), 30, "the end of the workers")
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: it.daemon_log().count("Worker ready") >= 3, 30, "workers again")

    os.kill(pid, signal.SIGUSR2)
    second = it.pidfile.with_name("pid.2")
    wait_for(second.exists, 30, "a second master")
    wait_for(lambda: it.daemon_log().count("Worker ready") >= 4, 30, "its worker")
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not second.exists() and it.pidfile.exists() and it.master() != pid, 30, "promotion")
    assert it.get().status == 200


def test_streams_that_are_to_stay(daemon):
    it = daemon(enable_stdio_inheritance=True)
    assert it.launch() == 0
    assert streams(it.master()) == ["/dev/null", it.log, it.log]


def test_systemd_needs_no_daemon(daemon, tmp_path):
    it = daemon(errorlog="-")
    it.env["NOTIFY_SOCKET"] = str(tmp_path / "nobody")
    it.start()
    assert "daemon: not under systemd" in it.log_text()
    assert it.process.pid == it.master() and it.get().status == 200
    it.finish()
