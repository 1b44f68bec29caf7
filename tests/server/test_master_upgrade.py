"""USR2, a second master beside the first, and WINCH; sockets that systemd keeps over a restart."""

import os
import re
import shutil
import signal
import socket

import pytest

import harness
from harness import children_of, wait_for
from master_util import Master, Notified, start_activated, start_notified


class Upgraded(Master):
    """A master whose successors are ended with it."""

    def successors(self):
        return [int(pid) for pid in re.findall(r"Starting a new master with pid: (\d+)", self.log_text())]

    def upgrade(self):
        """The new master, ready."""
        count = len(self.successors())
        self.signal(signal.SIGUSR2)
        self.wait_log("Starting a new master", count=count + 1)
        pid = self.successors()[-1]
        self.wait_log(r"The new master \(pid:%d\) is ready" % pid)
        return pid

    def __exit__(self, *exc):
        for pid in self.successors():
            try:
                os.kill(pid, signal.SIGQUIT)
            except ProcessLookupError:
                pass
        super().__exit__(*exc)


def ended(pid):
    """It is gone, or a zombie that nobody has reaped."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def names(path, pid):
    """Whether that pid stands in the file."""
    return os.path.lexists(path) and path.read_text() == "%d\n" % pid


def open_files(pid):
    folder = "/proc/%d/fd" % pid
    return [os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)]


def ppid_that_answers(m):
    return m.about()["ppid"]


def test_the_new_one_takes_over(tmp_path):
    pidfile, path = tmp_path / "pid", str(tmp_path / "sock")
    with Upgraded(tmp_path, workers=2, pidfile=str(pidfile), bind=["unix:" + path]) as m:
        inode = os.stat(path).st_ino
        old, new = m.process.pid, m.upgrade()
        assert (pidfile.read_text(), (tmp_path / "pid.2").read_text()) == ("%d\n" % old, "%d\n" % new)
        with open("/proc/%d/cmdline" % new) as f:
            assert f.read().startswith("greenicorn: master [ok.2]")
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0
        m.wait_log(r"\[%d\] \[INFO\] Master has been promoted\." % new)
        wait_for(lambda: not (tmp_path / "pid.2").exists())
        assert names(pidfile, new)
        assert os.stat(path).st_ino == inode
        with harness.Connection(path) as c:
            c.get()
            about = c.response().body.decode()
        assert '"ppid": %d' % new in about and "GREENICORN_PID" not in about
        os.kill(new, signal.SIGTERM)
        wait_for(lambda: ended(new))
        assert not os.path.exists(path) and not pidfile.exists()


def test_back_to_the_old_one(tmp_path):
    pidfile = tmp_path / "pid"
    with Upgraded(tmp_path, pidfile=str(pidfile)) as m:
        for _ in range(2):
            new = m.upgrade()
            os.kill(new, signal.SIGTERM)
            m.wait_log(r"The new master \(pid:%d\) has stopped: this one goes on" % new)
            assert not (tmp_path / "pid.2").exists()
        assert pidfile.read_text() == "%d\n" % m.process.pid
        assert ppid_that_answers(m) == m.process.pid
        m.hup()  # gunicorn's roll-back: HUP to the old one
        m.wait_log("Worker ready", count=4)


def test_only_one_at_a_time(tmp_path):
    with Upgraded(tmp_path) as m:
        new = m.upgrade()
        m.signal(signal.SIGUSR2)
        m.wait_log(r"USR2 signal ignored\. Child exists\.")
        os.kill(new, signal.SIGUSR2)
        m.wait_log(r"\[%d\] \[WARNING\] USR2 signal ignored\. Parent exists\." % new)
        assert len(m.successors()) == 1


def test_twenty_in_a_row(tmp_path):
    """Each promoted one upgrades in its turn; none inherits more than the one before."""
    with Upgraded(tmp_path, pidfile=str(tmp_path / "pid")) as m:
        pid, files = m.process.pid, len(open_files(m.process.pid))
        for i in range(20):
            os.kill(pid, signal.SIGUSR2)
            m.wait_log("The new master .* is ready", count=i + 1)
            os.kill(pid, signal.SIGTERM)
            m.wait_log("Master has been promoted", count=i + 1)
            pid = m.successors()[-1]
        assert ppid_that_answers(m) == pid
        assert len(open_files(pid)) == files


def test_a_broken_configuration_leaves_the_old_one(tmp_path):
    with Upgraded(tmp_path) as m:
        m.write_config(nonsense=1)
        m.signal(signal.SIGUSR2)
        m.wait_log(r"The new master \(pid:\d+\) has failed: this one goes on")
        assert "nonsense: unknown setting" in m.log_text()
        assert ppid_that_answers(m) == m.process.pid
        m.write_config(nonsense=None)
        assert m.upgrade() not in children_of(m.process.pid)  # but systemd's, where that is process 1


def test_an_application_that_does_not_load_leaves_the_old_one(tmp_path):
    with Upgraded(tmp_path, app=None, wsgi_app="ok") as m:
        m.write_config(wsgi_app="exit=3")
        m.signal(signal.SIGUSR2)
        m.wait_log(r"The new master \(pid:\d+\) has failed: this one goes on")
        assert ppid_that_answers(m) == m.process.pid


def test_during_a_reload(tmp_path):
    """The sockets that the reload has opened already are offered, too."""
    with Upgraded(tmp_path, app=None, wsgi_app="ok") as m:
        m.hup(wsgi_app="never", bind=[m.settings["bind"], "127.0.0.1:%d" % harness.free_port()])
        m.wait_log("Booting worker", count=2)
        m.write_config(wsgi_app="ok")
        new = m.upgrade()
        assert "Connection in use" not in m.log_text()
        m.signal(signal.SIGQUIT)
        m.wait_exit()
        m.wait_log("Master has been promoted")
        assert ppid_that_answers(m) == new


def test_an_old_one_that_is_gone_before_the_new_one_looks(tmp_path):
    """Told by its end of the control socket, not by its pid, which another process may have."""
    ours, closed = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    closed.close()
    with ours, socket.create_server(("127.0.0.1", 0)) as inet:
        settings = {"env": {"GREENICORN_PID": str(os.getpid())}, "pidfile": str(tmp_path / "pid")}
        with start_activated(tmp_path, [inet, ours], "listen:control", **settings) as m:
            m.port = inet.getsockname()[1]
            m.wait_log("Master has been promoted")
            assert names(tmp_path / "pid", m.process.pid) and not (tmp_path / "pid.2").exists()
            assert ppid_that_answers(m) == m.process.pid


def test_the_variable_alone_proves_nothing(tmp_path):
    with Upgraded(tmp_path, env={"GREENICORN_PID": "1"}, pidfile=str(tmp_path / "pid")) as m:
        assert names(tmp_path / "pid", m.process.pid)
        assert "GREENICORN_PID" not in m.about()["env"]
        m.upgrade()


def test_a_replaced_program(tmp_path, monkeypatch):
    """What runs is what lies on the disk by then, and it is found when the old file is gone."""
    program = tmp_path / "greenicorn"
    shutil.copy(harness.MASTER, program)
    monkeypatch.setattr(harness, "MASTER", str(program))
    with Upgraded(tmp_path) as m:
        shutil.copy(program, tmp_path / "other")
        os.rename(tmp_path / "other", program)
        assert os.stat("/proc/%d/exe" % m.process.pid).st_ino != program.stat().st_ino
        assert os.stat("/proc/%d/exe" % m.upgrade()).st_ino == program.stat().st_ino


def test_an_old_one_that_is_killed(tmp_path):
    with Upgraded(tmp_path, pidfile=str(tmp_path / "pid")) as m:
        new = m.upgrade()
        old_workers = set(children_of(m.process.pid)) - {new}
        m.process.kill()
        m.process.wait()
        m.wait_log("Master has been promoted")
        wait_for(lambda: names(tmp_path / "pid", new))
        wait_for(lambda: all(ended(pid) for pid in old_workers))
        assert ppid_that_answers(m) == new


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_after_root_was_given_up(open_path):
    """The low port's socket, the log and the pid file's folder are the user's by then."""
    (open_path / "run").mkdir()
    shutil.chown(open_path / "run", "nobody")
    with Upgraded(open_path, user="nobody", pidfile=str(open_path / "run" / "pid")) as m:
        new = m.upgrade()
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0
        wait_for(lambda: names(open_path / "run" / "pid", new))
        assert ppid_that_answers(m) == new


