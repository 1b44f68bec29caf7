"""The module greenicorn: the same cases as requests to a worker and in a plain python3."""

import os
import signal
import subprocess
import sys

import pytest

import harness
from bursts import burst

MODULE = os.path.join(os.path.dirname(os.path.dirname(harness.APPS)), "worker", "python")

sys.path.insert(0, harness.APPS)
sys.path.insert(0, MODULE)
import module_cases  # noqa: E402 - which imports the module

ANYWHERE = [case.__name__ for case in module_cases.ANYWHERE]
WORKERS = [case.__name__ for case in module_cases.WORKERS]


@pytest.fixture(scope="module")
def the_server(tmp_path_factory):
    server = harness.Server(tmp_path_factory.mktemp("module"), "module_cases:app")
    yield server
    server.finish()


@pytest.fixture
def server(the_server):
    pid = the_server.worker()
    yield the_server
    assert the_server.worker() == pid


@pytest.mark.parametrize("case", ANYWHERE + WORKERS)
def test_in_a_worker(server, case):
    assert server.get("/" + case).text == "ok"


@pytest.mark.parametrize("case", ["timeouts_nested", "blocked_in_recv", "blocked_in_lock", "cancel_while_it_waits"])
def test_fifty_requests_at_once(server, case):
    results, _ = burst(server, 50 * ["/" + case], 60)
    assert set(results) == {(200, "ok")}


def test_what_nobody_asked_for_is_logged(server):
    assert server.get("/nobody_asked").text == "ok"
    server.wait_log(r"ERROR\] spawn-\d+ failed, and nobody asked\nTraceback[^[]*nobody asked for this")
    assert "somebody asked for this" not in server.log_text()


def run_plainly(*cases):
    command = [sys.executable, "-B", os.path.join(harness.APPS, "module_cases.py"), *cases]
    env = dict(os.environ, PYTHONPATH=MODULE)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60 * harness.PATIENCE)


def test_in_a_plain_python():
    result = run_plainly(*ANYWHERE)
    assert result.stdout.split() == [word for case in ANYWHERE for word in (case, "ok")], result.stderr
    assert result.returncode == 0
    assert "nobody asked for this" in result.stderr and "somebody asked for this" not in result.stderr


def test_a_plain_python_waits_for_what_it_spawned():
    program = "import greenicorn; greenicorn.spawn(lambda: (greenicorn.sleep(0.1), print('done')))"
    env = dict(os.environ, PYTHONPATH=MODULE)
    command = [sys.executable, "-B", "-c", program]
    assert subprocess.check_output(command, env=env, text=True, timeout=60 * harness.PATIENCE) == "done\n"


def test_spawned_work_outlives_its_request_and_the_stop(serve, tmp_path):
    server = serve("module_cases:app", env={"TEST_FOLDER": str(tmp_path)})
    assert server.get("/outlives").text == "ok"
    server.signal(signal.SIGTERM)
    server.wait_log("Handling signal: term")
    (tmp_path / "go").touch()
    server.process.wait(60 * harness.PATIENCE)
    assert "it is done" in server.log_text()


def test_the_stop_does_not_wait_for_ever(serve):
    server = serve("module_cases:app", graceful_timeout=1)
    assert server.get("/lasts").text == "ok"
    server.finish()
    assert "Worker graceful timeout" in server.log_text()


def test_preloading(serve):
    """There are no green threads where the application is loaded; in the workers there are."""
    server = serve("module_preloaded:app", preload_app=True)
    assert "with preload_app the application is loaded before" in server.get("/").text
    assert server.get("/now").text == "spawned"


def test_spawned_while_the_application_is_loaded(serve):
    server = serve("module_preloaded:app")
    assert server.get("/").text == "spawned"


def test_in_a_query(serve, postgres):
    server = serve("module_cases:app", env={"TEST_DSN": postgres.dsn})
    results, _ = burst(server, 10 * ["/in_a_query"], 60)
    assert set(results) == {(200, "ok")}


def test_children(server):
    assert server.get("/forks").text == "ok"
