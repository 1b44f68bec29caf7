"""The cases of the parity test: each is run with gunicorn and with greenicorn. See parity.py."""

import base64
import json
import os
import re
import signal
import socket
import tempfile
import time

import harness
from harness import wait_for
from parity import case, normalised, recorded

# ---- the command line ----


def exits(peer, args, app="parity_app:app", pattern=None, **options):
    """The exit status, and whether the text that people grep for is there."""
    status, text = peer.call(args, app, **options)
    seen = {"exit status": status}
    if pattern:
        seen["says %r" % pattern] = re.search(pattern, text) is not None
    return seen


BAD_STARTS = [
    # what, arguments, application, what it says
    ("an unknown flag", ["--worker", "2"], "parity_app:app", None),
    ("a number that is none", ["-w", "two"], "parity_app:app", None),
    ("a negative number of workers", ["-w", "-1"], "parity_app:app", None),
    ("no application", [], None, "No application module specified"),
    ("a module that is not there", [], "no_such_module:app", "ModuleNotFoundError|No module named"),
    ("an attribute that is not there", [], "parity_app:nothing", "Failed to find attribute 'nothing' in 'parity_app'"),
    ("an attribute that is no callable", [], "parity_app:not_callable", "Application object must be callable"),
    ("an attribute of an attribute", [], "parity_app:app.x", "Failed to parse 'app.x' as an attribute name or function call"),
    ("a configuration file that is not there", ["-c", "nothing.conf"], "parity_app:app", "nothing.conf"),
    ("a user that is not there", ["-u", "no-such-user"], "parity_app:app", None),
    ("a certificate that is not there", ["--certfile", "nothing.pem", "--keyfile", "nothing.pem"], "parity_app:app", None),
    ("a worker class that is not there", ["-k", "no.such.Worker"], "parity_app:app", None),
    ("a log level that is not there", ["--log-level", "loud"], "parity_app:app", None),
]


@case("command line", "starts that fail")
def bad_starts(peer):
    seen = {}
    for what, args, app, pattern in BAD_STARTS:
        bind = ["-b", "127.0.0.1:%d" % harness.free_port()]
        check = ["--check-config"] if what == "a log level that is not there" else []
        for item, value in exits(peer, [*bind, *check, *args], app, pattern).items():
            seen["%s, %s" % (what, item)] = value
    return seen


@case("command line", "an application that is broken")
def broken_application(peer):
    seen = {}
    for what, text in (("a syntax error", "def app(:\n"), ("an exception", "raise RuntimeError('at import')\n")):
        with tempfile.TemporaryDirectory(prefix="parity-") as folder:
            with open(os.path.join(folder, "broken.py"), "w") as f:
                f.write(text)
            bind = ["-b", "127.0.0.1:%d" % harness.free_port()]
            seen[what] = exits(peer, bind, "broken:app", "Traceback|SyntaxError", folder=folder)
            seen[what + ", --check-config"] = exits(peer, ["--check-config", *bind], "broken:app", folder=folder)
    return seen


@case("command line", "an address in use")
def address_in_use(peer):
    with socket.create_server(("127.0.0.1", 0)) as s:
        return exits(peer, ["-b", "127.0.0.1:%d" % s.getsockname()[1]], pattern="in use")


@case("command line", "a pid file of a server that runs")
def pid_file_in_use(peer):
    with tempfile.NamedTemporaryFile("w", suffix=".pid") as f:
        f.write("%d\n" % os.getpid())
        f.flush()
        bind = ["-b", "127.0.0.1:%d" % harness.free_port()]
        return exits(peer, [*bind, "-p", f.name], pattern="Already running on PID")


@case("command line", "ask and leave")
def ask_and_leave(peer):
    return {
        "--version": exits(peer, ["--version"], None, r"^NAME \(version VERSION\)$"),
        "-v": exits(peer, ["-v"], None, r"^NAME \(version VERSION\)$"),
        "--help": exits(peer, ["--help"], None, "usage: NAME"),
        "--check-config": exits(peer, ["--check-config"]),
        "--print-config": exits(peer, ["--print-config"], "parity_app:app", r"(?m)^workers +="),
    }


