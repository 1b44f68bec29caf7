"""The access log as a file, from real requests; formats have their table in tests/unit/test_access_log.c."""

import base64
import datetime
import json
import os
import random
import re
import signal
import time

import pytest

from harness import wait_for
from worker_by_hand import HandWorker, serving


def get(target, *lines):
    return ("GET %s HTTP/1.1\r\nHost: test\r\n" % target + "".join(x + "\r\n" for x in lines) + "\r\n").encode("latin-1")


def fetch(conn, target, *lines):
    conn.send(get(target, *lines))
    return conn.response()


def lines_of(path, n):
    """Wait for n lines."""

    def read():
        try:
            lines = path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        return lines if len(lines) >= n else None

    lines = wait_for(read, what="%d lines" % n)
    assert len(lines) == n and all(line.endswith("\n") for line in lines)
    return [line[:-1] for line in lines]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "access.log"


DEFAULT = (
    r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?b=c HTTP/1\.1" 200 7 "-" "agent/1"'
)


def test_default_format(log):
    with serving(accesslog=str(log)) as w, w.connect() as conn:
        fetch(conn, "/a?b=c", "User-Agent: agent/1")
        (line,) = lines_of(log, 1)
        assert re.fullmatch(DEFAULT, line)


def test_every_atom(log):
    atoms = ["h", "l", "u", "r", "m", "U", "q", "H", "s", "B", "b", "f", "a", "T", "p"]
    atoms += ["{x-in}i", "{X-IN}i", "{content-type}o", "{server}o", "{REMOTE_PORT}e", "{wsgi.url_scheme}e", "{none}i", "zz"]
    form = "|".join("%%(%s)s" % a for a in atoms)
    auth = "Authorization: Basic " + base64.b64encode(b"grace:pass:word").decode()
    with serving(accesslog=str(log), access_log_format=form) as w, w.connect() as conn:
        fetch(conn, "/p%20q?x=1", "Referer: http://r/", "User-Agent: ua", "X-In: value", auth)
        (line,) = lines_of(log, 1)
        port = conn.sock.getsockname()[1]
        expected = "127.0.0.1|-|grace|GET /p%20q?x=1 HTTP/1.1|GET|/p q|x=1|HTTP/1.1|200|11|11|http://r/|ua|0|"
        expected += "<%d>|value|value|text/plain|greenicorn|%d|http|-|-" % (w.pid, port)
        assert line == expected


def test_durations(log):
    with serving(accesslog=str(log), access_log_format="%(T)s %(M)s %(D)s %(L)s") as w, w.connect() as conn:
        fetch(conn, "/sleep?1.1")
        (line,) = lines_of(log, 1)
        seconds, milli, micro, decimal = line.split()
        assert seconds == "1" and 1100 <= int(milli) < 1900
        assert int(micro) // 1000 == int(milli)
        assert decimal == "1.%06d" % (int(micro) % 1_000_000)


def test_parts_of_the_time(log):
    form = "%(U)s %(queue_time)s %(head_time)s %(body_time)s %(app_time)s %(send_time)s %(green_time)s %(L)s %(in_flight)s"
    with serving(accesslog=str(log), access_log_format=form) as w:
        with w.connect() as conn:  # a slow head, then a slow body
            head = get("/echo", "Content-Length: 4")
            conn.send(head[:20])
            time.sleep(0.3)
            conn.send(head[20:])
            time.sleep(0.3)
            conn.send(b"body")
            conn.response()
        with w.connect() as conn, w.connect() as other:
            conn.send(get("/sleep?0.4"))
            other.send(get("/sleep?0.4"))
            conn.response(), other.response()
        lines = [line.split() for line in lines_of(log, 3)]
    path, *numbers = lines[0]
    queue, head, body, app, send, green, whole, _ = (float(x) for x in numbers)
    assert path == "/echo" and 0.25 < head and 0.25 < body <= whole and queue >= 0
    assert abs(whole - body - app - send) < 0.00001 and 0 < green < whole
    for path, *numbers in lines[1:]:
        queue, head, body, app, send, green, whole, _ = (float(x) for x in numbers)
        assert path == "/sleep" and app > 0.3 and body == send == 0 and green < app - 0.3
    assert sorted(int(line[-1]) for line in lines[1:]) in ([1, 2], [1, 1])


