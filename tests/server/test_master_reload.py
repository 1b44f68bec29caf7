"""SIGHUP: rolling, gated on readiness; a broken file or application changes nothing."""

import os
import re
import signal
import socket
import threading

import harness
from harness import free_port, wait_for
from master_util import Master


def app_of(m):
    return m.about()["app"]


def test_workers_are_replaced_one_by_one(tmp_path):
    with Master(tmp_path, app=None, wsgi_app="ok", workers=3) as m:
        old = m.wait_workers(3)
        m.hup(wsgi_app="late=0.2")
        m.wait_log("Hang up: Master")
        wait_for(lambda: app_of(m) == "late=0.2" and not set(old) & set(m.workers()), 15)
        assert len(m.wait_workers(3)) == 3
        # No old one goes before a new one is ready.
        said = re.findall(r"Worker (ready|exiting) \(pid: (\d+)\)", m.log_text())
        serving = 0
        for i, (what, _) in enumerate(said):
            serving += 1 if what == "ready" else -1
            assert i < 3 or serving >= 3, said


def test_no_request_is_lost(tmp_path):
    with Master(tmp_path, workers=2) as m:
        m.wait_workers(2)
        failures, answers, stop = [], [], threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    answers.append(m.about()["pid"])
                except Exception as error:
                    failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        for count in (4, 6):
            m.signal(signal.SIGHUP)
            m.wait_log("Worker ready", count=count)
            m.wait_workers(2)
        stop.set()
        thread.join()
        assert len(set(answers)) >= 3
        assert failures == []


def test_a_broken_file_keeps_the_old_configuration(tmp_path):
    with Master(tmp_path, workers=2) as m:
        pids = m.wait_workers(2)
        with open(m.config, "a") as f:
            f.write("nonsense = 1;\n")
        m.signal(signal.SIGHUP)
        m.wait_log(r"ERROR\] .*greenicorn.conf:\d+: nonsense: unknown setting")
        m.wait_log(r"ERROR\] Reload failed: the old configuration stays")
        assert m.wait_workers(2) == pids
        m.hup(workers=3)  # and mended it works again
        assert not set(m.wait_workers(3)) & set(pids)


def test_a_file_that_is_gone(tmp_path):
    with Master(tmp_path) as m:
        pids = m.wait_workers(1)
        os.unlink(m.config)
        m.signal(signal.SIGHUP)
        m.wait_log("greenicorn.conf: cannot read it: No such file or directory")
        assert m.wait_workers(1) == pids


def test_an_application_that_does_not_load_keeps_the_old_one(tmp_path):
    with Master(tmp_path, app=None, wsgi_app="ok", workers=3) as m:
        pids = m.wait_workers(3)
        for code in (3, 4, 1, 7):
            m.hup(wsgi_app="exit=%d" % code)
            m.wait_log(r"Worker \(pid:\d+\) exited with code %d\." % code)
            wait_for(lambda: m.wait_workers(3) == pids)
        m.wait_log("Reload failed: the old configuration stays", count=4)
        assert len(m.booted()) == 3 + 4  # one try each, not one per worker
        assert app_of(m) == "ok" and m.process.poll() is None
        m.hup(wsgi_app="late=0")
        wait_for(lambda: not set(m.wait_workers(3)) & set(pids))


def test_a_new_application_that_hangs_keeps_the_old_one(tmp_path):
    with Master(tmp_path, app=None, wsgi_app="ok", boot_timeout=1) as m:
        pids = m.wait_workers(1)
        m.hup(wsgi_app="never")
        m.wait_log(r"WORKER TIMEOUT \(pid:\d+\): not ready after 1 s")
        m.wait_log("Reload failed: the old configuration stays", 5)
        assert m.wait_workers(1) == pids


def test_workers_still_die_and_return_after_a_failed_reload(tmp_path):
    with Master(tmp_path, app=None, wsgi_app="ok") as m:
        m.hup(wsgi_app="exit=3")
        m.wait_log("Reload failed")
        (pid,) = m.wait_workers(1)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: m.ready_workers() not in ([], [pid]))
        assert app_of(m) == "ok"


def test_hup_during_a_reload(tmp_path):
    """The second takes over the sockets that the first opened, and those of the running server."""
    new, path = free_port(), "unix:%s" % (tmp_path / "s")
    with Master(tmp_path, app=None, wsgi_app="ok", workers=2, bind=[path]) as m:
        pids = m.wait_workers(2)
        m.hup(wsgi_app="never", bind=[path, "127.0.0.1:%d" % new])
        m.wait_log("Booting worker", count=3)
        m.hup(wsgi_app="late=0", bind=["127.0.0.1:%d" % new])
        wait_for(lambda: not set(m.wait_workers(2)) & set(pids))
        m.port = new
        assert app_of(m) == "late=0"
        wait_for(lambda: not (tmp_path / "s").exists())


