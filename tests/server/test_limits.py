"""What a client may send and hold: sizes, times, connections, descriptors, memory."""

import resource
import socket
import time

import pytest

from harness import SANITIZED, Closed, wait_for
from worker_by_hand import serving


def get(target, *lines):
    return ("GET %s HTTP/1.1\r\nHost: test\r\n" % target + "".join(x + "\r\n" for x in lines) + "\r\n").encode()


def fetch(conn, target, *lines):
    conn.send(get(target, *lines))
    return conn.response()


def status_of(worker, data):
    with worker.connect() as conn:
        conn.send(data)
        r = conn.response()
        if r.status >= 400:
            assert r.header("Connection") == "close" and conn.is_closed()
        return r.status


# Sizes. A line's length is counted without its CRLF.


@pytest.fixture(scope="module")
def defaults():
    with serving() as w:
        yield w


LINE = "GET / HTTP/1.1"


@pytest.mark.parametrize("length,status", [(4094, 200), (4095, 414), (9000, 414), (200_000, 414)])
def test_request_line(defaults, length, status):
    assert status_of(defaults, get("/" + "a" * (length - len(LINE)))) == status


def test_request_line_without_end(defaults):
    """Refused as soon as it is too long, not when its end comes."""
    assert status_of(defaults, b"GET /" + b"a" * 5000) == 414


@pytest.mark.parametrize("length,status", [(8190, 200), (8191, 431), (100_000, 431)])
def test_field_size(defaults, length, status):
    assert status_of(defaults, get("/", "X: " + "a" * (length - 3))) == status


@pytest.mark.parametrize("n,status", [(100, 200), (101, 431), (5000, 431)])
def test_number_of_fields(defaults, n, status):
    assert status_of(defaults, get("/", *["X-%d: y" % i for i in range(n - 1)])) == status


def test_largest_head(defaults):
    """Far beyond the first buffer, with a body behind it and a request behind that."""
    with defaults.connect() as conn:
        fields = ["X-%02d: %s" % (i, "a" * 8184) for i in range(30)]
        data = get("/echo", "Content-Length: 5", *fields) + b"hello" + get("/next")
        for at in range(0, len(data), 50_000):
            conn.send(data[at : at + 50_000])
        assert conn.response().body == b"hello"
        assert conn.response().body == b"/next\n"


def test_limits_as_set():
    with serving(limit_request_line=50, limit_request_fields=3, limit_request_field_size=20) as w:
        assert status_of(w, get("/" + "a" * (50 - len(LINE)))) == 200
        assert status_of(w, get("/" + "a" * (51 - len(LINE)))) == 414
        assert status_of(w, get("/", "A: b", "C: d")) == 200
        assert status_of(w, get("/", "A: b", "C: d", "E: f")) == 431
        assert status_of(w, get("/", "A: " + "b" * 17)) == 200
        assert status_of(w, get("/", "A: " + "b" * 18)) == 431


def test_no_limit_is_a_mebibyte():
    """gunicorn's 0."""
    with serving(limit_request_line=0, limit_request_field_size=0) as w:
        assert status_of(w, get("/" + "a" * 100_000)) == 200
        assert status_of(w, get("/", "A: " + "b" * 100_000)) == 200
        assert status_of(w, get("/" + "a" * (1 << 20))) == 414
        assert status_of(w, get("/", "A: " + "b" * (1 << 20))) == 431


def test_host_may_be_missing_when_so_set():
    data = b"GET / HTTP/1.1\r\n\r\n"
    with serving(require_host=False) as w:
        assert status_of(w, data) == 200


# Times


@pytest.fixture(scope="module")
def hasty():
    with serving(header_timeout=1, body_timeout=1, send_timeout=1) as w:
        yield w


