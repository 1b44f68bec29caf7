"""The master and the system: giving up root, systemd's sockets and its notifications."""

import fcntl
import os
import pwd
import re
import signal
import socket
import stat
import subprocess

import pytest

import harness
from harness import free_port, wait_for
from master_util import FAKE, Master, status_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def open_path(tmp_path):
    """A folder that nobody can enter: pytest's are 0700."""
    path = tmp_path
    while path != path.parent:
        os.chmod(path, stat.S_IMODE(path.stat().st_mode) | 0o011)
        path = path.parent
    return tmp_path


@needs_root
def test_root_is_given_up_for_good(open_path):
    with Master(open_path, user="nobody") as m:
        for pid in [m.process.pid, m.worker()]:
            status = status_of(pid)
            assert status["Uid"].split() == [str(NOBODY.pw_uid)] * 4
            assert status["Gid"].split() == [str(NOBODY.pw_gid)] * 4
            assert status["Groups"].split() == []
            for set_ in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert int(status[set_], 16) == 0, set_
        assert "running as root" not in m.log_text()


@needs_root
def test_group_and_initgroups(open_path):
    with Master(open_path, user=NOBODY.pw_uid, group="daemon", initgroups=True) as m:
        status = status_of(m.worker())
        assert status["Uid"].split() == [str(NOBODY.pw_uid)] * 4
        assert status["Gid"].split() == ["1"] * 4
        assert status["Groups"].split() == ["1"]  # nobody is in no other


@needs_root
def test_running_as_root_is_said_once(tmp_path):
    with Master(tmp_path, workers=2) as m:
        assert len(re.findall(r"WARNING\] running as root", m.log_text())) == 1


@needs_root
def test_files_are_made_before_root_is_given_up(open_path):
    """A low port, logs, a pid file, a socket in a folder of root's; all still work afterwards."""
    log, access, pidfile, sock = (open_path / name for name in ("e.log", "a.log", "pid", "s"))
    port = next(p for p in range(600, 1000) if can_bind(p))
    with Master(
        open_path, user="nobody", errorlog=str(log), accesslog=str(access), pidfile=str(pidfile),
        bind=["127.0.0.1:%d" % port, "unix:%s" % sock], umask="077", wait=False,
    ) as m:  # fmt: skip
        m.wait_log("Worker ready")
        m.port = port
        assert m.about()["pid"] == m.worker()
        assert log.stat().st_uid == access.stat().st_uid == sock.stat().st_uid == NOBODY.pw_uid
        m.signal(signal.SIGUSR1)
        m.signal(signal.SIGTTIN)
        wait_for(lambda: "Handling signal: ttin" in log.read_text())
        assert "cannot open" not in log.read_text()
        # What needs root again fails on a reload, and changes nothing.
        m.hup(bind=["127.0.0.1:%d" % port, "127.0.0.1:%d" % (port + 1)])
        wait_for(lambda: "Reload failed" in log.read_text())
        assert "not as this user: start as root, or take the socket from systemd" in log.read_text()
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0
        assert pidfile.read_text() == ""  # root's folder: it may be emptied, not removed
    with Master(open_path, pidfile=str(pidfile)) as m:  # and is no obstacle
        assert pidfile.read_text() == "%d\n" % m.process.pid


