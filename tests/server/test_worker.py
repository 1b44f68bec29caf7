"""The worker's side of the contract with whoever starts it (common/contract.h)."""

import os
import signal
import subprocess
import time

import pytest

from harness import WORKER, wait_for
from worker_by_hand import HandWorker, serving

APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"


def run(*args, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")}
    return subprocess.run([WORKER, *args], capture_output=True, text=True, timeout=20, env={**clean, **env})


def test_started_by_hand_it_says_how_it_is_meant():
    r = run()
    assert r.returncode == 1 and r.stdout == ""
    assert "started without its descriptors" in r.stderr and "greenicorn -w 4" in r.stderr


def test_help_and_version():
    assert run("--help").returncode == 0 and "greenicorn(8)" in run("--help").stdout
    assert run("--version").stdout.startswith("greenicorn-worker (version ")
    r = run("hello:app")
    assert r.returncode == 1 and "unknown argument hello:app" in r.stderr


@pytest.mark.parametrize("pid", ["self", "x", "1"])
def test_broken_environment(pid):
    """For another process, or broken: none of it is ours."""
    r = subprocess.run(
        ["sh", "-c", 'test "$1" = self && set -- $$; export LISTEN_PID=$1 LISTEN_FDS=7; exec "$0"', WORKER, pid],
        capture_output=True, text=True, timeout=20, close_fds=True,
    )  # fmt: skip
    assert r.returncode == 1
    assert "LISTEN_PID" in r.stderr or "started without its descriptors" in r.stderr


def test_ready_state_and_heartbeat():
    with serving() as w:
        row = w.row()
        assert row["pid"] == w.pid and row["state"] == 2
        assert abs(time.monotonic_ns() - row["heartbeat"]) < 3e9
        wait_for(lambda: w.row()["heartbeat"] > row["heartbeat"], 5)


def test_heartbeat_while_the_application_loads(tmp_path):
    (tmp_path / "slow_app.py").write_text("import time\ntime.sleep(2.5)\n" + APP)
    with HandWorker("slow_app:app", pythonpath=str(tmp_path)) as w:
        beats = set()
        while w.row()["state"] != 2:
            beats.add(w.row()["heartbeat"])
            assert len(beats) < 20
            time.sleep(0.1)
        assert len(beats - {0}) >= 3
        w.wait_ready()


def test_counts():
    with serving() as w, w.connect() as conn, w.connect() as other:
        for _ in range(3):
            conn.get("/a")
            conn.response()
        other.get("/sleep?3")
        w.wait_row(connections=2, in_flight=1, served=3)
        other.response()
        w.wait_row(in_flight=0, served=4)


@pytest.mark.parametrize(
    "uri,code,text",
    [
        ("no_such_module:app", 3, "ModuleNotFoundError"),
        ("hello:nothing", 4, "Failed to find attribute 'nothing' in 'hello'."),
        ("harmless:number", 4, "Application object must be callable."),
        ("raises:app", 3, "ZeroDivisionError"),
        ("exits:app", 3, "SystemExit"),
    ],
)
def test_applications_that_do_not_load(tmp_path, uri, code, text):
    (tmp_path / "harmless.py").write_text("number = 1\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(7)\n")
    from harness import APPS

    with HandWorker(uri, pythonpath="%s,%s" % (tmp_path, APPS)) as w:
        assert w.wait() == code
        assert text in w.log()
        assert w.row()["state"] != 2


@pytest.mark.parametrize(
    "settings,text",
    [
        ({"access_log_format": "%(h"}, "access_log_format: "),
        ({"access_log_format": "100%"}, "access_log_format: "),
        ({"accesslog": "/nonexistent/log"}, "accesslog: /nonexistent/log: No such file or directory"),
        ({"errorlog": "/nonexistent/log"}, "errorlog: /nonexistent/log: No such file or directory"),
        ({"chdir": "/nonexistent"}, "chdir: /nonexistent: No such file or directory"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_broken_settings(settings, text):
    with HandWorker("hello:app", **{"accesslog": "-", **settings}) as w:
        assert w.wait() == 1
        assert text in w.log()


def test_the_master_is_gone():
    with serving() as w, w.connect() as conn:
        conn.get("/sleep?2")
        wait_for(lambda: w.row()["in_flight"] == 1)
        w.control.close()
        assert conn.response().body == b"slept\n"
        assert w.wait() == 0
        assert "The master is gone" in w.log()


def test_without_control_and_scoreboard_slot():
    with HandWorker("hello:app", control=False) as w:
        wait_for(lambda: "Worker ready" in w.log(), 30)
        with w.connect() as conn:
            conn.get("/")
            assert conn.response().status == 200


def test_stop_while_loading(tmp_path):
    (tmp_path / "slow_app.py").write_text("import time\ntime.sleep(1)\n" + APP)
    with HandWorker("slow_app:app", pythonpath=str(tmp_path)) as w:
        wait_for(lambda: w.row()["heartbeat"] > 0)
        w.signal(signal.SIGTERM)
        assert w.wait() == 0
        assert "Worker ready" not in w.log()


def test_quick_stop_while_loading(tmp_path):
    (tmp_path / "slow_app.py").write_text("import time\ntime.sleep(60)\n" + APP)
    with HandWorker("slow_app:app", pythonpath=str(tmp_path)) as w:
        wait_for(lambda: w.row()["heartbeat"] > 0)
        w.signal(signal.SIGINT)
        assert w.wait(5) == 0


def test_exit_handler_that_hangs(tmp_path):
    (tmp_path / "hang.py").write_text("import atexit, time\natexit.register(time.sleep, 60)\n" + APP)
    with serving("hang:app", pythonpath=str(tmp_path), graceful_timeout=1) as w:
        w.signal(signal.SIGTERM)
        assert w.wait(10) == 0


def test_environment_and_directory(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "where.py").write_text(
        "import os\nprint(os.getcwd(), os.environ['A'], 'GREENICORN_SLOT' in os.environ, flush=True)\n" + APP
    )
    with serving("where:app", pythonpath="", chdir=str(tmp_path / "sub"), raw_env=["A=b=c"]) as w:
        assert w.output() == "%s b=c False\n" % (tmp_path / "sub")


def test_inherited_descriptors_stay_here(tmp_path):
    """A child that the application runs has none of ours."""
    (tmp_path / "fds.py").write_text(
        "import subprocess\nprint(subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False,"
        " capture_output=True, text=True).stdout, flush=True)\n" + APP
    )
    with serving("fds:app", pythonpath=str(tmp_path)) as w:
        assert "/proc" in w.output()
        assert "memfd" not in w.output() and w.output().count("socket:") == 0


def test_capture_output(tmp_path):
    (tmp_path / "chatty.py").write_text("import os\nprint('to stdout', flush=True)\nos.system('echo from a child')\n" + APP)
    path = tmp_path / "error.log"
    with serving("chatty:app", pythonpath=str(tmp_path), errorlog=str(path), capture_output=True):
        assert "to stdout\n" in path.read_text() and "from a child\n" in path.read_text()
