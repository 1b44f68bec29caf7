"""--reload, --spew, and what a terminal shows."""

import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

import harness
from harness import wait_for

APP = """\
import words

def app(environ, start_response):
    body = words.text(environ).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
WORDS = "def text(environ): return %r\n"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "shop.py").write_text(APP)
    (folder / "words.py").write_text(WORDS % "one")
    return folder


@pytest.fixture
def start(serve, folder):
    return lambda **settings: serve("shop:app", chdir=str(folder), reload=True, **settings)


def shows(server, text, seconds=20):
    wait_for(lambda: server.get().text == text, seconds, "%r in the browser" % text)


@pytest.mark.parametrize("engine", ["auto", "poll", "inotify"])
def test_a_change_is_seen(start, folder, engine):
    server = start(reload_engine=engine, workers=2)
    master = server.process.pid
    shows(server, "one")
    (folder / "words.py").write_text(WORDS % "two")  # as long as before
    shows(server, "two")
    wait_for(lambda: {server.get().text for _ in range(10)} == {"two"}, 20, "both workers with the new code")
    server.wait_log(r"\[INFO\] Worker reloading: %s modified" % (folder / "words.py"))
    (folder / "new").write_text(WORDS % "three")
    os.rename(folder / "new", folder / "words.py")  # as editors save
    shows(server, "three")
    assert server.process.pid == master and server.process.poll() is None
    assert "die young" not in server.log_text()


def test_many_saves_in_a_row(start, folder):
    """The last one counts, also when the application is being loaded meanwhile; Python's cache of bytecode does not."""
    server = start()
    for i in range(10):
        (folder / "words.py").write_text(WORDS % ("n%d" % i))
        time.sleep(0.07)
    shows(server, "n9")
    time.sleep(0.5)
    assert server.get().text == "n9"


def test_the_first_answer_after_a_save_is_the_new_one(start, folder):
    """Who saves and reloads the page waits for the new worker; no request is lost, and none comes too early."""
    server = start()
    for i in range(5):
        (folder / "words.py").write_text(WORDS % ("v%d" % i))
        server.wait_log("Worker reloading", count=i + 1)
        assert server.get().text == "v%d" % i


def test_requests_in_flight_are_answered(start, folder):
    (folder / "words.py").write_text("import time\ndef text(environ):\n    time.sleep(1.5)\n    return 'slow'\n")
    server = start()
    with server.connect() as c:
        c.get("/")
        wait_for(lambda: b"in flight" in open("/proc/%d/cmdline" % server.worker(), "rb").read(), 10)
        (folder / "words.py").write_text(WORDS % "quick")
        server.wait_log("Worker reloading")
        assert server.get().text == "quick"  # which does not wait for the slow one
        assert c.response().text == "slow"


def test_other_files(start, folder):
    (folder / "pages").mkdir()
    (folder / "pages" / "a.html").write_text("a")
    server = start(reload_extra_files=["pages/*.html", "settings.ini"])
    for n, (name, text) in enumerate([("pages/a.html", "b"), ("pages/new.html", "c"), ("settings.ini", "d")], 1):
        (folder / name).write_text(text)
        server.wait_log("Worker reloading: %s modified" % (folder / name))
        server.wait_log(r"\): ready", count=n + 1)
    (folder / "pages" / "a.txt").write_text("not one of them")
    (folder / "unused.py").write_text("not imported")
    time.sleep(1.5)
    assert server.log_text().count("Worker reloading") == 3


@pytest.mark.parametrize(
    "broken, words",
    [
        ("def text(environ) return 1\n", "SyntaxError"),
        ("import not_there_yet\n", "No module named 'not_there_yet'"),
        ("raise SystemExit(7)\n", "SystemExit: 7"),
    ],
)
def test_an_application_that_is_broken(start, folder, broken, words):
    server = start()
    (folder / "words.py").write_text(broken)
    wait_for(lambda: server.get().status == 500, 20)
    response = server.get()
    assert words in response.text and "words.py" in response.text
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    server.wait_log("Exception in worker process")
    (folder / "words.py").write_text(WORDS % "well again")
    shows(server, "well again")


def test_broken_from_the_start(start, folder):
    (folder / "words.py").write_text("import later\n" + WORDS % "now")
    server = start()
    assert "No module named 'later'" in server.get().text
    (folder / "later.py").write_text("")
    shows(server, "now")


def test_without_reload_a_broken_one_does_not_start(serve, folder):
    (folder / "words.py").write_text("1/0")
    server = serve("shop:app", chdir=str(folder), wait=False)
    assert server.process.wait(20 * harness.PATIENCE) == 3


def test_preload_is_off(start, folder):
    server = start(preload_app=True)
    server.wait_log(r"\[WARNING\] .*preload_app is off: with reload each worker loads the application")
    (folder / "words.py").write_text(WORDS % "two")
    shows(server, "two")


def test_nothing_is_watched_without_it(serve, folder):
    server = serve("shop:app", chdir=str(folder))
    (folder / "words.py").write_text(WORDS % "two")
    time.sleep(1.5)
    assert server.get().text == "one" and "reloading" not in server.log_text()


def test_spew(serve, folder):
    server = serve("shop:app", chdir=str(folder), spew=True)
    assert server.get().text == "one"
    wait_for(lambda: "words:1: def text(environ): return 'one'\n" in server.stdout_text(), 10)
    assert "shop:4:     body = words.text(environ).encode()\n" in server.stdout_text()


def terminal(folder, *args, **env):
    """What greenicorn prints on a terminal until it has a worker, and then stops."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [harness.MASTER, "--chdir", str(folder), *args, "shop:app"], stdin=theirs, stdout=theirs, stderr=theirs,
        env=dict(os.environ, GREENICORN_WORKER=harness.WORKER, ASAN_OPTIONS="detect_leaks=0", **env), cwd=folder,
    )  # fmt: skip
    os.close(theirs)
    text = ""
    deadline = time.monotonic() + 30 * harness.PATIENCE
    while time.monotonic() < deadline and "Shutting down" not in text:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                text += os.read(ours, 65536).decode()
            except OSError:
                break
        if "Worker ready" in text:
            process.send_signal(signal.SIGTERM)
    assert harness.stop_process(process) == 0, text
    os.close(ours)
    return text


def test_a_terminal_has_short_lines_in_colour(folder):
    port = harness.free_port()
    text = terminal(folder, "-b", "0.0.0.0:%d" % port, TERM="xterm", NO_COLOR="")
    stamp = r"\x1b\[2m\[\d\d:\d\d:\d\d\] \[\d+\]\x1b\[0m "
    assert re.search(stamp + r"\[\x1b\[32mINFO\x1b\[0m\] Starting greenicorn", text), text
    assert re.search(r"Listening at: http://127\.0\.0\.1:%d \(and all other addresses\) \(\d+\)" % port, text), text
    assert re.search(stamp + r"\[\x1b\[32mINFO\x1b\[0m\] Worker ready", text), text


def test_no_colours_where_they_are_unwanted(folder):
    for env in ({"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}):
        text = terminal(folder, "-b", "0.0.0.0:%d" % harness.free_port(), **env)
        assert "\x1b" not in text and "Listening at: http://0.0.0.0:" in text
        assert re.search(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] Worker ready", text), text