def test_sockets_of_systemd(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as inet, start_activated(tmp_path, [inet]) as m:
        m.port = inet.getsockname()[1]
        m.signal(signal.SIGUSR2)
        (new,) = m.wait_log(r"The new master \(pid:(\d+)\) is ready")
        m.signal(signal.SIGTERM)
        assert m.process.wait() == 0
        m.wait_log("Master has been promoted")
        assert ppid_that_answers(m) == int(new)
        os.kill(int(new), signal.SIGTERM)
        wait_for(lambda: ended(int(new)))


def test_systemd_learns_who_the_main_process_is(tmp_path):
    with Notified(str(tmp_path / "notify")) as notified:
        with Upgraded(tmp_path, env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}) as m:
            notified.next("READY")
            new = m.upgrade()
            assert notified.next("MAINPID")["MAINPID"] == str(new)
            os.kill(new, signal.SIGTERM)
            assert notified.next("MAINPID")["MAINPID"] == str(m.process.pid)
            new = m.upgrade()
            assert notified.next("MAINPID")["MAINPID"] == str(new)
            m.signal(signal.SIGTERM)
            seen = {}
            while seen.get("MAINPID") != str(new):  # at its promotion
                seen.update(notified.receive()[0])
            assert "STOPPING" not in seen
            notified.next("WATCHDOG")
            os.kill(new, signal.SIGTERM)
            notified.next("STOPPING")