def test_waiting_for_the_client_to_read(log):
    with serving(accesslog=str(log), access_log_format="%(U)s %(app_time)s %(send_time)s") as w, w.connect() as conn:
        conn.send(get("/big?30000000", "Connection: close"))
        time.sleep(0.5)
        conn.rest()
        (line,) = lines_of(log, 1)
    assert float(line.split()[2]) > 0.3


def test_request_id(log):
    with serving(accesslog=str(log), access_log_format="%(request_id)s") as w, w.connect() as conn:
        fetch(conn, "/", "X-Request-ID: 7b6c-from_the.proxy")
        made = [fetch(conn, "/environ_value?greenicorn.request_id").text for _ in range(2)]
        fetch(conn, "/", 'X-Request-ID: a" b')
        fetch(conn, "/", "X-Request-ID: " + "a" * 129)
        lines = lines_of(log, 5)
    assert lines[0] == "7b6c-from_the.proxy"
    assert lines[1:3] == made
    assert len(set(lines)) == 5 and all(re.fullmatch("[0-9a-f]{32}", line) for line in lines[1:])


def test_json(log):
    """Whatever is sent, a line is an object of JSON, and says what came."""
    rng = random.Random(5)
    sent = [c for c in range(0x20, 0x100) if c != 0x7F]
    agents = [bytes(rng.choice(sent) for _ in range(rng.randrange(1, 200))) for _ in range(150)]
    agents += [b'"}\\', b"\\", "\u20ac\U0001f984".encode(), b"\xed\xa0\x80", b"x" * 8000, b"\xff" * 8000]
    with serving(accesslog=str(log), access_log_format="json") as w, w.connect() as conn:
        for i, agent in enumerate(agents):
            conn.send(get('/p"%%00%d?q="\\' % i, "Referer: r")[:-2] + b"User-Agent: " + agent + b"\r\n\r\n")
            assert conn.response().status == 200
        port = conn.sock.getsockname()[1]
        lines = lines_of(log, len(agents))
    for i, (line, agent) in enumerate(zip(lines, agents)):
        entry = json.loads(line)
        assert entry["url.path"] == '/p"%%00%d' % i and entry["url.query"] == 'q="\\'
        assert entry["http.request.method"] == "GET" and entry["http.response.status_code"] == 200
        assert entry["client.address"] == "127.0.0.1" and entry["client.port"] == port
        assert entry["server.address"] == "test" and entry["http.request.header.referer"] == ["r"]
        assert entry["http.server.request.duration"] >= entry["greenicorn.app_time"] >= 0
        assert datetime.datetime.strptime(entry["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ")
        said = entry.get("user_agent.original", "")
        try:
            text = agent.decode().strip(" ")
        except UnicodeDecodeError:
            assert "\ufffd" in said
        else:
            assert text.startswith(said) and (said == text or len(said) > 4000)


def test_each_request_has_a_line(log):
    """Whatever its end: pipelined, failed, not read by the client, HEAD."""
    with serving(accesslog=str(log), access_log_format="%(m)s %(U)s %(s)s %(B)s") as w:
        with w.connect() as conn:
            conn.send(get("/1") + get("/2") + get("/fail", "Connection: close"))
            conn.rest()
        with w.connect() as conn:
            conn.send(get("/big?5").replace(b"GET", b"HEAD"))
            conn.response("HEAD")
        with w.connect() as conn:
            fetch(conn, "/stream?2")
            fetch(conn, "/no_content")
        conn = w.connect()
        conn.send(get("/sleep?0.1"))
        conn.close()
        lines = lines_of(log, 7)
    assert lines[:2] == ["GET /1 200 3", "GET /2 200 3"]
    assert re.fullmatch(r"GET /fail 500 \d+", lines[2])
    assert lines[3:6] == ["HEAD /big 200 0", "GET /stream 200 131072", "GET /no_content 204 0"]
    assert lines[6].startswith("GET /sleep 200 ")


def test_what_is_no_request_has_none(log):
    with serving(accesslog=str(log), access_log_format="%(r)s") as w:
        with w.connect() as conn:
            conn.send("BROKEN\r\n\r\n")
            conn.rest()
        with w.connect() as conn:
            fetch(conn, "/good")
        assert lines_of(log, 1) == ["GET /good HTTP/1.1"]


def test_a_client_cannot_forge_lines(log):
    with serving(accesslog=str(log), access_log_format='"%(a)s" "%(U)s" "%(u)s"') as w, w.connect() as conn:
        auth = base64.b64encode(b'x"\nforged:').decode()
        conn.send(get('/%0d%0a127.0.0.1%22%00', 'User-Agent: a" "b\\\x80\t', "Authorization: Basic " + auth))
        conn.response()
        lines = lines_of(log, 1)
    assert lines == ['"a\\" \\"b\\\\\\x80" "/\\x0d\\x0a127.0.0.1\\"\\x00" "x\\"\\x0aforged"']


def test_reopen(log):
    moved = log.with_suffix(".1")
    with serving(accesslog=str(log), access_log_format="%(U)s") as w, w.connect() as conn:
        fetch(conn, "/before")
        lines_of(log, 1)
        log.rename(moved)
        w.signal(signal.SIGUSR1)
        wait_for(log.exists)
        fetch(conn, "/after")
        assert lines_of(log, 1) == ["/after"]
        assert lines_of(moved, 1) == ["/before"]


def test_reopen_fails_and_the_old_file_stays(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    with serving(accesslog=str(folder / "log"), access_log_format="%(U)s") as w, w.connect() as conn:
        moved = tmp_path / "moved"
        folder.rename(moved)
        w.signal(signal.SIGUSR1)
        wait_for(lambda: "cannot reopen" in w.log())
        fetch(conn, "/a")
        assert lines_of(moved / "log", 1) == ["/a"]


def test_error_log_is_reopened(tmp_path):
    path, moved = tmp_path / "error.log", tmp_path / "error.log.1"
    with serving(errorlog=str(path)) as w, w.connect() as conn:
        assert "Worker ready" in path.read_text()
        path.rename(moved)
        w.signal(signal.SIGUSR1)
        wait_for(path.exists)
        conn.send("BROKEN\r\n\r\n")
        conn.rest()
        assert "Invalid request" in path.read_text()
        w.stop()
        assert "Invalid request" not in moved.read_text()


def test_standard_output():
    with serving(accesslog="-", access_log_format="%(U)s") as w, w.connect() as conn:
        fetch(conn, "/a")
        wait_for(lambda: w.output() == "/a\n")


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_pipe_without_a_reader(fifo):
    """Lines are lost, with a word in the error log; a new reader gets new ones."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with serving(accesslog=str(fifo), access_log_format="%(U)s") as w, w.connect() as conn:
        os.set_blocking(reader, True)
        fetch(conn, "/a")
        assert os.read(reader, 100) == b"/a\n"
        os.close(reader)
        for _ in range(3):
            assert fetch(conn, "/b").status == 200
        wait_for(lambda: "access log: lines are lost" in w.log())
        assert w.log().count("lines are lost") == 1
        reader = os.open(fifo, os.O_RDONLY)
        fetch(conn, "/c")
        assert any(os.read(reader, 100).endswith(b"/c\n") for _ in range(3))
        os.close(reader)


def test_pipe_whose_reader_does_not_read(fifo):
    """A full pipe holds the worker up once, for a second."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with serving(accesslog=str(fifo), access_log_format="%(a)s") as w, w.connect() as conn:
        start = time.monotonic()
        for _ in range(200):
            fetch(conn, "/a", "User-Agent: " + "u" * 1000)
        assert time.monotonic() - start < 4
        assert w.log().count("lines are lost") == 1
        with pytest.raises(BlockingIOError):
            while True:
                os.read(reader, 1 << 16)
        fetch(conn, "/a", "User-Agent: again")
        os.set_blocking(reader, True)
        assert any(os.read(reader, 1 << 16).endswith(b"again\n") for _ in range(3))
    os.close(reader)


def test_pipe_without_a_reader_at_the_start(fifo):
    with HandWorker("serve_cases", accesslog=str(fifo)) as w:
        assert w.wait() == 1
        assert "accesslog: %s: No such device or address" % fifo in w.log()


def test_several_workers_append_whole_lines(log):
    with serving(accesslog=str(log)) as one, serving(accesslog=str(log)) as two:
        a, b = one.connect(), two.connect()
        for _ in range(300):
            for conn in (a, b):
                conn.send(get("/a?b=c", "User-Agent: agent/1"))
        for _ in range(300):
            a.response(), b.response()
        for line in lines_of(log, 600):
            assert re.fullmatch(DEFAULT, line)
        a.close(), b.close()
