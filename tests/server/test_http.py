"""HTTP/1.x as it is seen on the conn, against one worker."""

import collections
import random
import re
import socket
import threading
import time

import pytest

from harness import Closed, wait_for
from worker_by_hand import serving


@pytest.fixture(scope="module")
def worker():
    with serving() as w:
        yield w


@pytest.fixture
def conn(worker):
    with worker.connect() as conn:
        yield conn


def request(method, target, *lines, version="1.1", body=b""):
    """A request's bytes, with a Host field."""
    head = "%s %s HTTP/%s\r\n" % (method, target, version)
    head += "".join(line + "\r\n" for line in ("Host: test",) + lines)
    return head.encode("latin-1") + b"\r\n" + body


def fetch(conn, target):
    conn.send(request("GET", target))
    return conn.response()


def test_head_of_a_response(conn):
    r = fetch(conn, "/x?y=1")
    assert (r.version, r.status, r.reason) == ("HTTP/1.1", 200, "OK")
    assert r.body == b"/x?y=1\n"
    assert r.header("server") == "greenicorn"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", r.header("date"))
    assert r.header("content-length") == "7"


def test_http10_closes(conn):
    conn.send(request("GET", "/a", version="1.0"))
    r = conn.response()
    assert r.status == 200 and r.body == b"/a\n"
    assert r.header("connection") == "close"
    assert conn.is_closed()


def test_http10_keeps_alive_when_asked(conn):
    for target in ("/a", "/b"):
        conn.send(request("GET", target, "Connection: keep-alive", version="1.0"))
        r = conn.response()
        assert r.body == target.encode() + b"\n"
        assert r.header("connection") == "keep-alive"


def test_http10_gets_no_chunks(conn):
    conn.send(request("GET", "/stream?2", version="1.0"))
    r = conn.response()
    assert r.header("transfer-encoding") is None
    assert r.body == b"x" * 131072


def test_http10_without_host(conn):
    conn.send("GET /old HTTP/1.0\r\n\r\n")
    assert conn.response().body == b"/old\n"


def test_unknown_length_is_chunked(conn):
    r = fetch(conn, "/stream?3")
    assert r.header("transfer-encoding") == "chunked"
    assert r.body == b"x" * 3 * 65536
    assert fetch(conn, "/next").body == b"/next\n"


def test_head_request_has_no_body(conn):
    conn.send(request("HEAD", "/big?1000") + request("GET", "/next"))
    r = conn.response("HEAD")
    assert r.status == 200 and r.header("content-length") == "1000"
    assert conn.response().body == b"/next\n"


def test_204_has_no_body(conn):
    r = fetch(conn, "/no_content")
    assert r.status == 204
    assert r.header("content-length") is None and r.header("transfer-encoding") is None
    assert fetch(conn, "/next").body == b"/next\n"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "M-SEARCH"])
def test_methods(conn, method):
    conn.send(request(method, "/method"))
    assert conn.response().body == method.encode()


def test_byte_by_byte(conn):
    data = request("POST", "/echo", "Content-Length: 5", body=b"hello") * 2
    for i in range(len(data)):
        conn.send(data[i : i + 1])
    assert conn.response().body == b"hello"
    assert conn.response().body == b"hello"


def test_large_body(conn):
    body = random.Random(1).randbytes(5_000_000)
    sender = threading.Thread(
        target=conn.send, args=(request("POST", "/echo", "Content-Length: %d" % len(body), body=body),)
    )
    sender.start()
    r = conn.response()
    sender.join()
    assert r.body == body
    assert fetch(conn, "/next").body == b"/next\n"


def test_chunked_body(conn):
    body = b"5;x=y\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n"
    conn.send(request("POST", "/echo", "Transfer-Encoding: chunked", body=body) + request("GET", "/next"))
    assert conn.response().body == b"hello 0123456789"
    assert conn.response().body == b"/next\n"


def test_expect_continue(conn):
    conn.send(request("POST", "/echo", "Content-Length: 3", "Expect: 100-continue"))
    assert conn.response().status == 100
    conn.send(b"abc")
    assert conn.response().body == b"abc"
    assert fetch(conn, "/next").body == b"/next\n"


def test_expect_with_the_body_at_once(conn):
    conn.send(request("POST", "/echo", "Content-Length: 3", "Expect: 100-continue", body=b"abc"))
    assert conn.response().body == b"abc"


def test_expect_and_the_application_does_not_read(conn):
    """No 100: the client does not know whether to send, so the connection ends."""
    conn.send(request("POST", "/part?0", "Content-Length: 3", "Expect: 100-continue"))
    assert conn.response().status == 200
    assert conn.is_closed()


def test_unknown_expectation(conn):
    conn.send(request("POST", "/echo", "Content-Length: 3", "Expect: 200-ok", body=b"abc"))
    assert conn.response().status == 417
    assert conn.is_closed()


def test_peer(worker, conn):
    host, port = conn.sock.getsockname()
    server = worker.listener.getsockname()
    expected = " ".join(repr(x) for x in (host, str(port), server[0], str(server[1]), "http"))
    assert fetch(conn, "/peer").body.decode() == expected


