"""A slow client stops its own response, and nothing else."""

import socket
import time

import pytest

from harness import Closed, wait_for
from worker_by_hand import serving

MIB = 1 << 20


@pytest.fixture(scope="module")
def worker():
    with serving() as w:
        yield w


def get(target, *lines):
    return ("GET %s HTTP/1.1\r\nHost: test\r\n" % target + "".join(x + "\r\n" for x in lines) + "\r\n").encode()


def fetch(conn, target):
    conn.send(get(target))
    return conn.response()


def reset(conn):
    """Close so that the server sees a reset."""
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    conn.close()


def count_body(conn, size):
    """Read that many bytes after the head, chunk sizes not counted, without keeping them."""
    conn.head()
    got = conn.buffer.count(b"x")
    conn.buffer = b""
    while got < size:
        data = conn.sock.recv(1 << 20)
        assert data, "closed after %d of %d bytes" % (got, size)
        got += data.count(b"x")
    assert got == size


@pytest.mark.parametrize("target,size", [("/stream?1600", 1600 * 65536), ("/big?100000000", 100_000_000)])
def test_slow_reader(worker, target, size):
    """Others are served meanwhile, nothing piles up in the worker, and it gets every byte at last."""
    with worker.connect() as slow, worker.connect() as other:
        fetch(other, "/a")
        slow.send(get(target))
        wait_for(lambda: worker.row()["in_flight"] == 1)
        before = worker.memory()
        for _ in range(20):
            start = time.monotonic()
            assert fetch(other, "/b").body == b"/b\n"
            assert time.monotonic() - start < 1
        assert worker.memory() < before + 20 * MIB + (size if "big" in target else 0)
        worker.wait_row(in_flight=1)  # the other one may still be being counted
        count_body(slow, size)


def test_many_slow_readers_and_no_processor_time(worker):
    conns = [worker.connect() for _ in range(50)]
    for conn in conns:
        conn.send(get("/stream?1600"))
    worker.wait_row(in_flight=50)
    before = worker.cpu()
    time.sleep(1)
    assert worker.cpu() - before < 0.3
    with worker.connect() as other:
        assert fetch(other, "/b").body == b"/b\n"
    for conn in conns:
        reset(conn)
    worker.wait_row(in_flight=0, connections=0)


@pytest.mark.parametrize("target", ["/stream?1600", "/big?50000000", "/sleep?2"])
def test_client_disappears(worker, target):
    for end in (reset, lambda conn: conn.close()):
        conn = worker.connect()
        conn.send(get(target))
        wait_for(lambda: worker.row()["in_flight"] == 1)
        end(conn)
        worker.wait_row(in_flight=0, connections=0)
    with worker.connect() as conn:
        assert fetch(conn, "/a").body == b"/a\n"
    assert "Traceback" not in worker.log()


def test_reader_that_takes_nothing_is_given_up():
    with serving(send_timeout=1) as w, w.connect() as conn:
        conn.send(get("/stream?1600"))
        wait_for(lambda: w.row()["in_flight"] == 1)
        w.wait_row(in_flight=0, connections=0)
        with pytest.raises(Closed):
            conn.response()


def test_slow_reader_that_takes_something_is_not_given_up():
    with serving(send_timeout=1) as w, w.connect() as conn:
        conn.send(get("/stream?400"))
        conn.head()
        start, got = time.monotonic(), 0
        while time.monotonic() - start < 3:
            got += conn.sock.recv(1 << 18).count(b"x")
            time.sleep(0.05)
        while got < 400 * 65536 - conn.buffer.count(b"x"):
            data = conn.sock.recv(1 << 20)
            assert data
            got += data.count(b"x")


def test_slow_upload_does_not_stall_others(worker):
    with worker.connect() as slow, worker.connect() as other:
        slow.send(get("/echo", "Content-Length: 20"))
        for i in range(20):
            slow.send(b"%d" % (i % 10))
            start = time.monotonic()
            assert fetch(other, "/b").body == b"/b\n"
            assert time.monotonic() - start < 1
        assert slow.response().body == b"01234567890123456789"


def test_pipelining_client_that_does_not_read(worker):
    """Its requests stay in the kernel once its responses do."""
    with worker.connect() as flood, worker.connect() as other:
        flood.sock.setblocking(False)
        data, sent = get("/big?10000") * 100, 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                sent += flood.sock.send(data[sent % len(data) :])
            except BlockingIOError:
                time.sleep(0.01)
        before = worker.memory()
        assert fetch(other, "/b").body == b"/b\n"
        assert worker.memory() < before + MIB
        worker.wait_row(in_flight=1)  # the other one may still be being counted
        reset(flood)
    worker.wait_row(in_flight=0, connections=0)