def can_bind(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


@needs_root
def test_a_link_in_the_logs_place_is_not_given_away(open_path):
    """The folder may belong to the user, who would like a file of root's."""
    precious, log = open_path / "precious", open_path / "e.log"
    precious.write_text("root's")
    log.symlink_to(precious)
    with Master(open_path, user="nobody", errorlog=str(log), wait=False) as m:
        wait_for(lambda: "Booting worker" in precious.read_text())
        assert precious.stat().st_uid == 0
        log.unlink()
        os.link(precious, log)
        m.signal(signal.SIGTERM)
        m.wait_exit()
    with Master(open_path, user="nobody", errorlog=str(log), wait=False) as m:
        wait_for(lambda: precious.read_text().count("Booting worker") == 2)
        assert precious.stat().st_uid == 0


@needs_root
def test_only_root_can_become_another(open_path):
    result = subprocess.run(
        [harness.MASTER, "-u", "daemon", "ok"], user="nobody", group="nogroup", extra_groups=[], text=True,
        env={**os.environ, "GREENICORN_WORKER": FAKE}, capture_output=True, timeout=20, cwd="/",
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "Error: command line: user: only root can become another\n"


# ---- systemd ----


def start_activated(folder, sockets, names=None, pid=None, **settings):
    """As systemd starts a service with sockets: from 3 on, for the process that execs."""
    keep = [s.fileno() for s in sockets]

    class Activated(Master):
        def start(self, wait=True):
            self.write_config()
            child = os.fork()
            if child == 0:
                try:
                    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in keep]
                    for i, fd in enumerate(high):
                        os.dup2(fd, 3 + i, inheritable=True)
                    log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                    os.dup2(log, 2)
                    env = dict(self.env, LISTEN_PID=str(pid or os.getpid()), LISTEN_FDS=str(len(keep)))
                    if names:
                        env["LISTEN_FDNAMES"] = names
                    os.closerange(3 + len(keep), 200)
                    os.chdir(self.folder)
                    os.execve(harness.MASTER, [harness.MASTER, "-c", self.config, self.app], env)
                finally:
                    os._exit(127)
            self.process = Forked(child)
            if wait:
                self.wait_ready()
            return self

    return Activated(folder, **settings)


class Forked:
    """Enough of subprocess.Popen for a process that we forked."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, sig):
        os.kill(self.pid, sig)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout=10):
        wait_for(lambda: self.poll() is not None, timeout, "the end of the master")
        return self.returncode


def test_sockets_from_systemd_replace_bind(tmp_path):
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        port = inet.getsockname()[1]
        with start_activated(tmp_path, [inet, unix], names="web:local") as m:
            assert "Listening at: http://127.0.0.1:%d,unix:%s (%d)" % (port, path, m.process.pid) in m.log_text()
            bound = m.port
            m.port = port
            about = m.about()
            assert about["fds"]["listen"] == [3, 4] and about["env"]["LISTEN_PID"] == str(about["pid"])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", bound), 1)
            old = m.wait_workers(1)
            m.hup(bind="127.0.0.1:%d" % free_port())  # still the sockets of systemd
            wait_for(lambda: m.wait_workers(1) != old)
            assert m.about()["pid"] != about["pid"]
            m.signal(signal.SIGTERM)
            assert m.process.wait() == 0
        assert os.path.exists(path)  # systemd's, not ours


def test_sockets_for_another_process_are_not_ours(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as inet:
        with start_activated(tmp_path, [inet], pid=1) as m:
            assert "Listening at: http://127.0.0.1:%d (" % m.port in m.log_text()
            assert m.about()["fds"]["listen"] == [3]


def test_a_descriptor_that_is_no_listening_socket(tmp_path):
    a, b = socket.socketpair()
    with a, b, start_activated(tmp_path, [a], wait=False) as m:
        assert m.process.wait() == 1
        assert "LISTEN_FDS: cannot listen on descriptor 3 (unknown): Invalid argument" in m.log_text()


class Notified:
    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.settimeout(10 * harness.PATIENCE)

    def next(self):
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().split("\n"))


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications(tmp_path, abstract):
    name = "greenicorn-test-%d" % os.getpid() if abstract else str(tmp_path / "notify")
    notified = Notified("\0" + name if abstract else name)
    env = {"NOTIFY_SOCKET": "@" + name if abstract else name}
    with notified.sock, Master(tmp_path, app=None, wsgi_app="late=0.3", env=env, workers=2) as m:
        assert notified.next()["READY"] == "1"  # once, when the first is ready
        assert "NOTIFY_SOCKET" not in m.about()["env"]
        m.hup()
        message = notified.next()
        assert message["RELOADING"] == "1" and int(message["MONOTONIC_USEC"]) > 0
        assert notified.next()["READY"] == "1"
        m.hup(wsgi_app="exit=3")
        assert notified.next()["RELOADING"] == "1"
        assert notified.next()["READY"] == "1"
        m.hup(workers=-1)
        assert notified.next()["RELOADING"] == "1"
        assert notified.next()["READY"] == "1"
        m.signal(signal.SIGTERM)
        assert notified.next()["STOPPING"] == "1"
        assert m.wait_exit() == 0


def test_no_notification_before_a_worker_is_ready(tmp_path):
    notified = Notified(str(tmp_path / "notify"))
    with notified.sock, Master(
        tmp_path, app="exit=3", env={"NOTIFY_SOCKET": str(tmp_path / "notify")}, wait=False
    ) as m:  # fmt: skip
        assert m.wait_exit() == 3
        assert "STOPPING" in notified.next()
