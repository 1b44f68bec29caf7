"""The master's life with its workers: start, signals, deaths, and the end. With fake workers."""

import os
import re
import signal
import socket
import time

import pytest

import harness
from harness import free_port, wait_for
from master_util import Master, run


def lines(master, *patterns):
    """The patterns are found in the log in that order."""
    text = master.log_text()
    place = 0
    for pattern in patterns:
        match = re.compile(pattern, re.M).search(text, place)
        assert match, "%r is not in, or not in order:\n%s" % (pattern, text)
        place = match.end()


def test_start_and_graceful_stop(tmp_path):
    with Master(tmp_path, workers=2) as m:
        m.wait_workers(2)
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0
        lines(
            m,
            r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] Starting greenicorn \d",
            r"\[INFO\] Listening at: http://127.0.0.1:%d \(%d\)$" % (m.port, m.process.pid),
            r"\[INFO\] Using worker: gevent$",
            r"\[INFO\] Booting worker with pid: \d+$",
            r"\[INFO\] Booting worker with pid: \d+$",
            r"\[INFO\] Handling signal: term$",
            r"Worker exiting",
            r"\[INFO\] Shutting down: Master$",
        )
        assert "ERROR" not in m.log_text()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop(tmp_path, sig):
    """Workers get QUIT: one that ignores TERM ends all the same."""
    with Master(tmp_path, app="stubborn", workers=2) as m:
        m.wait_workers(2)
        m.signal(sig)
        assert m.wait_exit(5) == 0
        assert "SIGKILL" not in m.log_text()


def test_a_worker_that_does_not_finish_is_killed(tmp_path):
    with Master(tmp_path, app="stubborn", graceful_timeout=1) as m:
        began = time.monotonic()
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0
        assert 1 <= time.monotonic() - began
        lines(m, r"ERROR\] Worker \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?", "Shutting down: Master")


def test_int_during_a_graceful_stop_hurries(tmp_path):
    with Master(tmp_path, app="stubborn", graceful_timeout=60) as m:
        m.signal(signal.SIGTERM)
        m.wait_log("Handling signal: term")
        m.signal(signal.SIGINT)
        assert m.wait_exit(5) == 0


def test_sockets_close_first(tmp_path):
    """While workers finish nobody can connect, and the unix socket is gone."""
    path = str(tmp_path / "s")
    with Master(tmp_path, app="stubborn", bind="unix:" + path, graceful_timeout=1) as m:
        assert os.path.exists(path)
        m.signal(signal.SIGTERM)
        m.wait_log("Handling signal: term")
        wait_for(lambda: not os.path.exists(path), what="removing the socket")
        assert m.process.poll() is None
        assert m.wait_exit() == 0


def test_a_dead_worker_is_replaced(tmp_path):
    with Master(tmp_path, workers=2) as m:
        first, second = m.wait_workers(2)
        os.kill(first, signal.SIGKILL)
        m.wait_log(r"ERROR\] Worker \(pid:%d\) was sent SIGKILL! Perhaps out of memory\?" % first)
        wait_for(lambda: first not in m.workers())
        assert second in m.wait_workers(2)
        os.kill(second, signal.SIGSEGV)
        m.wait_log(r"WARNING\] Worker \(pid:%d\) was sent SIGSEGV!" % second)
        m.wait_workers(2)


def test_a_worker_that_ends_by_itself_is_replaced_at_once(tmp_path):
    """max_requests, or kill -TERM of one worker: exit 0 is no crash."""
    with Master(tmp_path) as m:
        for _ in range(4):
            old = m.worker()
            os.kill(old, signal.SIGTERM)
            wait_for(lambda: m.ready_workers() not in ([], [old]), 5)
        assert "young" not in m.log_text()


def test_workers_that_have_done_enough_are_replaced_one_at_a_time(tmp_path):
    """Each only when its successor is ready."""
    with Master(tmp_path, app=None, wsgi_app="retire=1", workers=3) as m:
        old = m.wait_workers(3)
        wait_for(lambda: not set(old) & set(m.workers()), 30)
        said = re.findall(r"Worker (ready|exiting) \(pid: (\d+)\)", m.log_text())
        serving = 0
        for i, (what, _) in enumerate(said):
            serving += 1 if what == "ready" else -1
            assert serving >= 3 or i < 3, said
        assert "young" not in m.log_text()


def test_ttin_and_ttou(tmp_path):
    with Master(tmp_path) as m:
        (oldest,) = m.wait_workers(1)
        m.signal(signal.SIGTTIN)
        m.wait_workers(2)
        m.signal(signal.SIGTTIN)
        m.wait_log("Handling signal: ttin", count=2)
        m.wait_workers(3)
        m.signal(signal.SIGTTOU)
        assert oldest not in m.wait_workers(2)
        for count in (2, 3, 4):  # never below one
            m.signal(signal.SIGTTOU)
            m.wait_log("Handling signal: ttou", count=count)
        m.wait_workers(1)
        assert m.process.poll() is None


