"""The master and the system: giving up root, systemd's sockets and its notifications."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import free_port, wait_for
from master_util import FAKE, Master, Notified, start_activated, start_notified, status_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
NOBODY = pwd.getpwnam("nobody")


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
def test_root_can_be_refused(open_path):
    with Master(open_path, refuse_root=True, wait=False) as m:
        assert m.wait_exit() == 1
        assert re.search(r"greenicorn.conf:\d+: refuse_root: the application would run as root: set user", m.log_text())
    os.unlink(m.log)
    with Master(open_path, refuse_root=True, user="nobody"):
        pass


def test_no_new_privileges(tmp_path):
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        with Master(folder, no_new_privs=wanted) as m:
            assert status_of(m.worker())["NoNewPrivs"] == str(int(wanted))


@needs_root
def test_capabilities_are_the_masters_only(open_path, monkeypatch):
    """As systemd's AmbientCapabilities=CAP_NET_BIND_SERVICE gives them."""
    program = open_path / "as-nobody"
    program.write_text(
        "#!/bin/sh\nexec setpriv --reuid nobody --regid nogroup --clear-groups"
        " --inh-caps +net_bind_service --ambient-caps +net_bind_service %s \"$@\"\n" % harness.MASTER
    )
    program.chmod(0o755)
    monkeypatch.setattr(harness, "MASTER", str(program))
    (open_path / "error.log").touch()
    shutil.chown(open_path, "nobody")
    with Master(open_path) as m:
        bit = 1 << 10
        assert int(status_of(m.process.pid)["CapEff"], 16) == bit
        status = status_of(m.worker())
        assert [int(status[name], 16) & bit for name in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]


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


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications(tmp_path, abstract):
    name = "greenicorn-test-%d" % os.getpid() if abstract else str(tmp_path / "notify")
    notified = Notified("\0" + name if abstract else name)
    env = {"NOTIFY_SOCKET": "@" + name if abstract else name}
    with notified, Master(tmp_path, app=None, wsgi_app="late=0.3", env=env, workers=2) as m:
        assert notified.next("READY")["READY"] == "1"  # once, when the first is ready
        assert "NOTIFY_SOCKET" not in m.about()["env"]
        m.hup()
        message = notified.next("RELOADING")
        assert message["RELOADING"] == "1" and int(message["MONOTONIC_USEC"]) > 0
        assert notified.next("READY")["READY"] == "1"
        m.hup(wsgi_app="exit=3")
        assert notified.next("RELOADING")["RELOADING"] == "1"
        assert notified.next("READY")["READY"] == "1"
        m.hup(workers=-1)
        assert notified.next("RELOADING")["RELOADING"] == "1"
        assert notified.next("READY")["READY"] == "1"
        m.signal(signal.SIGTERM)
        assert notified.next("STOPPING")["STOPPING"] == "1"
        assert m.wait_exit() == 0


def test_no_notification_before_a_worker_is_ready(tmp_path):
    notified, m = start_notified(tmp_path, app="exit=3", wait=False)
    with notified, m:
        assert m.wait_exit() == 3
        seen = {}
        while "STOPPING" not in seen:
            seen.update(notified.receive()[0])
        assert "READY" not in seen


def test_the_status(tmp_path):
    notified, m = start_notified(tmp_path, app=None, wsgi_app="late=0.2", workers=2)
    with notified, m:
        notified.next("STATUS", "^starting: no worker of 2 is ready yet; 0 requests in flight, 0 answered, 0 blocked others$")
        notified.next("STATUS", "^2 of 2 workers ready; ")
        m.hup(workers=3)
        notified.next("STATUS", "^reloading: [0-3] of 3 new workers ready; ")
        notified.next("STATUS", "^3 of 3 workers ready; ")
        m.hup(workers=3, nonsense=1)
        notified.next("STATUS", "; the last reload failed: .*greenicorn.conf:[0-9]+: nonsense: unknown setting")
        m.hup(nonsense=None, wsgi_app="exit=3")
        notified.next("STATUS", "^3 of 3 workers ready; the last reload failed: the application did not load; ")
        m.hup(workers=1, wsgi_app="late=0")
        notified.next("STATUS", "^1 of 1 workers ready; [0-9]")
        m.signal(signal.SIGTERM)
        notified.next("STATUS", "^stopping: 1 workers left; ")


def test_the_status_during_a_crash_loop(tmp_path):
    notified, m = start_notified(tmp_path, app="die=0.1:1")
    with notified, m:
        notified.next("STATUS", "; workers die young: the next one starts 2 s after the last; ")


def test_the_watchdog_wants_living_workers(tmp_path):
    env = {"WATCHDOG_USEC": "200000"}
    notified, m = start_notified(tmp_path, env=env, app="ok", timeout=2)
    with notified, m:
        for _ in range(3):
            notified.next("WATCHDOG")
        assert "WATCHDOG_USEC" not in m.about()["env"]
        (pid,) = m.wait_workers(1)
        os.kill(pid, signal.SIGSTOP)
        m.wait_log("WORKER TIMEOUT")
        stopped = time.monotonic()
        while True:  # none comes until the next worker is there
            message, _ = notified.receive()
            if "WATCHDOG" in message and m.ready_workers() not in ([], [pid]):
                break
            assert "WATCHDOG" not in message or time.monotonic() - stopped < 1 * harness.PATIENCE


def test_a_watchdog_for_another_process(tmp_path):
    notified, m = start_notified(tmp_path, env={"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, app="ok")
    with notified, m:
        time.sleep(0.5)
        m.signal(signal.SIGTERM)
        seen = {}
        while "STOPPING" not in seen:
            seen.update(notified.receive()[0])
        assert "WATCHDOG" not in seen


def test_more_time_while_it_loads(tmp_path):
    notified, m = start_notified(tmp_path, app="late=6", wait=False)
    with notified, m:
        for _ in range(2):
            assert int(notified.next("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) >= 10_000_000