def test_systemd_keeps_the_sockets(tmp_path):
    """Stored once a worker is ready; found again by address, what is not wanted any more is closed."""
    notified, m = start_notified(tmp_path, app="ok")
    with notified:
        with m:
            port = m.port
            assert notified.next("FDSTOREREMOVE")["FDNAME"] == "bound"
            (stored,) = notified.next("FDSTORE")["fds"]
            kept = socket.socket(fileno=stored)
            m.process.kill()
            m.process.wait()
        (tmp_path / "again").mkdir()
        with kept, socket.create_server(("127.0.0.1", 0)) as other:
            names = "bound:bound"
            with start_activated(tmp_path / "again", [kept, other], names, bind="127.0.0.1:%d" % port) as m:
                m.port = port
                assert m.about()["fds"]["listen"] == [3]
                assert os.readlink("/proc/self/fd/%d" % kept.fileno()) in open_files(m.process.pid)
                assert os.readlink("/proc/self/fd/%d" % other.fileno()) not in open_files(m.process.pid)
                assert "Connection in use" not in m.log_text()


def test_a_kept_socket_whose_file_is_gone(tmp_path):
    """A stop removes the file, and systemd keeps the socket while it starts the service again."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as kept:
        kept.bind(path)
        kept.listen()
        os.unlink(path)
        with start_activated(tmp_path, [kept], "bound", bind="unix:" + path) as m:
            with harness.Connection(path) as c:
                c.get()
                assert '"ppid": %d' % m.process.pid in c.response().text


class Detached(Master):
    new_session = True


def test_winch_stops_the_workers(tmp_path):
    with Detached(tmp_path, workers=2) as m:
        m.signal(signal.SIGWINCH)
        m.wait_log("graceful stop of workers")
        wait_for(lambda: not m.workers())
        m.signal(signal.SIGTTIN)
        m.wait_workers(1)
        m.hup()
        m.wait_workers(2)


def test_winch_is_no_reason_for_the_watchdog(tmp_path):
    with Notified(str(tmp_path / "notify")) as notified:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Detached(tmp_path, env=env) as m:
            m.signal(signal.SIGWINCH)
            wait_for(lambda: not m.workers())
            while not notified.messages.empty():
                notified.receive()
            notified.next("WATCHDOG")
