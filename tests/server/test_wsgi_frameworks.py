"""Real WSGI code on the server: wsgiref's checker, Flask, Django's file responses."""

import json
import re
import threading
import time
import urllib.error
import urllib.request

import pytest

import harness


def fetch(server, path, data=None, headers=()):
    call = urllib.request.Request(server.url(path), data=data, headers=dict(headers))
    with urllib.request.urlopen(call, timeout=30) as answer:
        return answer.read()


def view(server, path):
    """The text of what must not fail: else the failure shows the log."""
    try:
        return fetch(server, path).decode()
    except urllib.error.HTTPError as error:
        raise AssertionError("%s, and the log:\n%s" % (error, server.log_text()[-5000:])) from None


def in_parallel(function, n):
    """The results of function(0) … function(n - 1), called at the same time, and how long it took."""
    results = [None] * n

    def run(i):
        results[i] = function(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results, time.monotonic() - start


@pytest.mark.parametrize("uri", ["validated:app", "validated:app_write"])
def test_wsgirefs_checker(serve, uri):
    server = serve(uri)
    wanted = b"" if uri.endswith("app") else b"written "
    for target in ("/", "/p%20q?x=%20", "/caf%C3%A9", "/?"):
        assert fetch(server, target).endswith(wanted + b"valid")
    assert fetch(server, "/", b"one\ntwo\nthree").endswith(b"valid")
    assert "AssertionError" not in server.log_text() and "WSGIWarning" not in server.log_text()


def test_wsgirefs_checker_saw_the_body(serve):
    server = serve("validated:app")
    assert fetch(server, "/", b"one\ntwo\nthree\nfour") == b"one\ntwo\nthree\nfourvalid"
    server.wait_log("^checked again$")


@pytest.fixture(scope="module")
def flask(tmp_path_factory, postgres, redis):
    env = {"TEST_DSN": postgres.dsn, "TEST_REDIS": str(redis.port)}
    server = harness.Server(tmp_path_factory.mktemp("flask"), "flask_app:app", env=env)
    yield server
    server.finish()


def test_flask_says_hello(flask):
    assert fetch(flask, "/") == b"Hello, Flask!\n"


@pytest.mark.parametrize(
    "path, seconds",
    [
        ("/postgres?n=%d", 0.2),
        ("/redis?n=%d", 0.2),
        ("/subprocess?n=%d", 0.2),
        ("/asyncio?n=%d", 0.2),
        ("/stream?n=%d", 0.15),
        ("/g?n=%d", 0.05),
    ],
)
def test_views_that_wait_overlap(flask, path, seconds):
    view(flask, path % 0)
    n = 30
    results, took = in_parallel(lambda i: view(flask, path % i), n)
    if path.startswith("/stream"):
        assert results == ["".join("%d %d\n" % (i, k) for k in range(3)) for i in range(n)]
    else:
        assert results == [str(i) for i in range(n)]
    assert took < n * seconds / 2 * harness.PATIENCE


def test_requests_to_the_server_itself(flask):
    inner = flask.url("/sleep/0.3").replace(":", "%3A")
    results, took = in_parallel(lambda i: fetch(flask, "/requests?url=" + inner), 20)
    assert results == [b"slept\n"] * 20
    assert took < 3 * harness.PATIENCE


def test_queue_between_requests(flask):
    n = 20
    getting = []
    thread = threading.Thread(target=lambda: getting.extend(in_parallel(lambda i: fetch(flask, "/queue/get"), n)[0]))
    thread.start()
    for i in range(n):
        fetch(flask, "/queue/put?n=%d" % i)
    thread.join(30)
    assert sorted(getting, key=int) == [b"%d" % i for i in range(n)]


def test_locks_threads_and_names(flask):
    results, _ = in_parallel(lambda i: fetch(flask, "/lock?n=%d" % i), 20)
    assert results == [b"%d" % i for i in range(20)]
    assert in_parallel(lambda i: fetch(flask, "/pool"), 20)[0] == [b"from the pool"] * 20
    assert fetch(flask, "/resolve") in (b"127.0.0.1", b"::1")


def test_uploads(flask):
    body = b"".join(
        b"--xx\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n" % part
        for part in ((b'"field"', b"value"), (b'"file"; filename="f.bin"', b"\x00\r\n" * 100000))
    )
    answer = fetch(flask, "/upload", body + b"--xx--\r\n", [("Content-Type", "multipart/form-data; boundary=xx")])
    assert json.loads(answer) == {"name": "f.bin", "size": 300000, "field": "value"}


def test_json(flask):
    value = {"snow": "\u2603", "list": list(range(1000))}
    answer = fetch(flask, "/json", json.dumps(value).encode(), [("Content-Type", "application/json")])
    assert json.loads(answer) == value


def test_sessions(flask):
    cookie = ""
    for count in (1, 2, 3):
        call = urllib.request.Request(flask.url("/session"), headers={"Cookie": cookie})
        with urllib.request.urlopen(call, timeout=20) as answer:
            assert answer.read() == b"%d" % count
            cookie = answer.headers["Set-Cookie"].split(";")[0]


def test_flasks_logger_writes_to_the_error_log(flask):
    fetch(flask, "/log?n=test")
    flask.wait_log("ERROR in flask_app: from the logger of test")


def test_an_error_in_a_view(flask):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(flask, "/error")
    assert caught.value.code == 500
    flask.wait_log("RuntimeError: in a view")


def test_djangos_file_response(serve, tmp_path):
    """It wraps files in wsgi.file_wrapper and sets its own Content-Length."""
    pytest.importorskip("django")
    data = bytes(range(256)) * 2000
    (tmp_path / "data.bin").write_bytes(data)
    (tmp_path / "files.py").write_text(
        "from django.conf import settings\n"
        "settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=['*'], SECRET_KEY='x')\n"
        "from django.core.wsgi import get_wsgi_application\n"
        "from django.http import FileResponse\n"
        "from django.urls import path\n"
        "def send(request):\n"
        "    return FileResponse(open(%r, 'rb'), as_attachment=True)\n"
        "urlpatterns = [path('', send)]\n"
        "app = get_wsgi_application()\n" % str(tmp_path / "data.bin")
    )
    server = serve("files:app", chdir=str(tmp_path))
    answer = server.get("/")
    assert answer.body == data
    assert answer.header("Content-Length") == str(len(data))
    assert re.search('filename="data.bin"', answer.header("Content-Disposition"))