def test_usr1_reopens_the_log_and_tells_the_workers(tmp_path):
    log = tmp_path / "real.log"
    with Master(tmp_path, workers=2, errorlog=str(log), app="ok", wait=False) as m:
        m.wait_log("Worker ready", count=2)
        log.rename(tmp_path / "real.log.1")
        m.signal(signal.SIGUSR1)
        m.wait_log(r"Worker reopens", count=2)
        assert "Handling signal: usr1" in (tmp_path / "real.log.1").read_text()
        m.signal(signal.SIGTTIN)
        wait_for(lambda: log.exists() and "Handling signal: ttin" in log.read_text())


def test_usr1_reaches_a_worker_that_was_starting(tmp_path):
    with Master(tmp_path, app="late=1", wait=False) as m:
        m.wait_log("Booting worker")
        m.signal(signal.SIGUSR1)
        m.wait_log("Worker reopens")
        assert len(m.booted()) == 1


def test_a_silent_worker(tmp_path):
    with Master(tmp_path, app="silent", timeout=1) as m:
        (pid,) = m.wait_workers(1)
        m.wait_log(r"CRITICAL\] WORKER TIMEOUT \(pid:%d\)" % pid)
        m.wait_log(r"WARNING\] Worker \(pid:%d\) was sent SIGABRT!" % pid)
        wait_for(lambda: len(m.booted()) >= 2)


def test_a_silent_worker_that_is_deaf(tmp_path):
    with Master(tmp_path, app="silent+deaf", timeout=1) as m:
        (pid,) = m.wait_workers(1)
        m.wait_log(r"CRITICAL\] WORKER TIMEOUT \(pid:%d\)" % pid)
        m.wait_log(r"Worker \(pid:%d\) was sent SIGKILL!" % pid, 5)


def test_a_worker_that_never_gets_ready(tmp_path):
    with Master(tmp_path, app="never", boot_timeout=1, wait=False) as m:
        m.wait_log(r"CRITICAL\] WORKER TIMEOUT", count=2)


def test_timeout_0_is_never(tmp_path):
    with Master(tmp_path, app="silent", timeout=0) as m:
        (pid,) = m.wait_workers(1)
        time.sleep(1.5)  # nothing to wait for: it must not happen
        assert m.workers() == [pid] and "TIMEOUT" not in m.log_text()


def test_a_worker_that_beats_lives(tmp_path):
    with Master(tmp_path, timeout=1) as m:
        pids = m.wait_workers(1)
        time.sleep(2.5)
        assert m.workers() == pids and "TIMEOUT" not in m.log_text()


@pytest.mark.parametrize(
    "code, reason",
    [(3, "Worker failed to boot."), (4, "App failed to load."), (1, "Worker failed to start.")],
)
def test_the_first_start_fails(tmp_path, code, reason):
    with Master(tmp_path, app="exit=%d" % code, workers=3, wait=False) as m:
        assert m.wait_exit() == code
        lines(
            m,
            r"ERROR\] Worker \(pid:\d+\) exited with code %d\." % code,
            r"INFO\] Shutting down: Master",
            r"ERROR\] Reason: %s$" % re.escape(reason),
        )


def test_a_crash_loop_slows_down(tmp_path):
    with Master(tmp_path, app="segv=0", wait=False) as m:
        m.wait_log("the next one starts in 2 s", 15)
        assert 3 <= len(m.booted()) <= 6
        assert m.process.poll() is None
        m.signal(signal.SIGTERM)  # also while nobody is there
        assert m.wait_exit() == 0


def test_a_failed_boot_later_does_not_end_the_server(tmp_path):
    """The application breaks on disk while it runs: the workers that have it go on (gunicorn stops)."""
    broken = tmp_path / "broken"
    with Master(tmp_path, app="broken=%s" % broken, workers=2) as m:
        one, two = m.wait_workers(2)
        broken.write_text("")
        os.kill(one, signal.SIGKILL)
        m.wait_log(r"exited with code 3", count=2)
        assert m.ready_workers() == [two] and m.about()["pid"] == two
        broken.unlink()
        m.wait_workers(2, 15)


def test_the_pid_file(tmp_path):
    pidfile = tmp_path / "pid"
    with Master(tmp_path, pidfile=str(pidfile)) as m:
        assert pidfile.read_text() == "%d\n" % m.process.pid
        assert pidfile.stat().st_mode & 0o777 == 0o644
        result = run("-p", str(pidfile), "-b", "127.0.0.1:0", "ok", cwd=tmp_path)
        assert result.returncode == 1
        assert "Already running on PID %d (or pid file '%s' is stale)" % (m.process.pid, pidfile) in result.stderr
        assert pidfile.read_text() == "%d\n" % m.process.pid
        m.signal(signal.SIGTERM)
        m.wait_exit()
        assert not pidfile.exists()


