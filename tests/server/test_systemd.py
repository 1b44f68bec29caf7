"""greenicorn.service under a real systemd, process 1 of a namespace of its own. Only where that can be had: as root."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import harness
from harness import free_port, wait_for

SYSTEMD = "/lib/systemd/systemd"
HOME = "/run/greenicorn-test"  # in the namespace; /tmp is hidden from the service

INIT = """\
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system %(home)s
cp -r %(folder)s/. %(home)s
cp %(home)s/*.service /run/systemd/system
chmod -R a+rX %(home)s
export container=other
exec %(systemd)s --system --unit=greenicorn.service --log-target=null
"""


class Systemd:
    def __init__(self, folder, port, app, **settings):
        self.port = port
        self.write(folder, app, settings)
        init = folder / "init"
        init.write_text(INIT % {"home": HOME, "folder": folder, "systemd": SYSTEMD})
        with open(folder / "log", "wb") as log:
            self.unshare = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--mount", "--ipc", "--propagation", "private", "sh", str(init)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.folder = folder

    def write(self, folder, app, settings):
        """What the namespace is to find below HOME: the programs, an application, its configuration, the unit."""
        (folder / "master").mkdir()
        (folder / "worker").mkdir()
        shutil.copy(harness.MASTER, folder / "master")
        shutil.copy(harness.WORKER, folder / "worker")
        (folder / "site.py_").write_text(app)
        settings = {"bind": "127.0.0.1:%d" % self.port, "chdir": HOME, "wsgi_app": "shop:app", **settings}
        lines = ["%s = %s;\n" % (name, harness.value(setting)) for name, setting in settings.items()]
        (folder / "greenicorn.conf").write_text("".join(lines))
        (folder / "shop.py").write_text(app)
        with open(os.path.join(harness.BUILD, "systemd", "greenicorn.service")) as f:
            unit = f.read()
        command = "ExecStart=%s/master/greenicorn -c %s/greenicorn.conf" % (HOME, HOME)
        unit = re.sub(r"^ExecStart=.*", command, unit, flags=re.M)
        unit = re.sub(r"^WatchdogSec=.*", "WatchdogSec=4", unit, flags=re.M)
        unit = unit.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n").replace("[Service]\n", "[Service]\nRestartSec=1\n")
        (folder / "greenicorn.service").write_text(unit)

    def init(self):
        pids = harness.children_of(self.unshare.pid)
        return pids[0] if pids else None

    def run(self, *command):
        init = self.init()
        if init is None:
            return None
        return subprocess.run(
            ["nsenter", "-t", str(init), "-p", "-m", "-i", *command], capture_output=True, text=True, timeout=60
        )

    def show(self, name):
        result = self.run("systemctl", "show", "-P", name, "greenicorn.service")
        return result.stdout.strip() if result is not None else ""

    def wait(self, name, pattern, seconds=30):
        def found():
            value = self.show(name)
            return value if re.search(pattern, value) else None

        try:
            return wait_for(found, seconds, "%s=%s" % (name, pattern))
        except AssertionError as error:
            status = self.run("systemctl", "status", "-n0", "greenicorn.service")
            raise AssertionError("%s\n%s" % (error, status and status.stdout)) from None

    def sh(self, script):
        result = self.run("sh", "-c", script)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def end(self):
        init = self.init()
        if init is not None:
            os.kill(init, signal.SIGKILL)
        self.unshare.wait(20)


def fetch(port, timeout=30):
    with harness.Connection(("127.0.0.1", port), timeout) as c:
        c.get("/", close=True)
        return c.response().text


APP = """\
def app(environ, start_response):
    body = b"%s"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def service(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root makes such a namespace")
    for program in (SYSTEMD, "unshare", "nsenter", "systemctl"):
        if not shutil.which(program):
            pytest.skip("%s is not installed" % program)
    started = []

    def start(**settings):
        it = Systemd(tmp_path, free_port(), APP % "one", **settings)
        started.append(it)
        try:
            wait_for(lambda: it.show("ActiveState") in ("active", "activating", "failed"), 15)
        except (AssertionError, subprocess.TimeoutExpired):
            pytest.skip("systemd does not start here: " + (tmp_path / "log").read_text()[-300:])
        it.wait("ActiveState", "^active$")
        return it

    yield start
    for it in started:
        it.end()


def test_the_life_of_a_service(service):
    it = service(workers=2)
    it.wait("StatusText", "^2 of 2 workers ready; 0 requests in flight, ")
    main = it.show("MainPID")
    assert fetch(it.port) == "one" and it.show("User") == "www-data"

    # a reload
    it.sh("sed -i s/one/two/ %s/shop.py" % HOME)
    it.sh("systemctl reload greenicorn")
    wait_for(lambda: fetch(it.port) == "two", 20)
    it.wait("StatusText", "^2 of 2 workers ready")
    assert it.show("MainPID") == main

    # one that fails
    it.sh("echo 1/0 > %s/shop.py; systemctl reload greenicorn" % HOME)
    it.wait("StatusText", "; the last reload failed: the application did not load")
    assert it.show("ActiveState") == "active" and fetch(it.port) == "two"

    # an upgrade
    it.sh("cat %s/site.py_ > %s/shop.py; kill -USR2 %s" % (HOME, HOME, main))
    wait_for(lambda: it.show("MainPID") not in ("", "0", main), 20)
    it.sh("kill -TERM %s" % main)
    wait_for(lambda: it.run("kill", "-0", main).returncode != 0, 20)
    assert it.show("ActiveState") == "active" and fetch(it.port) == "one"
    it.sh("systemctl reload greenicorn")
    it.wait("StatusText", "^2 of 2 workers ready; 0 requests")

    # and the end
    it.sh("systemctl stop greenicorn")
    it.wait("ActiveState", "^inactive$")
    assert it.show("Result") == "success" and it.show("TasksCurrent") in ("0", "[not set]")


def test_clients_wait_while_a_dead_master_is_replaced(service):
    it = service()
    main = it.show("MainPID")
    it.wait("NFileDescriptorStore", "^1$")
    # systemd ends the workers too (KillMode=mixed): what they have in hand by then is lost
    it.sh(
        "workers=$(pgrep -P %s); kill -KILL %s; for i in $(seq 300); do"
        ' ps -o stat= -p "$(echo $workers)" | grep -qv Z || exit 0; sleep 0.1; done; exit 1' % (main, main)
    )
    began = time.monotonic()
    assert fetch(it.port, 60) == "one"  # no refusal, though nobody serves for a second
    assert time.monotonic() - began < 40 * harness.PATIENCE
    it.wait("ActiveState", "^active$")
    assert it.show("MainPID") not in (main, "0") and it.show("NRestarts") == "1"


def test_the_watchdog_restarts_what_shows_no_life(service):
    """The master lives, and would wait for ever: timeout is 0."""
    it = service(timeout=0)
    main = it.show("MainPID")
    it.sh("kill -STOP $(pgrep -P %s)" % main)
    it.wait("NRestarts", "^1$", 60)
    it.wait("ActiveState", "^active$")
    assert fetch(it.port) == "one"


def test_the_socket_unit(service):
    """systemd has the sockets: the first client starts the service, and who comes during a restart waits."""
    it = service()  # whose bind the sockets replace
    port = free_port()
    with open(os.path.join(harness.BUILD, "systemd", "greenicorn.socket")) as f:
        unit = f.read().replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n")
    unit = re.sub(
        r"^ListenStream=.*", "ListenStream=127.0.0.1:%d\nListenStream=%s/shop.socket" % (port, HOME), unit, flags=re.M
    )
    it.sh("systemctl stop greenicorn")
    it.sh("cat > /run/systemd/system/greenicorn.socket <<'END'\n%s\nEND\n" % unit)
    it.sh("systemctl daemon-reload && systemctl start greenicorn.socket")
    assert it.show("ActiveState") == "inactive"
    assert fetch(port, 60) == "one"
    it.wait("ActiveState", "^active$")
    main = it.show("MainPID")
    it.sh("systemctl restart --no-block greenicorn")
    for _ in range(20):
        assert fetch(port, 60) == "one"
    it.wait("ActiveState", "^active$")
    wait_for(lambda: it.show("MainPID") not in (main, "0"), 20)
    assert "shop.socket" in it.sh("ss -xlH 2>/dev/null || cat /proc/net/unix")
