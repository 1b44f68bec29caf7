"""Master and real workers together: what each promises the other."""

import os
import pwd
import signal
import stat

import pytest

import harness
from harness import wait_for
from master_util import status_of

APP = """
import os, time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/spin":
        while True:
            pass
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1)
    body = ("%s %d" % (os.environ.get("COLOUR"), os.getpid())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    path = tmp_path
    while path != path.parent:  # pytest's folders are 0700, workers may be somebody else
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode | 0o055 != mode:
            os.chmod(path, mode | 0o055)
        path = path.parent
    return tmp_path


def test_workers_are_named_after_the_application(serve, folder):
    server = serve("shop:app", chdir=str(folder), workers=2)
    for pid in server.workers():
        with open("/proc/%d/cmdline" % pid) as f:
            assert f.read().strip("\0") == "greenicorn: worker [shop:app]"


@pytest.mark.parametrize("preload", [False, True])
def test_the_title_says_how_many_requests_are_in_flight(serve, preload):
    server = serve("faulty", proc_name="shop", preload_app=preload)

    def titles():
        found = set()
        for pid in server.workers():
            with open("/proc/%d/cmdline" % pid) as f:
                found.add(f.read().strip("\0"))
        return found - {"greenicorn: mold [shop]"}

    with server.connect() as one, server.connect() as two:
        for line in (one, two):
            line.get("/sleep?%d" % (5 * harness.PATIENCE))
        wait_for(lambda: titles() == {"greenicorn: worker [shop] 2 in flight"}, 20)
        assert one.response().status == two.response().status == 200
    wait_for(lambda: titles() == {"greenicorn: worker [shop]"}, 30)


@pytest.mark.parametrize(
    "app, code, reason",
    [
        ("nothing:app", 3, "Worker failed to boot."),
        ("shop:nothing", 4, "App failed to load."),
        ("shop:__name__", 4, "App failed to load."),
    ],
)
def test_an_application_that_cannot_be_loaded(serve, folder, app, code, reason):
    server = serve(app, chdir=str(folder), workers=2, wait=False)
    assert server.process.wait(20) == code
    log = server.log_text()
    assert "exited with code %d." % code in log and "Reason: " + reason in log
    assert "Traceback" in log or "nothing" in log or "callable" in log


def test_a_reload_takes_new_code_and_refuses_broken_code(serve, folder):
    server = serve("shop:app", chdir=str(folder), workers=2, raw_env=["COLOUR=red"])
    old = server.workers()
    assert server.get().text.startswith("red ")
    (folder / "shop.py").write_text("broken(")
    server.signal(signal.SIGHUP)
    server.wait_log("SyntaxError")
    server.wait_log("Reload failed: the old configuration stays")
    wait_for(lambda: server.workers() == old)
    assert server.get().text.startswith("red ")
    (folder / "shop.py").write_text(APP)
    server.write_config(raw_env=["COLOUR=blue"])
    server.signal(signal.SIGHUP)
    wait_for(lambda: not set(old) & set(server.workers()))
    assert server.get().text.startswith("blue ")


def test_a_request_outlives_a_reload(serve, folder):
    server = serve("shop:app", chdir=str(folder))
    pid = server.worker()
    with server.connect() as c:
        c.get("/slow")
        server.signal(signal.SIGHUP)
        assert c.response().text == "None %d" % pid
    wait_for(lambda: pid not in server.workers())


def test_a_worker_that_spins_is_killed(serve, folder):
    server = serve("shop:app", chdir=str(folder), timeout=2)
    pid = server.worker()
    with server.connect() as c:
        c.get("/spin")
        server.wait_log(r"CRITICAL\] WORKER TIMEOUT \(pid:%d\)" % pid, 10)
        wait_for(lambda: server.ready_workers() not in ([], [pid]), 20)
    assert server.get().status == 200
    assert 'in app' in server.log_text()  # where it was spinning
    open(server.log, "w").close()  # the abort was asked for


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_workers_serve_without_root(serve, folder):
    nobody = pwd.getpwnam("nobody")
    server = serve("shop:app", chdir=str(folder), user="nobody", accesslog=str(folder / "access.log"))
    assert server.get().status == 200
    status = status_of(server.worker())
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert status["Groups"].split() == [] and int(status["CapEff"], 16) == 0
    wait_for(lambda: "GET / HTTP/1.1" in (folder / "access.log").read_text())
    (folder / "access.log").rename(folder / "access.log.1")
    os.chmod(folder, 0o777)  # where a log may be made again
    server.signal(signal.SIGUSR1)
    wait_for(lambda: (folder / "access.log").exists())
    assert server.get().status == 200


def test_workers_finish_when_the_master_is_killed(serve, folder):
    server = serve("shop:app", chdir=str(folder), workers=2)
    pids = server.workers()
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids), 15)
