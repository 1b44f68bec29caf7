"""What one request sets is not seen by another, neither beside it nor after it on the same thread."""

import ast

import pytest

from test_overlap import burst, numbers

N = 50


@pytest.fixture
def server(serve):
    return serve("state_app:app")


def test_nothing_is_seen_by_requests_beside(server):
    for path in server.get("/states").text.split():
        results, _ = burst(server, ["%s?n=%d" % (path, i) for i in range(N)])
        assert (path, results) == (path, numbers(N)), server.log_text()[-2000:]


def test_kinds_of_state_beside_each_other(server):
    paths = server.get("/states").text.split()
    results, _ = burst(server, ["%s?n=%d" % (paths[i % len(paths)], i) for i in range(3 * N)])
    assert results == numbers(3 * N), server.log_text()[-2000:]


def found(server, path):
    return ast.literal_eval(server.get(path).text)


NOTHING = {
    "variable": "nobody's",
    "prec": 28,
    "exception": "None",
    "trace": "None",
    "loop": "None",
}


def test_nothing_is_seen_by_the_next_request_of_a_thread(server):
    first = found(server, "/leave")
    assert server.get("/leave_and_fail").status == 500
    second = found(server, "/look")
    assert second["thread"] == first["thread"]
    assert {name: second[name] for name in NOTHING} == NOTHING


def test_a_thread_local_lasts_as_long_as_its_thread(server):
    """As under gunicorn's sync and gthread workers: caches of connections live there."""
    assert [found(server, "/leave")["local"] for _ in range(4)] == [None, 1, 2, 3]


def test_a_context_that_is_not_left_is_gone(server):
    found(server, "/leave_context")
    assert found(server, "/look")["variable"] == "nobody's"
    server.wait_log("The request left its context changed")
