"""preload_app: the application is loaded once, in the mold, and the workers are forked from there."""

import concurrent.futures
import json
import os
import re
import signal
import subprocess

import harness
from counting import Clients
from harness import children_of, wait_for
from master_util import Master, status_of


def about(server, path="/"):
    return json.loads(server.get(path, timeout=20).body)


def title(pid):
    try:
        with open("/proc/%d/cmdline" % pid) as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError):  # gone, between the list and here
        return ""


def mold_of(server):
    (pid,) = [pid for pid in children_of(server.process.pid) if " mold " in title(pid)]
    return pid


def workers_of(server):
    return [pid for pid in children_of(server.process.pid) if " worker " in title(pid)]


def wait_workers(server, n, besides=()):
    def there():
        pids = set(workers_of(server))
        said = {int(pid) for pid in re.findall(r"\(pid (\d+)\): ready", server.log_text())}
        return sorted(pids) if len(pids) == n and pids <= said and not pids & set(besides) else None

    return wait_for(there, 30, "%d workers" % n)


def start(serve, app="preloaded", **settings):
    server = serve(app, preload_app=True, wait=False, **settings)
    wait_workers(server, settings.get("workers", 1))
    return server


def test_loaded_once_and_forked(serve):
    server = start(serve, workers=3)
    mold, workers = mold_of(server), workers_of(server)
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: about(server), range(120)))
    assert {a["loaded_by"] for a in answers} == {mold}
    assert {a["pid"] for a in answers} == set(workers)
    assert len({a["random"] for a in answers}) == 120  # forked children do not draw the same
    assert min(a["frozen"] for a in answers) > 1000
    assert all(a["main"] == "MainThread" and "MainThread" in a["threads"] for a in answers)
    assert status_of(mold)["Threads"] == "1"
    assert "preload_app: the application has started" not in server.log_text()


def test_threads_and_signals_in_a_forked_worker(serve):
    server = start(serve)
    pid = about(server)["pid"]
    assert about(server, "/thread")["pid"] == pid
    assert about(server, "/alarm")["signals"] == [[pid, True]]


def test_threads_that_do_not_survive_the_fork_are_named(serve):
    server = start(serve, env={"TEST_THREAD": "1"}, workers=2)
    lines = re.findall(r"WARNING\] preload_app: the application has started 1 threads \((.*)\)", server.log_text())
    assert lines == ["exporter"]
    assert "exporter" not in about(server)["threads"]


def test_a_worker_that_dies_is_forked_again(serve):
    server = start(serve, workers=2)
    mold, (first, second) = mold_of(server), workers_of(server)
    os.kill(first, signal.SIGKILL)
    assert second in wait_workers(server, 2, besides=[first])
    assert mold_of(server) == mold
    server.signal(signal.SIGTTIN)
    wait_workers(server, 3)
    assert about(server)["loaded_by"] == mold


def test_the_molds_death_is_survived(serve):
    server = start(serve, workers=2)
    mold, workers = mold_of(server), workers_of(server)
    os.kill(mold, signal.SIGKILL)
    wait_for(lambda: re.findall("Booting mold with pid", server.log_text())[1:])
    assert workers_of(server) == workers and about(server)["loaded_by"] == mold
    os.kill(workers[0], signal.SIGTERM)
    wait_workers(server, 2, besides=workers[:1])
    assert mold_of(server) != mold


def test_a_reload_makes_a_new_mold_and_loses_nothing(serve):
    server = start(serve, app="reliable", workers=2)
    with Clients(("127.0.0.1", server.port), each=1) as clients:
        for _ in range(3):
            mold, workers = mold_of(server), workers_of(server)
            server.signal(signal.SIGHUP)
            wait_workers(server, 2, besides=workers)
            wait_for(lambda: not os.path.exists("/proc/%d" % mold))
    assert clients.lost == [] and clients.answered > 50


def test_an_application_that_does_not_load(serve, tmp_path):
    """At the first start the end with gunicorn's code; at a reload the old one stays."""
    (tmp_path / "shaky.py").write_text("from preloaded import application\n")
    server = start(serve, app="shaky", workers=2, pythonpath=str(tmp_path))
    mold, workers = mold_of(server), workers_of(server)
    (tmp_path / "shaky.py").write_text("1 / 0\n")
    server.signal(signal.SIGHUP)
    server.wait_log("Reload failed: the old configuration stays")
    assert "ZeroDivisionError" in server.log_text()
    assert workers_of(server) == workers and mold_of(server) == mold
    broken = serve("shaky", preload_app=True, wait=False, pythonpath=str(tmp_path))
    assert broken.process.wait(20 * harness.PATIENCE) == 3
    assert "App failed to load" in broken.log_text() or "Worker failed to boot" in broken.log_text()


