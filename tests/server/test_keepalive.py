"""A connection's life: reuse, pipelining, idle time, its end, and the worker's end."""

import collections
import select
import signal
import socket
import threading
import time

import pytest

import harness
from harness import Closed, wait_for
from worker_by_hand import serving


@pytest.fixture(scope="module")
def worker():
    with serving() as w:
        yield w


def get(target, *lines):
    return ("GET %s HTTP/1.1\r\nHost: test\r\n" % target + "".join(x + "\r\n" for x in lines) + "\r\n").encode()


def post(target, body, *lines):
    return get(target, "Content-Length: %d" % len(body), *lines).replace(b"GET", b"POST", 1) + body


def fetch(conn, target, *lines):
    conn.send(get(target, *lines))
    return conn.response()


def test_reuse(worker):
    with worker.connect() as conn:
        for i in range(50):
            r = fetch(conn, "/%d" % i)
            assert r.body == b"/%d\n" % i
            assert r.header("Connection") == "keep-alive"


def test_client_asks_to_close(worker):
    with worker.connect() as conn:
        assert fetch(conn, "/a", "Connection: close").header("Connection") == "close"
        assert conn.is_closed()


def test_application_asks_to_close(worker):
    with worker.connect() as conn:
        assert fetch(conn, "/close").header("Connection") == "close"
        assert conn.is_closed()


def test_pipelined_requests_are_answered_in_order(worker):
    """In all shapes: bodies of both kinds between them, a slow one first, more than one buffer."""
    with worker.connect() as conn:
        requests, expected = [get("/sleep?0.2")], [b"slept\n"]
        for i in range(300):
            requests.append(get("/first/%d" % i, "X-Padding: " + "p" * (i % 97)))
            expected.append(b"/first/%d\n" % i)
            requests.append(post("/echo", b"body %d" % i))
            expected.append(b"body %d" % i)
            requests.append(get("/echo", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2\r\n%02d\r\n0\r\n\r\n" % (i % 100))
            expected.append(b"abc%02d" % (i % 100))
        conn.send(b"".join(requests))
        for body in expected:
            assert conn.response().body == body


def test_pipelined_in_odd_pieces(worker):
    data = b"".join(post("/echo", b"%d" % i * 50) for i in range(40))
    with worker.connect() as conn:
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), 131):
            conn.send(data[at : at + 131])
        for i in range(40):
            assert conn.response().body == b"%d" % i * 50


def test_a_body_that_fills_the_buffer_hides_no_request(worker):
    """The next request's bytes come in with a body's last ones, without an edge of their own."""
    with worker.connect() as conn:
        for size in (8000, 12288, 16300, 16384, 20000, 32768, 70000):
            conn.send(post("/echo", b"b" * size) + get("/after"))
            assert conn.response().body == b"b" * size
            assert conn.response().body == b"/after\n"


def test_requests_after_close_are_not_served(worker):
    with worker.connect() as conn:
        conn.send(get("/a", "Connection: close") + get("/b"))
        assert conn.response().body == b"/a\n"
        assert conn.is_closed()


def test_unread_small_body_is_dropped(worker):
    with worker.connect() as conn:
        conn.send(post("/part?3", b"x" * 30000) + get("/next"))
        assert conn.response().body == b"xxx"
        assert conn.response().body == b"/next\n"


def test_unread_large_body_ends_the_connection(worker):
    """But the client, which still sends, can read the response."""
    with worker.connect() as conn:
        conn.send(post("/part?3", b"x" * 1_000_000))
        assert conn.response().body == b"xxx"
        assert conn.is_closed()


def test_unread_body_that_does_not_come(worker):
    """The connection is not held for ever for what the client announced."""
    with worker.connect() as conn:
        conn.send(get("/part?0", "Content-Length: 10"))
        assert conn.response().status == 200
        assert conn.is_closed(10)


def test_half_closed_client_gets_its_answers(worker):
    with worker.connect() as conn:
        conn.send(get("/sleep?0.2") + get("/b"))
        conn.sock.shutdown(socket.SHUT_WR)
        assert conn.response().body == b"slept\n"
        assert conn.response().body == b"/b\n"
        assert conn.is_closed(5)