def test_peer_over_ipv6():
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with serving(listen=listener) as w, w.connect() as conn:
        host, port, *_ = conn.sock.getsockname()
        assert fetch(conn, "/peer").body.decode().startswith("'::1' '%d' '::1'" % port)


def test_unix_socket(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    with serving(listen=listener) as w:
        with w.connect() as conn:
            assert fetch(conn, "/a").body == b"/a\n"
            assert fetch(conn, "/peer").body.decode().startswith("'' ")


def test_application_fails(worker, conn):
    r = fetch(conn, "/fail")
    assert r.status == 500
    assert r.header("connection") == "close"
    assert conn.is_closed()
    assert "RuntimeError: as asked" in worker.log()


def test_application_fails_late(conn):
    """The head has left: only the missing end of the body tells the client."""
    with pytest.raises(Closed):
        fetch(conn, "/fail_late")


def test_body_shorter_than_announced(worker, conn):
    with pytest.raises(Closed):
        fetch(conn, "/cut")
    wait_for(lambda: "GET /cut: the response is shorter than its Content-Length says" in worker.log())


def test_requests_overlap(worker):
    conns = [worker.connect() for _ in range(100)]
    start = time.monotonic()
    for w in conns:
        w.send(request("GET", "/sleep?0.3"))
    for w in conns:
        with w:
            assert w.response().body == b"slept\n"
    assert time.monotonic() - start < 5  # one by one: 30 s


def test_forked_child_has_its_own_signals(conn):
    assert fetch(conn, "/child").body == b"-15"
    assert fetch(conn, "/next").body == b"/next\n"


# Broken requests: the answer is one error and the end of the connection. The head's own
# rules have their table in tests/unit/test_http_request.c.

HOST = "Host: test\r\n"
BROKEN = [
    ("GET /\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\n" + HOST + "\r\n", 400),
    ("GET / HTTP/1.1\n" + HOST + "\r\n", 400),
    ("GET / HTTP/1.1\r\n" + HOST + "A: b\n\r\n", 400),
    ("GET / HTTP/1.1\r\n" + HOST + "A : b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n" + HOST + "A: b\r\n c\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n" + HOST + "A: b\0c\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n" + HOST + HOST + "\r\n", 400),
    ("GET / HTTP/2.0\r\n" + HOST + "\r\n", 505),
    ("POST / HTTP/1.1\r\n" + HOST + "Content-Length: +5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\n" + HOST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\n" + HOST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", None),
    ("POST / HTTP/1.0\r\n" + HOST + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 100, 400),
]


@pytest.mark.parametrize("data,status", BROKEN)
def test_broken_head(worker, conn, data, status):
    smuggled = request("GET", "/smuggled")
    conn.send(data.encode("latin-1") + smuggled)
    r = conn.response()
    assert 400 <= r.status <= 505 and (status is None or r.status == status)
    assert r.header("connection") == "close"
    assert conn.is_closed()
    assert "Invalid request from ip=127.0.0.1: " in worker.log()


@pytest.mark.parametrize(
    "body", ["5\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5\r\nhello!!0\r\n\r\n", "-1\r\n", "5;\0\r\nhello\r\n"]
)
def test_broken_chunks(conn, body):
    data = request("POST", "/echo", "Transfer-Encoding: chunked", body=body.encode())
    conn.send(data + request("GET", "/smuggled"))
    r = conn.response()
    assert r.status == 400
    assert conn.is_closed()


def test_a_refused_upload_can_be_read_by_the_client(conn):
    """The client sends on after our error: closing at once would reset the connection under it."""
    conn.send("POST / HTTP/1.1\r\n" + HOST + "Content-Length: x\r\n\r\n")
    for _ in range(20):
        conn.send(b"z" * 10000)
    assert conn.response().status == 400
    assert conn.is_closed()


SEEDS = [
    request("GET", "/a?b=c", "Accept: */*", "X-Y: z"),
    request("POST", "/echo", "Content-Length: 5", body=b"hello"),
    request("POST", "/echo", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    request("PUT", "/part?2", "Expect: 100-continue", "Content-Length: 4", body=b"1234"),
    request("HEAD", "/big?100", "Connection: close", version="1.0"),
]


def mutate(rng):
    data = bytearray(b"".join(rng.choices(SEEDS, k=rng.randint(1, 3))))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 10)]
            case 2:
                data[at:at] = rng.choice([b"\r", b"\n", b"\0", b" ", b"\r\n\r\n", b":", b"\xff" * 9])
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 60)]
            case 4:
                data = data[: at + 1]
        if not data:
            break
    return bytes(data)


def test_mutated_requests_do_no_harm(worker):
    rng, answers = random.Random(20261123), collections.Counter()
    for _ in range(3000):
        data = mutate(rng)
        with worker.connect() as conn:
            try:
                for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                    conn.send(part)
                conn.sock.shutdown(socket.SHUT_WR)
                answer = conn.rest()
            except OSError:
                continue  # refused in the middle
            assert answer == b"" or answer.startswith(b"HTTP/1."), data
            answers[answer[9:12]] += 1
    assert answers[b"200"] > 100 and answers[b"400"] > 100, answers
    with worker.connect() as conn:
        assert int(fetch(conn, "/pid").body) == worker.pid
    worker.wait_row(20, in_flight=0, connections=0)
