"""Each driver, fifty requests at once in one worker: right results, in a fraction of the time of one after another.

What was measured is printed at the end, and left in the build directory for docs/drivers.md.
"""

import json
import os
import platform
import sqlite3

import pytest

import drivers
import harness
from bursts import burst, numbers
from services import Services

N = 50
WAIT = 0.4 if harness.SANITIZED else 0.2
OVERLAP = 3  # at least this many times faster than one after another
RESULTS = {"n": N, "rows": {}}


@pytest.fixture(scope="module")
def services(tmp_path_factory, postgres, redis):
    services = Services(tmp_path_factory.mktemp("services"), WAIT, postgres, redis)
    yield services
    services.stop()


@pytest.fixture(scope="module")
def the_server(tmp_path_factory, services):
    server = harness.Server(tmp_path_factory.mktemp("drivers"), "drivers_app:app", env=services.env)
    RESULTS["python"] = server.get("/version").text
    RESULTS["system"] = platform.freedesktop_os_release()["PRETTY_NAME"].replace("GNU/Linux ", "")
    yield server
    server.finish()
    with open(os.path.join(harness.BUILD, "drivers.json"), "w") as f:
        json.dump(RESULTS, f, indent=1)


@pytest.fixture
def server(the_server):
    """One worker for all tests, the same one and in good health after each."""
    pid = the_server.worker()
    yield the_server
    assert the_server.get("/").text == str(pid)
    assert the_server.worker() == pid


def ask(server, case, first, n):
    """The time of n requests at once, when every answer is right."""
    results, took = burst(server, ["/%s?n=%d" % (case, i) for i in range(first, first + n)])
    assert results == [(200, str(i)) for i in range(first, first + n)], server.log_text()[-8000:]
    return took


def measure(server, case):
    """The time of N at once, and of N pairs one after another by that of a single pair (some wait for each other).

    The first ones of a kind import and connect. A moment of a busy machine is no
    lack of overlap: up to three tries.
    """
    ask(server, case, 1000, 2)
    alone = ask(server, case, 1002, 2)
    for _ in range(3):
        total = ask(server, case, 0, N)
        if total < N * alone / OVERLAP or case in drivers.ONE_AT_A_TIME:
            break
    return total, N * alone


@pytest.mark.parametrize("driver", drivers.DRIVERS, ids=lambda driver: driver.case)
def test_overlaps(server, driver):
    if reason := drivers.missing(driver):
        pytest.skip(reason)
    total, serial = measure(server, driver.case)
    RESULTS["rows"][driver.case] = {"total": total, "serial": serial, "version": drivers.version(driver)}
    if driver.case not in drivers.ONE_AT_A_TIME:
        assert serial > N * WAIT * 0.9
        assert total < serial / OVERLAP


def test_a_connection_that_requests_share(server):
    """Its users wait for its mutex, and libpq for the network, while it is held; others go on."""
    paths = ["/psycopg2_shared?n=%d" % i for i in range(10)] + ["/sleep?n=%d" % i for i in range(10, 60)]
    results, took = burst(server, paths)
    assert results == numbers(60)
    assert took < 50 * WAIT / OVERLAP * harness.PATIENCE


def test_transactions_that_wait_for_a_row(server, postgres):
    psycopg2 = pytest.importorskip("psycopg2")
    connection = psycopg2.connect(postgres.dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE overlap AS SELECT 0 AS total")
        ask(server, "psycopg2_row_lock", 0, N)
        cursor.execute("SELECT total FROM overlap")
        assert cursor.fetchone() == (N,)
        cursor.execute("DROP TABLE overlap")
    connection.close()


def test_sqlite_has_every_row(server):
    ask(server, "sqlite_file", 0, N)
    with sqlite3.connect(server.env["TEST_SQLITE"]) as db:
        assert db.execute("SELECT count(*), count(DISTINCT n) FROM numbers").fetchone() == (N, N)


def test_all_drivers_at_the_same_time(server):
    cases = [driver.case for driver in drivers.DRIVERS if not drivers.missing(driver)]
    pairs = [case for case in cases for _ in range(2)]  # some wait for each other
    paths = ["/%s?n=%d" % (case, 2000 + i) for i, case in enumerate(pairs * 2)]
    results, took = burst(server, paths)
    assert results == [(200, str(2000 + i)) for i in range(len(paths))]
    assert took < len(paths) * WAIT / OVERLAP * harness.PATIENCE