def test_a_mold_that_hangs_while_it_loads(serve, tmp_path):
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    server = serve("slow", preload_app=True, wait=False, pythonpath=str(tmp_path), boot_timeout=1)
    server.wait_log(r"WORKER TIMEOUT \(pid:\d+\): not ready after 1 s", count=2)


def test_stop(serve):
    server = start(serve, workers=2)
    pids = children_of(server.process.pid)
    assert len(pids) == 3
    server.signal(signal.SIGTERM)
    assert server.process.wait(10 * harness.PATIENCE) == 0
    wait_for(lambda: not [pid for pid in pids if os.path.exists("/proc/%d" % pid)], 20)


def test_a_master_that_is_killed_leaves_nothing(serve):
    server = start(serve, workers=2)
    pids = children_of(server.process.pid)
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not [pid for pid in pids if os.path.exists("/proc/%d" % pid)], 20)


def test_workers_share_what_was_loaded(serve):
    """PSS for each further worker, of an application with much in its memory."""

    def of_a_worker(preload):
        server = serve("preloaded", preload_app=preload, wait=False, workers=3, env={"TEST_BALLAST": "200000"})
        wait_workers(server, 3)
        for _ in range(10):
            about(server)
        sizes = []
        for pid in workers_of(server):
            with open("/proc/%d/smaps_rollup" % pid) as f:
                sizes.append(int(re.search(r"^Pss: +(\d+)", f.read(), re.M).group(1)))
        return sum(sizes) / len(sizes)

    assert of_a_worker(True) < of_a_worker(False) / 2


# ---- molds that misbehave: fake_worker.py ----


def booted_molds(m):
    return [int(pid) for pid in re.findall(r"Booting mold with pid: (\d+)", m.log_text())]


def test_a_mold_that_names_a_foreign_process(tmp_path):
    """It is not taken for a worker: the master, perhaps root's, would signal it."""
    with subprocess.Popen(["sleep", "600"]) as foreign:
        with Master(tmp_path, app="mold=%d" % foreign.pid, wait=False, preload_app=True) as m:
            m.wait_log("cannot start a worker: No child processes", count=2)
            assert foreign.pid not in m.booted()
        assert foreign.poll() is None
        foreign.kill()


def test_a_mold_that_names_one_worker_twice(tmp_path):
    with Master(tmp_path, app="mold=twice", wait=False, preload_app=True, workers=2) as m:
        m.wait_log("cannot start a worker: Protocol error")
        wait_for(lambda: len(m.booted()) == 2 and set(m.booted()) <= set(m.workers()))
        assert len(set(m.booted())) == 2


def test_a_mold_that_hangs(tmp_path):
    """Given up once, not once for each of the workers that wait for it."""
    with Master(tmp_path, app="mold=hang", wait=False, preload_app=True, workers=3) as m:
        (first,) = wait_for(lambda: booted_molds(m))
        wait_for(lambda: len(booted_molds(m)) == 2, 20)
        assert m.log_text().count("cannot start a worker: Connection timed out") == 1
        assert m.log_text().count("cannot start a worker") == 1
        assert first not in m.workers()


def test_a_mold_that_ends_as_if_all_were_well(tmp_path):
    with Master(tmp_path, app="mold=fork", wait=False, preload_app=True) as m:
        wait_for(lambda: len(m.ready_workers()) == 2)  # the mold and its worker
        (mold,) = booted_molds(m)
        os.kill(mold, signal.SIGTERM)
        m.wait_log(r"The mold \(pid:%d\) has ended" % mold)
        wait_for(lambda: len(booted_molds(m)) == 2)


def test_preloading_is_turned_on_and_off(tmp_path):
    """With each reload; no descriptor of a mold stays behind."""
    with Master(tmp_path, app=None, wsgi_app="mold=fork", workers=2) as m:

        def reload(preload):
            old = set(m.workers())
            m.hup(preload_app=preload)
            wait_for(lambda: not old & set(m.ready_workers()) and len(m.ready_workers()) == 2 + preload)
            wait_for(lambda: not old & set(m.workers()))
            return len(os.listdir("/proc/%d/fd" % m.process.pid))

        counts = [(reload(True), reload(True), reload(False)) for _ in range(5)]
        assert set(counts) == {counts[0]} and counts[0][0] == counts[0][1] == counts[0][2] + 1
