"""The demonstration of docs/demo, with its own configuration: its page, and runs that overlap."""

import json
import os

import pytest

import harness

DEMO = os.path.join(harness.ROOT, "docs", "demo")
KINDS = ["sleep", "sqlite", "http", "process", "handed"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    server = harness.Server(tmp_path_factory.mktemp("demo"), app="", start=False)
    server.args = ["-c", os.path.join(DEMO, "greenicorn.conf"), "--chdir", DEMO, "--log-level", "debug",
                   "-b", "127.0.0.1:%d" % server.port]  # fmt: skip
    yield server.start()
    server.finish()


def run(demo, n, kind):
    """The events of a run: the starts, the ends, and the last one."""
    response = demo.get("/run?n=%d&kind=%s" % (n, kind), timeout=30)
    assert response.status == 200
    *events, last = [json.loads(line) for line in response.body.splitlines()]
    return [event for event in events if "to" not in event], [event for event in events if "to" in event], last


def test_the_page_shows_the_code_that_waits(demo):
    response = demo.get("/")
    assert response.status == 200
    assert response.header("Content-Type").startswith("text/html")
    assert "time.sleep(SECONDS)" in response.text
    assert "Worker %d." % demo.worker() in response.text
    for outside in ("http://", "https://", " src="):
        assert outside not in response.text.replace("http://%s", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_overlaps_and_tells_each_start_and_end(demo, kind):
    n = 50
    starts, ends, last = run(demo, n, kind)
    assert [event["i"] for event in starts] == list(range(n))
    assert sorted(event["i"] for event in ends) == list(range(n))
    began = {event["i"]: event["from"] for event in starts}
    for event in ends:
        assert event["ok"], event
        assert event["from"] == began[event["i"]] < event["to"] <= last["total"]
    # The first one is answered only after the last one was sent: all were there at once.
    assert max(event["from"] for event in starts) < min(event["to"] for event in ends)
    assert 0.5 <= last["total"] < n * 0.5 / 10 * harness.PATIENCE
    assert last["pid"] == demo.worker()
    assert (last["processes"], last["threads"]) == (1, 1)


def test_events_come_as_they_happen(demo):
    """The starts are there before any request is answered: the client's clock is not asked."""
    with demo.connect() as client:
        client.get("/run?n=10", close=True)
        client.head()
        seen = client._until(b'"i": 9')
        assert b'"to"' not in seen
        assert client.rest().count(b'"to"') == 10


@pytest.mark.parametrize("kind, n", [("sleep", 500), ("http", 500)])
def test_the_most_that_it_allows(demo, kind, n):
    _, ends, last = run(demo, n, kind)
    assert [event["ok"] for event in ends] == [True] * n
    assert last["total"] < n * 0.5 / 10


@pytest.mark.parametrize("query", ["n=0", "n=501", "n=-1", "kind=unknown"])
def test_what_it_refuses(demo, query):
    assert demo.get("/run?" + query).status == 400


def test_an_odd_one_gets_a_partner(demo):
    _, ends, _ = run(demo, 3, "handed")
    assert [event["ok"] for event in ends] == [True] * 4


def test_a_browser_that_goes_away(demo):
    with demo.connect() as client:
        client.get("/run?n=100")
        client.head()
    assert run(demo, 10, "sleep")[2]["total"] < 5