def test_hup_twice_during_a_reload_and_back(tmp_path):
    """A reload that is given up for another, which fails: the running server keeps its sockets."""
    path = tmp_path / "s"
    with Master(tmp_path, app=None, wsgi_app="ok", bind=["unix:%s" % path]) as m:
        pids = m.wait_workers(1)
        m.hup(wsgi_app="never")
        m.wait_log("Booting worker", count=2)
        m.hup(wsgi_app="exit=3", bind=["127.0.0.1:%d" % m.port])
        m.wait_log("Reload failed")
        assert m.wait_workers(1) == pids
        with harness.Connection(str(path)) as c:
            c.get()
            assert c.response().status == 200


def test_hup_during_the_first_start(tmp_path):
    with Master(tmp_path, app=None, wsgi_app="never", wait=False) as m:
        m.wait_log("Booting worker")
        m.hup(wsgi_app="ok")
        m.wait_log("Worker ready")
        m.wait_workers(1)
        assert app_of(m) == "ok"


def test_term_during_a_reload(tmp_path):
    with Master(tmp_path, app=None, wsgi_app="ok") as m:
        m.hup(wsgi_app="never")
        m.wait_log("Booting worker", count=2)
        m.signal(signal.SIGTERM)
        assert m.wait_exit() == 0


def test_addresses_change(tmp_path):
    one, two, three = free_port(), free_port(), free_port()
    with Master(tmp_path, bind=["127.0.0.1:%d" % one, "127.0.0.1:%d" % two]) as m:
        pids = m.wait_workers(1)
        m.hup(bind=["127.0.0.1:%d" % two, "127.0.0.1:%d" % three])
        wait_for(lambda: set(m.wait_workers(1)) != set(pids))
        m.port = three
        assert m.about()["fds"]["listen"] == [3, 4]
        m.port = two
        m.about()

        def refused():
            try:
                socket.create_connection(("127.0.0.1", one), 1).close()
            except ConnectionRefusedError:
                return True

        wait_for(refused)


def test_a_new_address_in_use_keeps_the_old_configuration(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s, Master(tmp_path) as m:
        pids = m.wait_workers(1)
        port = s.getsockname()[1]
        m.hup(bind=["127.0.0.1:%d" % m.port, "127.0.0.1:%d" % port])
        m.wait_log("bind: cannot listen on 127.0.0.1:%d: Address already in use" % port)
        m.wait_log("Reload failed")
        assert m.wait_workers(1) == pids
        m.about()


def test_a_unix_socket_that_stays_is_kept(tmp_path):
    path, other = str(tmp_path / "s"), str(tmp_path / "t")
    with Master(tmp_path, bind=["unix:" + path, "unix:" + other]) as m:
        inode = os.stat(path).st_ino
        m.hup(bind=["unix:" + path])
        wait_for(lambda: not os.path.exists(other))
        assert os.stat(path).st_ino == inode
        with harness.Connection(path) as c:
            c.get()
            assert c.response().status == 200


def test_a_failed_reload_leaves_no_socket_behind(tmp_path):
    path = str(tmp_path / "new")
    with Master(tmp_path, app=None, wsgi_app="ok") as m:
        m.hup(wsgi_app="exit=3", bind=["127.0.0.1:%d" % m.port, "unix:" + path])
        m.wait_log("Reload failed")
        wait_for(lambda: not os.path.exists(path))


def test_the_log_follows(tmp_path):
    log = tmp_path / "other.log"
    with Master(tmp_path) as m:
        m.hup(errorlog=str(log), loglevel="debug")
        wait_for(lambda: log.exists() and "DEBUG" in log.read_text())


def test_what_needs_a_restart_says_so(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with Master(tmp_path, proc_name="a") as m:
        m.hup(proc_name="b", chdir=str(tmp_path / "elsewhere"), workers=2)
        m.wait_log(r"WARNING\] .*greenicorn.conf:\d+: proc_name: a restart is needed for the change")
        m.wait_log(r"chdir: a restart is needed for the change")
        m.wait_workers(2)
        assert m.about()["cwd"] == str(tmp_path) and 'proc_name = "a"' in m.about()["settings"]


def test_ttin_is_forgotten(tmp_path):
    with Master(tmp_path) as m:
        m.signal(signal.SIGTTIN)
        m.wait_workers(2)
        m.hup()
        m.wait_log("Worker ready", count=3)
        m.wait_workers(1)