def test_slow_head(hasty):
    """408, however steadily bytes drop in: the limit is on the whole head."""
    with hasty.connect() as conn:
        start = time.monotonic()
        conn.send(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(100):
                time.sleep(0.1)
                conn.send(b"X: y\r\n")
                if time.monotonic() - start > 1.5:
                    r = conn.response()
                    assert r.status == 408 and r.header("Connection") == "close"
                    raise OSError("closed, as it should be")
        assert 0.9 < time.monotonic() - start < 5


def test_slow_second_head(hasty):
    with hasty.connect() as conn:
        conn.send(get("/a") + b"GET /b")
        assert conn.response().body == b"/a\n"
        assert conn.response().status == 408
        assert conn.is_closed()


def test_silent_connection_is_closed_without_a_word(hasty):
    with hasty.connect() as conn:
        start = time.monotonic()
        assert conn.is_closed()
        assert 0.9 < time.monotonic() - start < 5


def test_idle_connection_is_not_subject_to_header_timeout(hasty):
    with hasty.connect() as conn:
        fetch(conn, "/a")
        time.sleep(1.5)
        assert fetch(conn, "/b").body == b"/b\n"


def test_slow_body(hasty):
    with hasty.connect() as conn:
        conn.send(get("/echo", "Content-Length: 5") + b"he")
        assert conn.response().status == 408
        assert conn.is_closed()


# Connections


def test_worker_connections():
    """The fourth waits in the kernel until one of three is closed, then it is served."""
    with serving(worker_connections=3) as w:
        conns = [w.connect() for _ in range(4)]
        for conn in conns[:3]:
            fetch(conn, "/a")
        conns[3].send(get("/fourth"))
        w.wait_row(connections=3)
        conns[3].sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            conns[3].response()
        conns[0].close()
        conns[3].sock.settimeout(10)
        assert conns[3].response().body == b"/fourth\n"
        for conn in conns[1:]:
            conn.close()


def test_full_worker_does_not_spin():
    with serving(worker_connections=1) as w, w.connect() as first, w.connect() as second:
        fetch(first, "/a")
        second.send(get("/b"))
        before = w.cpu()
        time.sleep(1)
        assert w.cpu() - before < 0.3
        first.close()
        assert second.response().body == b"/b\n"


def test_many_short_connections_at_the_limit():
    with serving(worker_connections=4) as w:
        for _ in range(10):
            conns = [w.connect() for _ in range(20)]
            for i, conn in enumerate(conns):
                conn.send(get("/%d" % i, "Connection: close"))
            for i, conn in enumerate(conns):
                with conn:
                    assert conn.response().body == b"/%d\n" % i


def test_out_of_descriptors():
    """The worker says so now and then, keeps serving what it has, and goes on when there are some."""
    with serving() as w:
        with w.connect() as first:
            fetch(first, "/a")
            resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (40, 40))
            before = w.cpu()
            conns = [w.connect() for _ in range(60)]
            wait_for(lambda: "accept: Too many open files" in w.log())
            time.sleep(1.2)
            assert fetch(first, "/b").body == b"/b\n"
            assert 1 <= w.log().count("accept: Too many open files") <= 4
            assert w.cpu() - before < 0.6
            for conn in conns:
                conn.close()
        with w.connect() as conn:
            assert fetch(conn, "/c").body == b"/c\n"


def test_more_requests_than_threads_can_be_made():
    """A limit on tasks: requests queue for the green threads that there are."""
    with serving(stack_size="512m") as w:
        with w.connect() as conn:
            fetch(conn, "/a")
        room = w.address_space() + (5 << 30)
        resource.prlimit(w.pid, resource.RLIMIT_AS, (room, room))
        conns = [w.connect() for _ in range(100)]
        for conn in conns:
            conn.send(get("/sleep?0.1"))
        for conn in conns:
            with conn:
                assert conn.response().body == b"slept\n"


def test_idle_connections_cost_little():
    """At most 1.5 kB each: 15 MB for ten thousand. (A sanitizer takes more for itself.)"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = min(10_000, hard - 500)
    conns = []
    try:
        with serving(worker_connections=20_000) as w:
            with w.connect() as warm:
                fetch(warm, "/a")
            before = w.memory()
            for _ in range(n):
                conns.append(w.connect())
                fetch(conns[-1], "/a")
            w.wait_row(connections=n)
            used = w.memory() - before
            assert SANITIZED or used < n * 1500, "%d bytes each" % (used / n)
            assert fetch(conns[0], "/still").body == b"/still\n"
            for conn in conns:
                conn.close()
            w.wait_row(connections=0)
    finally:
        for conn in conns:
            conn.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_reset():
    with serving() as w:
        for i in range(200):
            with w.connect() as conn:
                conn.send(get("/sleep?0.01") if i % 2 else b"GET /half")
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        w.wait_row(connections=0, in_flight=0)
        with w.connect() as conn:
            assert fetch(conn, "/a").body == b"/a\n"


def test_lingering_is_bounded():
    """A client that goes on sending after its error is cut off."""
    with serving() as w, w.connect() as conn:
        conn.send(b"BAD\r\n\r\n")
        assert conn.response().status == 400
        start = time.monotonic()
        with pytest.raises((Closed, OSError)):
            while time.monotonic() - start < 15:
                conn.send(b"z" * 1000)
                time.sleep(0.02)
        assert time.monotonic() - start < 6
        w.wait_row(connections=0)