def test_end_of_input_that_comes_with_the_request(worker):
    """One edge tells of both: the connection must not stay until keepalive is over."""
    for _ in range(20):
        with worker.connect() as conn:
            conn.send(get("/a"))
            conn.sock.shutdown(socket.SHUT_WR)
            assert conn.response().body == b"/a\n"
            assert conn.is_closed(5)


def test_end_of_input_without_a_request(worker):
    for data in (b"", b"GET /half HTTP/1.1\r\nHo"):
        with worker.connect() as conn:
            conn.send(data)
            conn.sock.shutdown(socket.SHUT_WR)
            assert conn.is_closed(5)


def test_end_of_input_in_a_body(worker):
    with worker.connect() as conn:
        conn.send(get("/echo", "Content-Length: 10") + b"12345")
        conn.sock.shutdown(socket.SHUT_WR)
        assert conn.response().status == 400
        assert conn.is_closed(5)


# Time


def test_idle_connection_is_closed():
    with serving(keepalive=1) as w, w.connect() as conn:
        fetch(conn, "/a")
        start = time.monotonic()
        assert conn.is_closed(10)
        assert 0.9 < time.monotonic() - start < 5


def test_each_request_starts_the_idle_time_anew():
    with serving(keepalive=1) as w, w.connect() as conn:
        for _ in range(5):
            assert fetch(conn, "/sleep?0.4").body == b"slept\n"


def test_keepalive_0_closes():
    with serving(keepalive=0) as w, w.connect() as conn:
        assert fetch(conn, "/a").header("Connection") == "close"
        assert conn.is_closed()


# The worker's end


def test_stop_closes_idle_connections():
    with serving() as w, w.connect() as idle, w.connect() as fresh:
        fetch(idle, "/a")
        start = time.monotonic()
        w.signal(signal.SIGTERM)
        assert idle.is_closed() and fresh.is_closed()
        assert w.wait() == 0
        assert time.monotonic() - start < 5
        assert "Worker exiting (pid: %d)" % w.pid in w.log()


def test_stop_answers_what_is_in_flight():
    with serving() as w, w.connect() as conn, w.connect() as idle:
        fetch(idle, "/a")
        conn.send(get("/sleep?2.5") + get("/pipelined"))
        wait_for(lambda: w.row()["in_flight"] == 1)
        w.signal(signal.SIGTERM)
        assert idle.is_closed()
        r = conn.response()
        assert r.body == b"slept\n"
        assert conn.response().header("Connection") == "close"
        assert conn.is_closed()
        assert w.wait() == 0


def test_stop_stops_accepting():
    with serving() as w, w.connect() as conn:
        conn.send(get("/sleep?2.5"))
        wait_for(lambda: w.row()["in_flight"] == 1)
        w.signal(signal.SIGTERM)
        wait_for(lambda: w.row()["state"] == 3)
        with w.connect() as late:  # waits in the kernel: the listener is the master's
            late.send(get("/late"))
            assert conn.response().status == 200
            assert w.wait() == 0
            with pytest.raises((Closed, TimeoutError)):
                late.sock.settimeout(0.5)
                late.response()


def test_requests_on_their_way_at_the_stop_are_answered():
    """Clients that go on as fast as they can see no broken connection, only Connection: close."""
    with serving() as w:
        conns = [w.connect() for _ in range(30)]
        for conn in conns:
            fetch(conn, "/a")
        w.signal(signal.SIGTERM)
        wait_for(lambda: w.row()["state"] == 3)
        for conn in conns:
            conn.send(get("/b"))
        for conn in conns:
            with conn:
                r = conn.response()
                assert r.body == b"/b\n" and r.header("Connection") == "close"
                assert conn.is_closed()
        assert w.wait() == 0


