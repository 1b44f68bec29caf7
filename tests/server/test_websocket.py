"""gunicorn.socket: applications that take the connection over, and those that only look; early hints."""

import os
import resource
import signal
import socket
import time

import pytest
import websocket  # websocket-client

import harness
from harness import wait_for

HANDSHAKE = (
    "GET %s HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
CLOSED = b"\x88\x02\x03\xe8"


def frame(text):
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


@pytest.fixture(scope="module")
def the_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("websocket")
    server = harness.Server(
        folder, "websocket_app:app", accesslog=str(folder / "access.log"), access_log_format="%(r)s %(s)s %(B)s",
        worker_connections=2000, keepalive=1, header_timeout=1, body_timeout=1, send_timeout=1,
    )  # fmt: skip
    yield server
    server.finish()


@pytest.fixture
def server(the_server):
    """After each test the same worker serves, and has as many descriptors as before."""
    before = the_server.get("/descriptors").text, the_server.worker()
    yield the_server
    wait_for(lambda: (the_server.get("/descriptors").text, the_server.worker()) == before, 15, "descriptors closed")


def connect(server, path):
    return websocket.create_connection(
        "ws://127.0.0.1:%d%s" % (server.port, path), timeout=20 * harness.PATIENCE, enable_multithread=False
    )


def access_log(server):
    with open(server.folder + "/access.log") as f:
        return f.read().splitlines()


@pytest.mark.parametrize(
    "path", ["/echo", "/threaded?os", "/threaded?green", "/returns", "/generator", "/fails", "/switch", "/duplicate"]
)
def test_a_real_client(server, path):
    ws = connect(server, path)
    for message in ("hello", "x" * 50000, "äöü"):
        ws.send(message)
        assert ws.recv() == message
    ws.send_close(1000)
    opcode, data = ws.recv_data()
    assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe8")
    try:
        assert ws.sock.recv(1) == b""  # no response behind it, and no keep-alive
    except ConnectionResetError:
        pass  # this client has answered the server's close frame, too, which nobody reads
    ws.shutdown()
    wait_for(lambda: "GET %s HTTP/1.1 101 0" % path in access_log(server), what="the access log")
    assert path == "/fails" or "Error handling request GET %s\n" % path not in server.log_text()


@pytest.mark.skipif(not os.path.isdir(harness.PACKAGES), reason="no packages from PyPI: ./dev test gets them")
@pytest.mark.parametrize("app, path", [("websocket_app:app", "/simple"), ("flask_sock_app:app", "/echo")])
def test_libraries_that_know_gunicorn(serve, app, path):
    """simple-websocket and Flask-Sock, from a virtual environment: their own threads, pings and closing."""
    server = serve(app, virtualenv=harness.PACKAGES)
    for _ in range(2):
        sockets = [connect(server, path) for _ in range(50)]
        for i, ws in enumerate(sockets):
            ws.send("hello %d" % i)
        for i, ws in enumerate(sockets):
            assert ws.recv() == "hello %d" % i
        for ws in sockets:
            ws.close()
    wait_for(lambda: "in flight" not in open("/proc/%d/cmdline" % server.worker()).read(), 20, "the end of the requests")
    assert "Traceback" not in server.log_text()


@pytest.mark.parametrize("path", ["/echo", "/threaded?green", "/switch", "/generator"])
def test_what_comes_with_the_head_is_not_lost(server, path):
    with server.connect() as c:
        c.send((HANDSHAKE % path).encode() + frame(b"at once"))
        assert c.head().status == 101
        assert c._exactly(9) == b"\x81\x07at once"
        c.send(frame(b"later"))
        assert c._exactly(7) == b"\x81\x05later"
        c.send(CLOSE)
        assert c.rest() == CLOSED


def test_a_body_that_is_taken_past_wsgi_input(server):
    with server.connect() as c:
        c.send("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345GET / HTTP/1.1\r\n\r\n")
        assert c.rest() == b"got 12345"  # and what is behind it is no request


def test_no_timeout_ends_it(server):
    ws, slow = connect(server, "/echo"), connect(server, "/flood")
    time.sleep(2.5)  # more than any of the server's
    ws.send("still there")
    assert ws.recv() == "still there"
    assert sum(len(slow.recv()) for _ in range(400)) == 400 * 60000
    ws.close()
    slow.shutdown()


def test_the_client_leaves(server):
    connect(server, "/echo").shutdown()
    connect(server, "/threaded?os").shutdown()
    with server.connect() as c:
        c.send((HANDSHAKE % "/echo").encode() + frame(b"with a relay"))
        assert c.head().status == 101


def test_an_error_after_it_is_logged(server):
    ws = connect(server, "/fails")
    ws.close()
    server.wait_log(r"Error handling request GET /fails\nTraceback(?s:.*?)RuntimeError: after the WebSocket")


def test_a_thread_that_still_receives(server):
    """It does not keep the connection open beyond the request."""
    with server.connect() as c:
        c.send(HANDSHAKE % "/waiting")
        assert c.head().status == 101
        assert c.is_closed(10)
    assert server.get("/waited").text == "[b'']"


def test_closed_by_the_application(server):
    with server.connect() as c:
        c.get("/close")
        assert c.rest() == b""


def test_looking_takes_nothing(server):
    with server.connect() as c:
        for path, status in (("/look", 200), ("/interim", 200), ("/keep", 200), ("/look", 200)):
            c.get(path)
            response = c.response()
            if response.status == 102:
                response = c.response()
            assert response.status == status, response.body
        c.get("/use_kept")
        assert c.response().text == "9"  # EBADF: its request is over
        c.get("/keep_unused")
        assert c.response().text == "ok"
        c.get("/use_kept")
        assert c.response().text == "9"
        c.send(HANDSHAKE % "/refuse")
        assert c.response().status == 403
        c.get("/look")
        assert c.response().text == "still there"


def test_the_client_is_seen_to_be_gone(server):
    with server.connect() as c:
        c.get("/look", close=True)
        c.sock.shutdown(socket.SHUT_WR)
        assert c.response().text in ("gone", "still there")  # it may not have arrived


def test_stop_iteration_by_mistake_is_an_error(server):
    assert server.get("/stop_iteration").status == 500
    server.wait_log(r"Error handling request GET /stop_iteration\nTraceback(?s:.*?)StopIteration")


def test_a_thousand_at_once(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets = [connect(server, "/echo") for _ in range(1000)]
    for turn in range(2):
        for i, ws in enumerate(sockets):
            ws.send("%d %d" % (turn, i))
        for i, ws in enumerate(sockets):
            assert ws.recv() == "%d %d" % (turn, i)
    assert server.get("/look").text == "still there"
    for ws in sockets:
        ws.shutdown()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_stop_waits_for_them_and_then_cuts(serve):
    """They are requests in flight like others: those that end in time are not cut, the rest is named."""
    server = serve("websocket_app:app", graceful_timeout=2)
    sockets = [connect(server, "/echo") for _ in range(25)]
    server.signal(signal.SIGTERM)
    server.wait_log("worker 0 .*stopping")
    sockets[0].send("after TERM")
    assert sockets[0].recv() == "after TERM"
    sockets.pop().close()
    assert server.process.wait(20 * harness.PATIENCE) == 0
    log = server.log_text()
    assert "Worker graceful timeout" in log
    assert log.count("GET /echo (client 127.0.0.1)") == 20 and "Cut off: 4 more requests" in log
    for ws in sockets:
        with pytest.raises((websocket.WebSocketConnectionClosedException, OSError)):
            ws.recv()
        ws.shutdown()


def test_a_reload_leaves_them_where_they_are(serve):
    server = serve("websocket_app:app", graceful_timeout=30)
    old, ws = server.worker(), connect(server, "/echo")
    server.signal(signal.SIGHUP)
    wait_for(lambda: [pid for pid in server.ready_workers() if pid != old], what="a new worker")
    ws.send("old")
    assert ws.recv() == "old"
    new = connect(server, "/echo")
    ws.close()
    wait_for(lambda: old not in server.workers(), what="the end of the old worker")
    new.send("new")
    assert new.recv() == "new"
    new.close()


def test_early_hints(server):
    with server.connect() as c:
        c.get("/hints")
        first, second, last = c.response(), c.response(), c.response()
        assert (first.status, first.reason) == (103, "Early Hints")
        assert first.headers == [("Link", "</style.css>; rel=preload; as=style"), ("X-Bytes", "1")]
        assert (second.status, second.headers) == (103, [("Link", "</script.js>")])
        assert (last.status, last.text) == (200, "done")
        c.get("/hints?late")
        assert [c.response().status for _ in range(3)] == [103, 103, 200]
        c.get("/bad_hints")
        response = c.response()
        assert response.text == "ValueError ValueError ValueError ValueError TypeError TypeError TypeError ValueError"


def test_early_hints_are_not_for_http_1_0(server):
    with server.connect() as c:
        c.send("GET /hints HTTP/1.0\r\n\r\n")
        assert c.rest().startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.skipif(not os.path.isdir(harness.PACKAGES), reason="no packages from PyPI: ./dev test gets them")
def test_a_close_is_answered_by_the_library(serve):
    """simple-websocket wakes the request first, and answers the client's close frame in another thread."""
    server = serve("flask_sock_app:app", virtualenv=harness.PACKAGES)
    for _ in range(30):
        with server.connect() as c:
            c.send(HANDSHAKE % "/echo")
            assert c.head().status == 101
            c.send(frame(b"one"))
            assert c._exactly(5) == b"\x81\x03one"
            c.send(CLOSE)
            assert c.rest() == CLOSED