@case("command line", "flags")
def flags(peer):
    """Each flag in gunicorn's --help is accepted; greenicorn's tells only of those that do something."""
    if peer.is_gunicorn:
        _, text = peer.call(["--help"], None)
        return dict.fromkeys(sorted(set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", text))), True)
    known = [item.removeprefix("flags: ") for item in recorded().get("command line", {}) if item.startswith("flags: ")]
    return {flag: "no such option" not in peer.call([flag, "1", "--version"])[1] for flag in known}


@case("command line", "variables")
def variables(peer):
    seen = {}
    port = harness.free_port()
    tries = {
        "GUNICORN_CMD_ARGS": ({"GUNICORN_CMD_ARGS": "--workers=2 --name 'a b'"}, "Booting worker", 2),
        "WEB_CONCURRENCY": ({"WEB_CONCURRENCY": "3"}, "Booting worker", 3),
        "the command line before GUNICORN_CMD_ARGS": ({"GUNICORN_CMD_ARGS": "-w 3"}, "Booting worker", 1),
    }
    for what, (env, words, n) in tries.items():
        args = ["-w", "1"] if "before" in what else []
        with Direct(peer, ["-b", "127.0.0.1:%d" % port, *args], env) as run:
            seen[what] = run.count(words, n)
    with Direct(peer, [], {"PORT": str(port)}) as run:
        seen["PORT"] = run.count("Listening at: http://0.0.0.0:%d" % port, 1)
    return seen


class Direct:
    """A server with just these arguments, stopped when its log has been seen."""

    def __init__(self, peer, args, env):
        import parity

        self.run = parity.Running.__new__(parity.Running)
        self.run.peer, self.run.folder = peer, tempfile.mkdtemp(prefix="parity-")
        self.run.log = os.path.join(self.run.folder, "error.log")
        with open(self.run.log, "ab") as log:
            self.run.process = parity.subprocess.Popen(
                peer.command(["--chdir", harness.APPS, *args], "parity_app:app"), cwd=self.run.folder,
                env=peer.environment(env), stdin=parity.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run.__exit__()

    def count(self, words, n):
        """How often the words are there, once they are n times, or after a while."""
        self.run.wait_log(words, n)
        time.sleep(0.3)  # for one too many
        return self.run.text().count(words)


# ---- the log ----


@case("log", "start and stop")
def start_and_stop(peer):
    with peer.run("--log-level", "info", workers=2) as run:
        run.end(signal.SIGTERM)
        return dict.fromkeys(sorted(run.lines()), True)


@case("log", "HUP")
def hup(peer):
    with peer.run() as run:
        before = run.lines()
        old = run.workers()
        run.signal(signal.SIGHUP)
        run.wait_workers(1, besides=old)
        run.wait_log("Worker exiting")
        return dict.fromkeys(sorted(run.lines() - before), True)


@case("log", "TTIN, TTOU, USR1, WINCH")
def other_signals(peer):
    with peer.run() as run:
        before = run.lines()
        run.signal(signal.SIGTTIN)
        run.wait_workers(2)
        run.wait_log("Booting worker", 2)
        run.signal(signal.SIGTTOU)
        run.wait_workers(1)
        run.signal(signal.SIGUSR1)
        run.signal(signal.SIGWINCH)
        run.wait_log("winch")
        run.wait_log("usr1")
        # gunicorn tells of a worker that ends before it has its own handlers
        lines = {line for line in run.lines() - before if "was sent SIGTERM" not in line}
        return dict.fromkeys(sorted(lines), True)


@case("log", "INT")
def interrupt(peer):
    with peer.run() as run:
        before = run.lines()
        run.end(signal.SIGINT)
        return dict.fromkeys(sorted(run.lines() - before), True)


@case("log", "a worker that dies")
def worker_dies(peer):
    seen = {}
    for sig in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        with peer.run() as run:
            before, old = run.lines(), run.workers()
            os.kill(old[0], sig)
            run.wait_workers(1, besides=old)
            run.wait_log("Booting worker", 2)
            lines = {line for line in run.lines() - before if "Booting" not in line and "exiting" not in line}
            seen[sig.name] = sorted(lines)
    return seen


@case("log", "an exception in the application")
def exception_in_application(peer):
    with peer.run() as run:
        before = run.lines()
        run.page("/error?a=1")
        run.wait_log("on purpose")
        seen = dict.fromkeys(sorted(run.lines() - before), True)
        seen["Traceback"] = "Traceback (most recent call last):" in run.text()
        return seen


@case("log", "a worker that hangs")
def worker_hangs(peer):
    with peer.run("-t", "1") as run:
        old = run.workers()
        os.kill(old[0], signal.SIGSTOP)
        run.wait_workers(1, besides=old)
        return {"WORKER TIMEOUT": "CRITICAL WORKER TIMEOUT (pid:PID)" in run.lines()}


# ---- signals ----


@case("signals", "the number of workers")
def number_of_workers(peer):
    with peer.run(workers=2) as run:
        run.signal(signal.SIGTTIN)
        up = len(run.wait_workers(3))
        run.signal(signal.SIGTTOU)
        down = len(run.wait_workers(2))
        run.signal(signal.SIGTTOU)
        run.wait_workers(1)
        run.signal(signal.SIGTTOU)
        time.sleep(0.5)
        return {"TTIN": up, "TTOU": down, "TTOU of the last": len(run.workers())}


@case("signals", "exit status")
def exit_status(peer):
    seen = {}
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        with peer.run() as run:
            seen[sig.name] = run.end(sig)
    return seen


@case("signals", "a request in flight")
def request_in_flight(peer):
    seen = {}
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        with peer.run() as run, run.connect() as c:
            c.get("/sleep?1.5", close=True)
            time.sleep(0.5)
            run.signal(sig)
            try:
                seen[sig.name] = c.response().status
            except harness.Closed:
                seen[sig.name] = "closed"
    return seen


@case("signals", "log files and HUP")
def files_and_hup(peer):
    """USR1 opens moved files anew; HUP takes new workers and keeps the master."""
    with peer.run() as run:
        os.rename(run.access, run.access + ".1")
        run.signal(signal.SIGUSR1)
        wait_for(lambda: os.path.exists(run.access), 20, "a new access log")
        time.sleep(0.5)
        run.page("/echo")
        wait_for(lambda: "/echo" in open(run.access).read(), 20, "a line")
        old = run.workers()
        run.signal(signal.SIGHUP)
        run.wait_workers(1, besides=old)
        return {"USR1": "a new file", "HUP": run.process.poll() is None}


@case("signals", "USR2")
def binary_upgrade(peer):
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        pid_file = os.path.join(folder, "pid")
        with peer.run("-p", pid_file) as run:
            run.signal(signal.SIGUSR2)
            wait_for(lambda: os.path.exists(pid_file + ".2"), 30, "the new master's pid file")
            new = int(open(pid_file + ".2").read())
            run.wait_log("Booting worker", 2)
            status = run.end(signal.SIGTERM)
            wait_for(lambda: not os.path.exists(pid_file + ".2"), 30, "promotion")
            serves = run.page("/pid").status
            os.kill(new, signal.SIGTERM)
            wait_for(lambda: not os.path.exists(pid_file), 30, "the end")
            return {"old master": status, "new master serves": serves, "pid files": "PID, PID.2, PID, none"}


# ---- environ ----

BASE = "GET /environ%s HTTP/1.1\r\nHost: example.com:81\r\nConnection: close\r\n%s\r\n"

ENVIRONS = [
    # what, arguments, variables, unix socket, request
    ("plain", [], {}, False, BASE % ("", "")),
    ("query", [], {}, False, BASE % ("/a%20b/%c3%a9;p?x=1&y=%20&z=", "")),
    ("empty query", [], {}, False, BASE % ("?", "")),
    ("double slash", [], {}, False, BASE % ("//two", "")),
    ("absolute target", [], {}, False, "GET http://other.org/environ?q HTTP/1.1\r\nHost: other.org\r\nConnection: close\r\n\r\n"),
    ("HTTP/1.0", [], {}, False, "GET /environ HTTP/1.0\r\n\r\n"),
    ("header fields", [], {}, False, BASE % ("", "X-One: 1\r\nX-One: 2\r\nx-two:  spaced  \r\nAccept: a\r\nAccept: b\r\nEmpty:\r\n")),
    ("cookies", [], {}, False, BASE % ("", "Cookie: a=1\r\nCookie: b=2\r\n")),
    ("underscores", [], {}, False, BASE % ("", "X_Under: 1\r\nX-Under: 2\r\n")),
    ("latin-1", [], {}, False, BASE % ("", "X-One: \xe9\r\n")),
    ("body", [], {}, False, "POST /environ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nhi"),
    ("chunked body", [], {}, False, "POST /environ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    ("trusted proxy", [], {}, False, BASE % ("", "X-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=8.8.8.8\r\n")),
    ("untrusted proxy", ["--forwarded-allow-ips", "10.0.0.1"], {}, False, BASE % ("", "X-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\n")),
    ("all proxies", ["--forwarded-allow-ips", "*"], {}, False, BASE % ("", "X-Forwarded-Ssl: on\r\n")),
    ("trusted SCRIPT_NAME", [], {}, False, BASE % ("/x", "SCRIPT_NAME: /environ\r\n")),
    ("SCRIPT_NAME", [], {"SCRIPT_NAME": "/environ"}, False, BASE % ("/x", "")),
    ("unix socket", [], {}, True, BASE % ("", "X-Forwarded-Proto: https\r\n")),
    ("raw_env", ["-e", "SHOP=1"], {}, False, BASE % ("", "")),
]  # fmt: skip


def environ_of(run, request):
    raw = run.answer(request.encode("latin-1"))
    head, _, body = raw.partition(b"\r\n\r\n")
    try:
        keys = json.loads(body)
    except ValueError:
        return {"status": head.split(b"\r\n")[0].decode("latin-1").split(" ")[1:2]}
    for key in ("REMOTE_PORT", "SERVER_PORT"):
        if keys.get(key) == str(getattr(run, "port", None)):
            keys[key] = "PORT"
    if "REMOTE_PORT" in keys:
        keys["REMOTE_PORT"] = type(keys["REMOTE_PORT"]).__name__
    return {key: normalised(value) if isinstance(value, str) else value for key, value in keys.items()}


@case("environ", "keys")
def environs(peer):
    seen = {}
    groups = {}
    for what, args, env, unix, request in ENVIRONS:
        groups.setdefault((tuple(args), tuple(env.items()), unix), []).append((what, request))
    plain = None
    for (args, env, unix), requests in groups.items():
        with peer.run(*args, env=dict(env), unix=unix) as run:
            for what, request in requests:
                keys = environ_of(run, request)
                plain = plain or keys
                for key, value in keys.items():
                    if what == "plain" or plain.get(key) != value:
                        seen["%s, %s" % (what, key)] = value
                for key in plain.keys() - keys.keys():
                    seen["%s, %s" % (what, key)] = None
    return seen


# ---- the access log ----

ATOMS = "%(h)s|%(l)s|%(u)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s|%({x-one}i)s|%({content-type}o)s|%({path_info}e)s|%({nothing}i)s|%(x)s"


def fifty_requests():
    yield "plain", ("GET", "/pid", ())
    for path in ("/", "/echo?a=1&b=%20", "/environ/%c3%a9", "/a%22b", "/headers", "/chunks", "/write", "/own", "/file?", "/error"):
        yield path, ("GET", path, ())
    for code in (200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 405, 410, 418, 429, 500, 503):
        yield "/status/%d" % code, ("GET", "/status/%d" % code, ())
    for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        yield method, (method, "/headers", ())
    fields = [
        ("Referer", "http://x/y"), ("Referer", 'a"b'), ("User-Agent", "curl/8"), ("User-Agent", 'say "hi" \\ there'),
        ("User-Agent", "caf\xe9"), ("X-One", "1"), ("X-One", 'quote"d'), ("User-Agent", "tab\tbed"), ("Referer", "\\x0a"),
        ("Authorization", "Basic " + base64.b64encode(b"ann:secret").decode()),
        ("Authorization", "Basic " + base64.b64encode(b"nopassword").decode()),
        ("Authorization", "Basic %%%"), ("Authorization", "Bearer abc"), ("Cookie", "a=b"), ("Accept", "*/*"),
        ("X-Forwarded-For", "9.9.9.9"), ("Host", "other"),
    ]  # fmt: skip
    for name, text in fields:
        yield "%s: %s" % (name, text), ("GET", "/echo", ((name, text),))


def unsized(line):
    """A line without the size of what a process tells of itself: its environ, its pid."""
    return re.sub(r"(\|200)\|\d+\|\d+(\|.*\|)(application/json\||-\|/pid\|)", r"\1|N|N\2\3", line)


@case("access log", "fifty requests")
def access_lines(peer):
    requests = list(fifty_requests())
    assert len(requests) == 50, len(requests)
    with peer.run("--access-logformat", ATOMS) as run:
        open(run.access, "w").close()
        seen = {}
        for what, (method, path, fields) in requests:
            lines = ["%s %s HTTP/1.1" % (method, path), "Connection: close", "Content-Length: 0"]
            if not any(name == "Host" for name, _ in fields):
                lines.append("Host: h")
            lines += ["%s: %s" % field for field in fields]
            before = os.path.getsize(run.access)
            run.answer(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            wait_for(lambda: os.path.getsize(run.access) > before, 20, "a line for %s" % what)
            with open(run.access, errors="backslashreplace") as f:
                f.seek(before)
                seen[what] = unsized(f.read().rstrip("\n"))
        return seen


@case("access log", "default format")
def default_format(peer):
    with peer.run() as run:
        open(run.access, "w").close()
        with run.connect() as c:
            c.get("/headers?q=1", [("User-Agent", "curl/8"), ("Referer", "http://x/")], close=True)
            c.response()
        line = wait_for(lambda: open(run.access).read(), 20, "a line")
        shape = r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /headers\?q=1 HTTP/1.1" 200 2 "http://x/" "curl/8"\n'
        return {"the line": re.fullmatch(shape, line) is not None}


@case("access log", "times")
def times(peer):
    with peer.run("--access-logformat", "%(T)s %(M)s %(D)s %(L)s %(p)s %(t)s") as run:
        open(run.access, "w").close()
        run.page("/sleep?0.1")
        line = wait_for(lambda: open(run.access).read(), 20, "a line")
        shapes = {"T": r"\d+", "M": r"\d{3,}", "D": r"\d{6,}", "L": r"\d+\.\d{6}", "p": r"<\d+>", "t": r"\[.* [+-]\d{4}\]"}
        values = line.rstrip("\n").split(" ", 5)
        return {atom: re.fullmatch(shape, v) is not None for (atom, shape), v in zip(shapes.items(), values)}


# ---- bad requests ----

H = "Host: h\r\nConnection: close\r\n"
REQUESTS = [
    ("no request at all", "\r\n\r\n\r\n"),
    ("no version", "GET /\r\n\r\n"),
    ("HTTP/2.0", "GET / HTTP/2.0\r\n" + H + "\r\n"),
    ("HTTP/1.2", "GET / HTTP/1.2\r\n" + H + "\r\n"),
    ("a version that is none", "GET / FTP/1.1\r\n" + H + "\r\n"),
    ("a lower-case method", "get / HTTP/1.1\r\n" + H + "\r\n"),
    ("an unknown method", "BREW / HTTP/1.1\r\n" + H + "\r\n"),
    ("a method of two letters", "GO / HTTP/1.1\r\n" + H + "\r\n"),
    ("a method that is no token", "GE(T / HTTP/1.1\r\n" + H + "\r\n"),
    ("a relative target", "GET pid HTTP/1.1\r\n" + H + "\r\n"),
    ("* with GET", "GET * HTTP/1.1\r\n" + H + "\r\n"),
    ("* with OPTIONS", "OPTIONS * HTTP/1.1\r\n" + H + "\r\n"),
    ("authority-form with GET", "GET h:80 HTTP/1.1\r\n" + H + "\r\n"),
    ("two spaces", "GET  /pid HTTP/1.1\r\n" + H + "\r\n"),
    ("a fragment", "GET /pid#x HTTP/1.1\r\n" + H + "\r\n"),
    ("NUL in the target", "GET /pid\0 HTTP/1.1\r\n" + H + "\r\n"),
    ("no Host", "GET /pid HTTP/1.1\r\nConnection: close\r\n\r\n"),
    ("two Hosts", "GET /pid HTTP/1.1\r\nHost: a\r\n" + H + "\r\n"),
    ("Host with a path", "GET /pid HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n"),
    ("a long request line", "GET /" + "a" * 4200 + " HTTP/1.1\r\n" + H + "\r\n"),
    ("a long field", "GET /pid HTTP/1.1\r\n" + H + "X: " + "a" * 9000 + "\r\n\r\n"),
    ("many fields", "GET /pid HTTP/1.1\r\n" + H + "X: 1\r\n" * 120 + "\r\n"),
    ("a space before the colon", "GET /pid HTTP/1.1\r\n" + H + "X : 1\r\n\r\n"),
    ("a folded field", "GET /pid HTTP/1.1\r\n" + H + "X: 1\r\n 2\r\n\r\n"),
    ("a field without a colon", "GET /pid HTTP/1.1\r\n" + H + "nothing\r\n\r\n"),
    ("an empty field name", "GET /pid HTTP/1.1\r\n" + H + ": 1\r\n\r\n"),
    ("a control character in a value", "GET /pid HTTP/1.1\r\n" + H + "X: a\x01b\r\n\r\n"),
    ("NUL in a value", "GET /pid HTTP/1.1\r\n" + H + "X: a\0b\r\n\r\n"),
    ("a bare CR in a value", "GET /pid HTTP/1.1\r\n" + H + "X: a\rb\r\n\r\n"),
    ("bare LF as line ends", "GET /pid HTTP/1.1\nHost: h\n\n"),
    ("Content-Length and chunked", "POST /echo HTTP/1.1\r\n" + H + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two Content-Lengths", "POST /echo HTTP/1.1\r\n" + H + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!"),
    ("twice the same Content-Length", "POST /echo HTTP/1.1\r\n" + H + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
    ("a list as Content-Length", "POST /echo HTTP/1.1\r\n" + H + "Content-Length: 2, 2\r\n\r\nhi"),
    ("a signed Content-Length", "POST /echo HTTP/1.1\r\n" + H + "Content-Length: +2\r\n\r\nhi"),
    ("a negative Content-Length", "POST /echo HTTP/1.1\r\n" + H + "Content-Length: -2\r\n\r\nhi"),
    ("chunked on HTTP/1.0", "POST /echo HTTP/1.0\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("an unknown Transfer-Encoding", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: brotli\r\n\r\n"),
    ("chunked twice", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked not last", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("gzip, chunked", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("identity", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi"),
    ("a bad chunk size", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ("a chunk extension", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n"),
    ("a trailer", "POST /echo HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-End: 1\r\n\r\n"),
    ("Expect: 100-continue", "POST /echo HTTP/1.1\r\n" + H + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"),
    ("Expect: something else", "POST /echo HTTP/1.1\r\n" + H + "Expect: beer\r\nContent-Length: 2\r\n\r\nhi"),
    ("contradictory scheme fields", "GET /pid HTTP/1.1\r\n" + H + "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n"),
    ("a path outside SCRIPT_NAME", "GET /pid HTTP/1.1\r\n" + H + "SCRIPT_NAME: /shop\r\n\r\n"),
    ("an exception in the application", "GET /error HTTP/1.1\r\n" + H + "\r\n"),
    ("an exception after the head", "GET /error_late HTTP/1.1\r\n" + H + "\r\n"),
    ("a response header with a line end", "GET /bad_header HTTP/1.1\r\n" + H + "\r\n"),
]  # fmt: skip


@case("requests", "status")
def statuses(peer):
    """The status lines of what comes back."""
    with peer.run() as run:
        seen = {}
        for what, request in REQUESTS:
            raw = run.answer(request.encode("latin-1"))
            lines = re.findall(rb"^HTTP/1\.\d (\d{3} [^\r\n]*)\r$", raw, re.M)
            seen[what] = ", ".join(line.decode("latin-1") for line in lines) or "closed"
        return seen


@case("requests", "the page of an error")
def error_page(peer):
    with peer.run() as run:
        raw = run.answer(b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n").decode("latin-1")
        head, _, body = raw.partition("\r\n\r\n")
        lines = head.split("\r\n")
        fields = {line.split(": ")[0]: line.split(": ", 1)[1] for line in lines[1:]}
        right = fields.pop("Content-Length", None) == str(len(body))
        fields.pop("Date", None)
        return {**fields, "Content-Length is right": right, "a title": "<title>Bad Request</title>" in body}


# ---- responses ----

PAGES = ["headers", "own", "hop", "chunks", "write", "too_long", "file", "status/200", "status/204", "status/304", "status/500"]
PAGES += ["body_of_none/204", "body_of_none/304"]


def head_of(raw):
    head, mark, body = raw.partition(b"\r\n\r\n")
    lines = [normalised(line) for line in head.decode("latin-1").split("\r\n")]
    return [re.sub(r"^Date: .* GMT$", "Date: D", line) for line in lines], body


@case("responses", "heads and bodies")
def responses(peer):
    with peer.run() as run:
        seen = {}
        for page in PAGES:
            for method, version in (("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.0")):
                if method == "HEAD" and page not in ("headers", "chunks", "file"):
                    continue
                raw = run.answer(b"%s /%s HTTP/%s\r\nHost: h\r\nConnection: close\r\n\r\n" % (method.encode(), page.encode(), version.encode()))
                lines, body = head_of(raw)
                what = "%s /%s %s" % (method, page, version)
                seen[what] = ", ".join(lines)
                seen[what + ", body"] = len(body) if page == "file" else body.decode("latin-1")
        return seen


@case("responses", "connections")
def connections(peer):
    """Whether one more request may follow, and what the answer says of it."""
    seen = {}
    tries = {
        "HTTP/1.1": "GET /headers HTTP/1.1\r\nHost: h\r\n\r\n",
        "HTTP/1.1, close": "GET /headers HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "HTTP/1.0": "GET /headers HTTP/1.0\r\n\r\n",
        "HTTP/1.0, keep-alive": "GET /headers HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "without a length": "GET /chunks HTTP/1.1\r\nHost: h\r\n\r\n",
        "after an error": "GET /error HTTP/1.1\r\nHost: h\r\n\r\n",
        "a body that is not read": "POST /headers HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    }
    with peer.run("--keep-alive", "5") as run:
        for what, request in tries.items():
            with run.connect() as c:
                c.send(request + "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                raw = c.rest()
            heads = re.findall(rb"HTTP/1\.[01] \d+", raw)
            kept = re.findall(rb"(?m)^Connection: ([^\r]*)", raw)
            seen[what] = "%d answers, Connection: %s" % (len(heads), kept[0].decode() if kept else "none")
    return seen


# ---- server hooks ----

HOOKS = "on_starting when_ready on_reload pre_exec on_exit nworkers_changed pre_fork post_fork post_worker_init".split()
HOOKS += "pre_request post_request worker_int worker_exit child_exit".split()


class Hooked:
    """A server with tests/apps/parity_hooks.py, and what those have noted."""

    def __init__(self, peer, raises=""):
        self.folder = tempfile.TemporaryDirectory(prefix="parity-")
        self.notes_file = os.path.join(self.folder.name, "notes")
        self.env = {"PARITY_NOTES": self.notes_file, "PARITY_RAISE": raises, "PYTHONPATH": harness.APPS}
        self.config = os.path.join(self.folder.name, "hooks.py" if peer.is_gunicorn else "hooks.conf")
        line = "from parity_hooks import {0}\n" if peer.is_gunicorn else '{0} = "parity_hooks:{0}";\n'
        with open(self.config, "w") as f:
            f.write("".join(line.format(name) for name in HOOKS))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def notes(self):
        try:
            with open(self.notes_file) as f:
                return [json.loads(line) for line in f]
        except FileNotFoundError:
            return []

    def count(self, name):
        return sum(note["hook"] == name for note in self.notes())

    def wait(self, name, n):
        wait_for(lambda: self.count(name) >= n, 30, "%s, %d times" % (name, n))

    def order(self, since=0):
        """Those of the server and its workers; requests are asked for until one is answered."""
        return " ".join(note["hook"] for note in self.notes()[since:] if "request" not in note["hook"])


@case("hooks", "order")
def hooks_in_order(peer):
    seen = {}
    with Hooked(peer) as h, peer.run("-c", h.config, env=h.env) as run:
        h.wait("post_worker_init", 1)
        seen["start"] = h.order()
        steps = {
            "TTIN": lambda: run.signal(signal.SIGTTIN),
            "TTOU": lambda: run.signal(signal.SIGTTOU),
            "HUP": lambda: run.signal(signal.SIGHUP),
        }
        workers, exits = 1, 0
        for name, step in steps.items():
            before = len(h.notes())
            step()
            workers += name != "TTOU"
            exits += name != "TTIN"
            h.wait("post_worker_init", workers)
            h.wait("child_exit", exits)
            # two processes: of what the old and the new worker do, either may be first
            certain = {"TTIN": 99, "TTOU": 0, "HUP": 3}[name]
            order = h.order(before).split()
            seen[name] = " ".join([*order[:certain], *sorted(order[certain:])])
        before = len(h.notes())
        run.end(signal.SIGTERM)
        seen["TERM"] = h.order(before)
        seen["numbers of workers"] = [note["numbers"] for note in h.notes() if note["hook"] == "nworkers_changed"]
    return seen


@case("hooks", "a worker that dies, INT")
def hooks_of_a_death(peer):
    seen = {}
    with Hooked(peer) as h, peer.run("-c", h.config, env=h.env) as run:
        pid = int(run.page("/pid").body)
        before = len(h.notes())
        os.kill(pid, signal.SIGKILL)
        h.wait("post_worker_init", 2)
        seen["SIGKILL"] = h.order(before)
        before = len(h.notes())
        run.end(signal.SIGINT)
        seen["INT"] = h.order(before)
    return seen


@case("hooks", "arguments")
def hooks_arguments(peer):
    seen = {}
    with Hooked(peer) as h, peer.run("-c", h.config, env=h.env) as run:
        h.wait("post_request", 1)
        before = len(h.notes())
        run.page("/headers/a%20b?c=d", [("X-One", "1")])
        wait_for(lambda: len(h.notes()) >= before + 2, 10, "post_request")
        run.end(signal.SIGTERM)
        for note in h.notes()[:before] + h.notes()[before + 2 :]:
            for item, value in note.items():
                if item == "kinds":
                    seen.update(value)
                elif item not in ("hook", "nr", "numbers") and note["hook"] != "post_request":
                    seen["%s, %s" % (note["hook"], item)] = value
        after = h.notes()[before + 1]
        seen.update({"post_request, %s" % item: after[item] for item in ("resp", "environ", "req")})
        seen["post_request, req"][5] = [name for name, _ in after["req"][5]]
    return seen


@case("hooks", "exceptions")
def hooks_that_raise(peer):
    seen = {}
    for name in ("on_starting", "post_fork", "post_worker_init"):
        with Hooked(peer, name) as h:
            seen.update({"%s: %s" % (name, i): v for i, v in exits(peer, ["-c", h.config, "-b", "127.0.0.1:%d" % harness.free_port()], env=h.env).items()})
    for name in ("pre_request", "post_request"):
        with Hooked(peer, name) as h, peer.run("-c", h.config, env=h.env) as run:
            seen[name + ": status"] = run.page("/headers").status
    return seen
