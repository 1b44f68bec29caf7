"""Fixtures of the tests on the real program: see harness.py."""

import os
import stat
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness

UNSTEADY_MAX = 3
unsteady = []  # the reports of first tries that failed


def pytest_sessionstart(session):
    for program in (harness.MASTER, harness.WORKER):
        if not os.access(program, os.X_OK):
            pytest.exit("%s is missing: ./dev build (or set GREENICORN_BUILD)" % program, 2)


@pytest.fixture
def serve(tmp_path):
    """serve(app, **settings) starts a Server in a folder of its own; all are stopped and checked."""
    servers = []

    def start(app="hello:app", **arguments):
        folder = tmp_path / ("server%d" % len(servers))
        folder.mkdir()
        server = harness.Server(folder, app, start=False, **arguments)
        servers.append(server)
        return server.start(arguments.get("wait", True))

    yield start
    failed = None
    for server in servers:
        try:
            server.finish()
        except AssertionError as error:
            failed = failed or error
    if failed:
        raise failed


@pytest.fixture
def server(serve):
    """One worker that serves hello:app."""
    return serve()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    cluster = harness.Postgres(tmp_path_factory.mktemp("postgres"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    redis = harness.Redis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.stop()


@pytest.fixture
def open_path(tmp_path):
    """A folder that nobody can enter: pytest's are 0700."""
    path = tmp_path
    while path != path.parent:
        os.chmod(path, stat.S_IMODE(path.stat().st_mode) | 0o011)
        path = path.parent
    return tmp_path


def pytest_runtest_logreport(report):
    """./dev test gives a test a second try, few tests in a run: a busy machine, or a bug. See below."""
    if report.outcome == "rerun":
        unsteady.append(report)


def pytest_runtest_setup(item):
    if len(unsteady) >= UNSTEADY_MAX:
        item.config.option.reruns = 0


def pytest_terminal_summary(terminalreporter):
    """What was wrong at the first try; what test_drivers.py has measured, when it has."""
    for report in unsteady:
        terminalreporter.write_sep("_", "unsteady: " + report.nodeid)
        report.toterminal(terminalreporter._tw)
    tests = sys.modules.get("test_drivers")
    if tests and tests.RESULTS["rows"]:
        for line in tests.drivers.lines(tests.RESULTS):
            terminalreporter.write_line(line)
