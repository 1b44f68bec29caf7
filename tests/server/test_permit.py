"""What gunicorn's settings permit_*, casefold_http_method and sendfile permit here, and what even they do not."""

import json

import pytest

from worker_by_hand import serving


@pytest.fixture(scope="module")
def strict():
    with serving("wsgi_cases:app") as w:
        yield w


@pytest.fixture(scope="module")
def lax():
    permitted = dict.fromkeys(
        (
            "permit_obsolete_folding",
            "permit_unconventional_http_method",
            "permit_unconventional_http_version",
            "casefold_http_method",
        ),
        True,
    )
    with serving("wsgi_cases:app", sendfile=False, **permitted) as w:
        yield w


def answer(worker, *lines):
    with worker.connect() as conn:
        conn.send("".join(line + "\r\n" for line in (*lines, "Host: h", "")).encode())
        return conn.response()


def environ(worker, *lines):
    response = answer(worker, *lines)
    assert response.status == 200, response
    return json.loads(response.body)


@pytest.mark.parametrize(
    "lines, status",
    [
        (["get /environ HTTP/1.1"], 400),
        (["GET# /environ HTTP/1.1"], 400),
        (["GET /environ HTTP/2.0"], 505),
        (["GET /environ HTTP/1.1", "A: b", " c"], 400),
    ],
)
def test_not_without_the_setting(strict, lax, lines, status):
    assert answer(strict, *lines).status == status
    assert answer(lax, *lines).status == 200


def test_methods(lax):
    assert environ(lax, "g#t /environ HTTP/1.1")["REQUEST_METHOD"] == "G#T"
    assert environ(lax, "M-%s /environ HTTP/1.1" % ("x" * 40))["REQUEST_METHOD"] == "M-" + "X" * 40
    assert answer(lax, "g(t /environ HTTP/1.1").status == 400


def test_a_method_in_small_letters_does_not_change_what_the_client_waits_for(lax):
    """For a proxy that knows HEAD only, a response to head has a body: one without would take the next one's bytes."""
    assert environ(lax, "head /environ HTTP/1.1")["REQUEST_METHOD"] == "HEAD"


def test_versions(lax):
    with lax.connect() as conn:
        conn.send(b"GET /environ HTTP/3.7\r\nHost: h\r\n\r\n")
        assert json.loads(conn.response().body)["SERVER_PROTOCOL"] == "HTTP/1.1"
        conn.send(b"GET /environ HTTP/0.9\r\nHost: h\r\n\r\n")
        assert json.loads(conn.response().body)["SERVER_PROTOCOL"] == "HTTP/1.0"
        assert conn.is_closed()


def test_folded_fields(lax):
    assert environ(lax, "GET /environ HTTP/1.1", "A: b,", "\tc", "D: e")["HTTP_A"].split() == ["b,", "c"]


@pytest.mark.parametrize("name", ["Transfer-Encoding", "Content-Length", "Connection", "expect", "Content-Type"])
def test_what_frames_a_message_is_not_folded(lax, name):
    value = {"Transfer-Encoding": "chunked", "Content-Length": "0"}.get(name, "x")
    assert answer(lax, "POST /environ HTTP/1.1", name + ":", " " + value).status == 400


def test_a_folded_field_of_a_request_with_a_body(lax):
    """Its buffer grows, and the head is looked at twice."""
    with lax.connect() as conn:
        for _ in range(2):
            conn.send(b"post /environ HTTP/1.1\r\nHost: h\r\nA: b\r\n  c\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
            seen = json.loads(conn.response().body)
            assert seen["REQUEST_METHOD"] == "POST" and seen["HTTP_A"].split() == ["b", "c"]


@pytest.mark.parametrize("start", [0, 12, 199999])
def test_files_without_sendfile(lax, start):
    response = answer(lax, "GET /file?%d HTTP/1.1" % start)
    assert response.body == b"".join(b"%07d\n" % i for i in range(25000))[start:]
    assert response.header("Content-Length") == str(200000 - start)
    assert answer(lax, "GET /file_length HTTP/1.1").body == b"0000000\n0000001\n"