def test_stop_waits_no_longer_than_graceful_timeout():
    with serving(graceful_timeout=1) as w, w.connect() as conn:
        conn.send(get("/sleep?60"))
        wait_for(lambda: w.row()["in_flight"] == 1)
        start = time.monotonic()
        w.signal(signal.SIGTERM)
        assert w.wait() == 0
        assert 0.9 < time.monotonic() - start < 5
        assert "Worker graceful timeout (pid:%d)" % w.pid in w.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop(number):
    with serving() as w, w.connect() as conn, w.connect() as idle:
        fetch(idle, "/a")
        conn.send(get("/sleep?60"))
        wait_for(lambda: w.row()["in_flight"] == 1)
        start = time.monotonic()
        w.signal(number)
        assert w.wait() == 0
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_without_requests_runs_exit_handlers(number):
    with serving() as w, w.connect() as idle:
        fetch(idle, "/a")
        w.signal(number)
        assert idle.is_closed()
        assert w.wait() == 0
        assert "exit handler ran" in w.output()


def test_graceful_stop_runs_exit_handlers():
    with serving() as w:
        w.stop()
        assert "exit handler ran" in w.output()


def test_max_requests():
    with serving(control=False, max_requests=5) as w, w.connect() as conn, w.connect() as other:
        fetch(other, "/0")
        for i in range(3):
            assert fetch(conn, "/%d" % i).header("Connection") == "keep-alive"
        assert fetch(conn, "/last").header("Connection") == "close"
        assert conn.is_closed() and other.is_closed()
        assert w.wait() == 0
        assert "Autorestarting worker after current request." in w.log()


def test_a_worker_under_a_master_asks_to_be_replaced():
    """It serves on until the master has a successor and says TERM."""
    for settings in ({"max_requests": 2}, {"max_worker_age": 1}, {"max_worker_memory": "1m"}):
        with serving(**settings) as w, w.connect() as conn:
            for i in range(5):
                assert fetch(conn, "/%d" % i).header("Connection") == "keep-alive"
            select.select([w.control], [], [], 10 * harness.PATIENCE)
            assert w.control.recv(100) == b"retire"
            assert fetch(conn, "/more").header("Connection") == "keep-alive"
            assert w.log().count("Autorestarting worker ") == 1
            assert not select.select([w.control], [], [], 0)[0]


def test_max_requests_jitter():
    """Between max_requests and max_requests + max_requests_jitter, and not always the same."""
    lives = []
    for _ in range(6):
        with serving(control=False, max_requests=10, max_requests_jitter=90) as w, w.connect() as conn:
            n = 1
            while fetch(conn, "/a").header("Connection") == "keep-alive":
                n += 1
            lives.append(n)
            assert w.wait() == 0
    assert min(lives) >= 10 and max(lives) <= 100
    assert len(set(lives)) > 1


def test_connections_are_shared_between_workers(serve):
    """A burst of long-lived ones does not stay with the worker that happened to be awake."""
    server = serve("serve_cases", workers=4)

    def burst():
        conns = [server.connect() for _ in range(80)]
        pids = collections.Counter()
        for conn in conns:
            with conn:
                pids[fetch(conn, "/pid").body] += 1
        return pids

    # On a busy machine the kernel may leave one of them out for as long as a burst takes.
    bursts = [burst() for _ in range(5)]
    assert any(len(pids) == 4 and max(pids.values()) <= 40 for pids in bursts), bursts


def test_no_request_is_lost_while_workers_are_replaced(serve):
    """By max_requests and by HUP, under clients that never stop asking."""
    server = serve("serve_cases", workers=2, max_requests=150, max_requests_jitter=100)
    failures, done = [], threading.Event()

    def ask():
        try:
            while not done.is_set():
                with server.connect() as conn:
                    while fetch(conn, "/a").header("Connection") == "keep-alive":
                        pass
        except Exception as error:
            failures.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        server.wait_log("Autorestarting worker after current request.", 20, count=10)
        server.signal(signal.SIGHUP)
        server.wait_log("Autorestarting worker after current request.", 20, count=20)
    finally:
        done.set()
        for client in clients:
            client.join()
    assert failures == []
