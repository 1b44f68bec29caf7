"""worker_class and threads: each class runs requests the way that its name says."""

import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
from harness import wait_for

APP = "kinds_app:app"
KINDS = {"sync": {"worker_class": "sync"}, "gthread": {"worker_class": "gthread", "threads": 3}}


@pytest.fixture(params=KINDS)
def each(serve, request):
    return serve(APP, **KINDS[request.param])


def ask(server, path="/", **options):
    with server.connect(30) as c:
        c.get(path, close=True, **options)
        r = c.response()
    assert r.status == 200, r.body
    return json.loads(r.body)


def ask_all(server, paths):
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: ask(server, path), paths))


@pytest.mark.parametrize(
    "worker_class, threads, name",
    [
        ("gunicorn.workers.ggevent.GeventWorker", 1, "gunicorn.workers.ggevent.GeventWorker"),
        ("egg:gunicorn#eventlet", 1, "egg:gunicorn#eventlet"),
        ("green", 1, "green"),
        ("gunicorn.workers.sync.SyncWorker", 1, "gunicorn.workers.sync.SyncWorker"),
        ("sync", 2, "gthread"),
    ],
)
def test_names(serve, worker_class, threads, name):
    server = serve(APP, worker_class=worker_class, threads=threads)
    server.wait_log(r"\[INFO\] Using worker: %s$" % name)
    answer = ask(server)
    assert answer["main"] is (name.endswith("SyncWorker"))
    assert answer["native"] == answer["pid"] or name == "gthread"


def test_threads_of_green_ones(serve):
    server = serve(APP, threads=4)
    server.wait_log(r"\[WARNING\] .*threads does nothing here: .*gthread")
    assert max(a["most"] for a in ask_all(server, ["/sleep?0.5"] * 8)) > 4


def test_sync_has_one_at_a_time(serve):
    server = serve(APP, worker_class="sync")
    answers = ask_all(server, ["/sleep?0.05"] * 8)
    assert {a["most"] for a in answers} == {1}
    assert all(a["main"] and a["native"] == a["pid"] and not a["multithread"] for a in answers)
    assert sorted(a["requests"] for a in answers) == list(range(1, 9))


def test_sync_leaves_others_to_idle_workers(serve):
    """One of two workers waits for the other: whoever is busy takes no connection."""
    server = serve(APP, worker_class="sync", workers=2)
    with server.connect() as busy:
        busy.get("/sleep?3")
        wait_for(lambda: any("in flight" in title(pid) for pid in server.workers()), 10)
        pids = {ask(server)["pid"] for _ in range(20)}
        assert len(pids) == 1
        assert json.loads(busy.response().body)["pid"] not in pids


def test_sync_keeps_no_connection(serve):
    server = serve(APP, worker_class="sync")
    with server.connect() as c:
        c.get("/")
        assert c.response().header("Connection") == "close"
        assert c.is_closed()


def test_sync_request_that_takes_too_long(serve):
    """timeout is for the request, as in gunicorn: the worker is replaced."""
    server = serve(APP, worker_class="sync", timeout=2)
    with server.connect(60) as c:
        c.get("/sleep?60")
        assert c.rest() == b""
    server.wait_log(r"\[CRITICAL\] WORKER TIMEOUT \(pid:\d+\)")
    server.wait_log("GET /sleep")
    server.wait_log("Booting worker", 30, count=2)
    wait_for(lambda: ask(server), 20)
    # the sanitizers' builds end by SIGABRT, on purpose here: not finish()'s to complain of
    text = server.log_text()
    server.stop()
    assert "File " in text and "kinds_app.py" in text
    server.process = None


def test_gthread_has_so_many_at_a_time(serve):
    server = serve(APP, worker_class="gthread", threads=3)
    answers = ask_all(server, ["/sleep?0.2"] * 12)
    assert max(a["most"] for a in answers) == 3
    assert len({a["native"] for a in answers}) == 3
    assert all(a["multithread"] and not a["main"] and a["native"] != a["pid"] for a in answers)
    assert max(a["requests"] for a in answers) > 1  # threading.local lasts as long as the thread


def test_gthread_computing_holds_up_no_other(serve):
    server = serve(APP, worker_class="gthread", threads=2)
    with server.connect(60) as c:
        c.get("/compute?4")
        wait_for(lambda: ask(server)["most"] == 2, 10)
        for _ in range(5):
            ask(server)
        c.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            c.sock.recv(1)
        c.sock.setblocking(True)
        assert c.response().status == 200


def test_gthread_waits_for_each_other(serve):
    """A request that another one ends; a third waits for a thread meanwhile."""
    server = serve(APP, worker_class="gthread", threads=2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, server, "/wait")
        wait_for(lambda: ask(server)["most"] == 2, 10)
        ask(server, "/open")
        assert waiting.result()["most"] == 2


def test_gthread_keeps_connections(serve):
    """More of them than threads: they wait in the loop."""
    server = serve(APP, worker_class="gthread", threads=2)
    connections = [server.connect() for _ in range(20)]
    for _ in range(3):
        for c in connections:
            c.get("/")
            assert c.response().header("Connection") == "keep-alive"
    for c in connections:
        c.close()


def test_slow_upload(each):
    with each.connect(30) as c:
        c.send(b"POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n" + b"a" * 100)
        if "gthread" in each.settings["worker_class"]:
            wait_for(lambda: ask(each)["most"] == 2, 10)
        for _ in range(2999):
            c.send(b"a" * 100)
        assert json.loads(c.response().body)["body"] == 300000


def test_slow_download(each):
    """The server waits for the client, and does not give up while it reads."""
    with each.connect(30) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.get("/stream", close=True)
        head = c.head()
        assert head.status == 200
        if "gthread" in each.settings["worker_class"]:
            ask(each)
        assert c._chunks() == b"x" * 65536 * 64


def test_errors_and_children(each):
    r = each.get("/error")
    assert r.status == 500 and b"Internal Server Error" in r.body
    each.wait_log("ValueError: on purpose")
    assert ask(each, "/child")["said"].split() == ["SigBlk:", "0" * 16]


def test_a_client_that_goes(each):
    with each.connect() as c:
        c.get("/stream")
    assert ask(each)["pid"] == each.worker()


def test_stop_with_requests_in_flight(each):
    with each.connect(30) as c:
        c.get("/sleep?1")
        wait_for(lambda: "in flight" in title(each.worker()), 10)
        each.signal(signal.SIGTERM)
        assert c.response().status == 200
    assert each.process.wait(20 * harness.PATIENCE) == 0


def title(pid):
    with open("/proc/%d/cmdline" % pid) as f:
        return f.read()


def test_reload_with_requests_in_flight(each):
    old = each.worker()
    with each.connect(30) as c:
        c.get("/sleep?1")
        wait_for(lambda: "in flight" in title(old), 10)
        each.signal(signal.SIGHUP)
        assert json.loads(c.response().body)["pid"] == old
    wait_for(lambda: ask(each)["pid"] != old and not os.path.exists("/proc/%d" % old), 20)


def test_max_requests(serve):
    for settings in KINDS.values():
        server = serve(APP, max_requests=5, **settings)
        old = server.worker()
        wait_for(lambda: ask(server)["pid"] != old, 20)


def test_preload(each):
    server = each
    server.stop()
    server.write_config(preload_app=True)
    server.start()
    first = ask(server)
    assert first["multithread"] is ("gthread" in server.settings["worker_class"])
    assert {a["most"] for a in ask_all(server, ["/sleep?0.1"] * 4)} <= {1, 2, 3}