def test_a_stale_pid_file_is_replaced(tmp_path):
    pidfile = tmp_path / "pid"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for text in ("%d\n" % child, "", "nonsense", "-1", "99999999999999999999"):
        pidfile.write_text(text)
        with Master(tmp_path, pidfile=str(pidfile)) as m:
            assert pidfile.read_text() == "%d\n" % m.process.pid


def test_a_pid_file_of_another_is_left(tmp_path):
    pidfile = tmp_path / "pid"
    with Master(tmp_path, pidfile=str(pidfile)) as m:
        pidfile.write_text("1\n")
        m.signal(signal.SIGTERM)
        m.wait_exit()
        assert pidfile.read_text() == "1\n"


def test_the_pid_file_follows_a_reload(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with Master(tmp_path, pidfile=str(one)) as m:
        m.hup(pidfile=str(two))
        wait_for(lambda: two.exists() and not one.exists())
        two.unlink()
        m.hup()
        wait_for(two.exists)
        assert two.read_text() == "%d\n" % m.process.pid


def test_a_unix_socket(tmp_path):
    path = str(tmp_path / "s")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    with Master(tmp_path, bind="unix:" + path, umask="027") as m:
        assert os.stat(path).st_mode & 0o777 == 0o750
        with harness.Connection(path) as c:
            c.get()
            assert c.response().status == 200
        m.signal(signal.SIGTERM)
        m.wait_exit()
        assert not os.path.exists(path)


def test_a_unix_socket_of_another_server_is_left(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()
        result = run("-b", "unix:" + path, "ok", cwd=tmp_path)
        assert result.returncode == 1 and "Address already in use" in result.stderr
        assert os.path.exists(path)
    os.unlink(path)
    (tmp_path / "s").write_text("a file")
    result = run("-b", "unix:" + path, "ok", cwd=tmp_path)
    assert result.returncode == 1 and "the path is another kind of file" in result.stderr
    assert (tmp_path / "s").read_text() == "a file"


def test_a_socket_replaced_under_us_is_not_removed(tmp_path):
    path = str(tmp_path / "s")
    with Master(tmp_path, bind="unix:" + path) as m:
        os.rename(path, path + ".old")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            m.signal(signal.SIGTERM)
            m.wait_exit()
            assert os.path.exists(path)


def test_ipv6_and_several_addresses(tmp_path):
    v4, v6 = free_port(), free_port()
    with Master(tmp_path, bind=["127.0.0.1:%d" % v4, "[::1]:%d" % v6]) as m:
        assert "Listening at: http://127.0.0.1:%d,http://[::1]:%d (" % (v4, v6) in m.log_text()
        with socket.create_connection(("::1", v6), 5) as s:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert s.recv(15) == b"HTTP/1.1 200 OK"


def test_workers_end_when_the_master_is_gone(tmp_path):
    with Master(tmp_path, workers=2) as m:
        pids = m.wait_workers(2)
        m.process.kill()
        m.process.wait()
        wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids), what="the workers' end")


def test_the_titles(tmp_path):
    name = "shop" * 50  # longer than the command line
    with Master(tmp_path, app="ok", proc_name=name, env={"COLOUR": "green"}) as m:
        with open("/proc/%d/cmdline" % m.process.pid) as f:
            assert f.read().strip("\0") == "greenicorn: master [%s]" % name
        assert m.about()["env"]["COLOUR"] == "green"


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("app", ["mute", "chatty"])
def test_a_strange_worker_does_not_keep_the_master_busy(tmp_path, app):
    """An application can reach the control socket: closing it, or rubbish on it, does no harm."""
    with Master(tmp_path, app=app, timeout=5) as m:
        pids = m.wait_workers(1)
        before = cpu_seconds(m.process.pid)
        time.sleep(1)
        assert cpu_seconds(m.process.pid) - before < 0.3 * harness.PATIENCE
        assert m.workers() == pids and m.about()["pid"] == pids[0]
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0


def test_no_descriptor_is_lost(tmp_path):
    """After many workers and reloads the master has as many descriptors as before."""
    with Master(tmp_path, workers=2) as m:
        m.wait_workers(2)

        def count():
            return len(os.listdir("/proc/%d/fd" % m.process.pid))

        before = count()
        for round in range(3):
            os.kill(m.workers()[0], signal.SIGTERM)
            m.hup()
            m.wait_log("Worker ready", count=2 + 2 * (round + 1))
            m.wait_workers(2)
        wait_for(lambda: count() == before, what="%d descriptors, not %d" % (before, count()))
