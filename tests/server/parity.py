"""The same command lines, requests and signals to gunicorn and to greenicorn, and what came of them.

A case (parity_cases.py) runs a server and returns what it saw as {item: value}. greenicorn must show
what gunicorn 26.1 shows, unless parity_differences.py has the item, with the reason. What gunicorn 26.1 showed
is recorded in gunicorn-26.1.json, for machines that have only Debian's; `./dev test parity` runs
26.1 itself, from PyPI, and renews the recording and the table in docs/gunicorn.md.
"""

import collections
import fnmatch
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import harness
from harness import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDING = os.path.join(HERE, "gunicorn-26.1.json")
DOCUMENT = os.path.join(harness.ROOT, "docs", "gunicorn.md")
BEGIN, END = "<!-- parity: begin -->\n", "<!-- parity: end -->\n"
DEBIAN, NEWEST = "/usr/bin/gunicorn", os.environ.get("GREENICORN_GUNICORN")

CASES = []  # (group, name, function)


def case(group, name):
    """A function of a Peer that returns {item: value}."""

    def add(function):
        CASES.append((group, name, function))
        return function

    return add


class Peer:
    """A server's program; run() starts it, call() waits for its end."""

    def __init__(self, name, program):
        self.name = name
        self.program = program
        self.is_gunicorn = name != "greenicorn"

    def command(self, args, app):
        kind = ["-k", "gevent"] if self.is_gunicorn and "-k" not in args else []
        return [self.program, *kind, *args, *([app] if app else [])]

    def environment(self, env, home=None):
        clean = {k: v for k, v in os.environ.items() if k not in ("PORT", "WEB_CONCURRENCY", "VIRTUAL_ENV", "NOTIFY_SOCKET")}
        clean.update({"GREENICORN_WORKER": harness.WORKER, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"})
        if home:  # where gunicorn puts its control socket
            clean.update(HOME=home, XDG_RUNTIME_DIR=home)
        return {**clean, **(env or {})}

    def call(self, args, app="parity_app:app", env=None, folder=None):
        """(exit status, what it printed, normalised)."""
        folder = folder or harness.APPS
        done = subprocess.run(
            self.command(args, app), cwd=folder, env=self.environment(env), capture_output=True, text=True,
            timeout=60 * harness.PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, normalised(done.stdout + done.stderr)

    def run(self, *args, **options):
        return Running(self, args, **options)


def normalised(text, port=None):
    """The text without what differs between any two runs."""
    text = re.sub(r"\b[Gg](unicorn|reenicorn)\b", "NAME", text)
    text = re.sub(r"NAME \d[\w.~+-]*", "NAME VERSION", text)
    text = re.sub(r"version \d[\w.~+-]*", "version VERSION", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\('127\.0\.0\.1', \d+\)", "(ADDRESS)", text)
    text = re.sub(r"/[\w/.-]*/parity-\w+[\w/.-]*", "PATH", text)
    text = re.sub(r"\((\d{2,})\)", "(PID)", text)
    text = re.sub(r"NAME/[\d.]+[\w.~+-]*|NAME/VERSION", "NAME/VERSION", text)
    return re.sub(r"(pid:? ?|PID )\d+", r"\1PID", text)


class Running:
    """A server that listens; .port, or .path of a unix socket, is where."""

    def __init__(self, peer, args, app="parity_app:app", env=None, unix=False, workers=1):
        self.peer = peer
        self.workers_wanted = workers
        self.folder = tempfile.mkdtemp(prefix="parity-")
        self.port = harness.free_port()
        self.path = os.path.join(self.folder, "socket")
        self.address = self.path if unix else ("127.0.0.1", self.port)
        self.log = os.path.join(self.folder, "error.log")
        self.access = os.path.join(self.folder, "access.log")
        bind = "unix:" + self.path if unix else "127.0.0.1:%d" % self.port
        args = ["-b", bind, "-w", str(workers), "--chdir", harness.APPS, "--access-logfile", self.access, *args]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                peer.command(args, app), cwd=self.folder, env=peer.environment(env, self.folder),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self):
        try:
            wait_for(self.serves, 30, "a server")
            wait_for(lambda: os.path.getsize(self.access), 10, "the line of that in the access log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            if harness.stop_process(self.process, 10, signal.SIGQUIT) is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def serves(self):
        assert self.process.poll() is None, "%s ended:\n%s" % (self.peer.name, self.text())
        if self.text().count("Booting worker") < self.workers_wanted:
            return False
        try:
            with self.connect() as c:
                c.get("/pid", close=True)
                return c.response().status > 0
        except (OSError, harness.Closed):
            return False

    def connect(self):
        return harness.Connection(self.address)

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def lines(self):
        """'LEVEL message' of each line in the log's form, normalised, without repeats.

        Not that of gunicorn's control socket: a thread writes it at any time. Nor greenicorn's
        about root: the user of the test decides it.
        """
        passed_over = ("INFO Control socket listening", "WARNING running as root")
        found = re.findall(r"^\[\d{4}-[^]]+\] \[\d+\] \[(\w+)\] (.*)$", self.text(), re.M)
        lines = {"%s %s" % (level, normalised(message)) for level, message in found}
        return {line for line in lines if not line.startswith(passed_over)}

    def answer(self, data):
        """What comes for these bytes until the server closes, or is silent; None: nothing."""
        with self.connect() as c:
            c.sock.settimeout(3 * harness.PATIENCE)
            c.send(data)
            received = b""
            try:
                while piece := c.sock.recv(65536):
                    received += piece
            except (ConnectionResetError, TimeoutError):
                pass
        return received

    def page(self, path, fields=(), method="GET", body=None):
        with self.connect() as c:
            c.get(path, fields, close=True, method=method, body=body)
            return c.response(method)

    def workers(self):
        return harness.children_of(self.process.pid)

    def signal(self, sig):
        self.process.send_signal(sig)

    def wait_workers(self, n, besides=()):
        """n workers, none of them of besides; each answers."""

        def there():
            pids = set(self.workers())
            return pids if len(pids) == n and not pids & set(besides) else None

        return wait_for(there, 40, "%d workers" % n)

    def wait_log(self, words, count=1):
        wait_for(lambda: self.text().count(words) >= count, 30, "%r in the log of %s" % (words, self.peer.name))

    def end(self, sig, seconds=40):
        """The exit status after a signal."""
        self.signal(sig)
        return self.process.wait(seconds * harness.PATIENCE)


def observe(peer, groups=None):
    """{group: {"name: item": value}} of all cases."""
    found = collections.defaultdict(dict)
    for group, name, function in CASES:
        if groups and group not in groups:
            continue
        began = time.monotonic()
        try:
            seen = function(peer)
        except (AssertionError, OSError, subprocess.SubprocessError, harness.Closed) as error:
            seen = {"": "failed: %s" % str(error)[:200]}
        for item, value in seen.items():
            found[group]["%s: %s" % (name, item) if item else name] = value
        if os.environ.get("GREENICORN_PARITY_TIMES"):
            print("%-10s %-60s %.1f s" % (peer.name, name, time.monotonic() - began), file=sys.stderr)
    return json.loads(json.dumps(found))


def reason(group, item):
    import parity_differences

    for pattern, why in parity_differences.DIFFERENCES:
        if fnmatch.fnmatchcase("%s/%s" % (group, item), pattern):
            return pattern, why
    return None


Verdict = collections.namedtuple("Verdict", "group item theirs ours kind why")


def compare(theirs, ours, newest=None):
    """A Verdict of each item: same, newer (as gunicorn 26.1), different (with a reason), or wrong."""
    verdicts = []
    for group in dict.fromkeys(group for group, _, _ in CASES if group in theirs or group in ours):
        a, b = theirs.get(group, {}), ours.get(group, {})
        n = (newest or {}).get(group, {})
        for item in sorted({*a, *b}):
            x, y = a.get(item), b.get(item)
            known = reason(group, item)
            if x == y:
                kind = "same"
            elif newest and y == n.get(item):
                kind = "newer"
            else:
                kind = "different" if known else "wrong"
            verdicts.append(Verdict(group, item, x, y, kind, known[1] if known else ""))
    return verdicts


def unused_differences(verdicts):
    """Reasons that explain nothing any more."""
    import parity_differences

    used = {reason(v.group, v.item)[0] for v in verdicts if v.kind == "different"}
    return [pattern for pattern, _ in parity_differences.DIFFERENCES if pattern not in used]


def greenicorn():
    return Peer("greenicorn", harness.MASTER)


def recorded():
    with open(RECORDING) as f:
        return json.load(f)


def cell(value):
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value)
    text = text.replace("|", "\\|").replace("\r", "\\r").replace("\n", "\\n")
    return "`%s`" % text if text not in ("–", "") else text


def table(verdicts):
    """The lines for docs/gunicorn.md."""
    lines = []
    for group in dict.fromkeys(v.group for v in verdicts):
        mine = [v for v in verdicts if v.group == group]
        same = [v for v in mine if v.kind == "same"]
        lines += ["", "### %s: %d of %d the same" % (group, len(same), len(mine)), ""]
        other = [v for v in mine if v.kind != "same"]
        if other:
            lines += ["| case | gunicorn 26.1 | greenicorn | why |", "|---|---|---|---|"]
        for v in other:
            lines.append("| %s | %s | %s | %s |" % (v.item.replace("|", "\\|"), cell(v.theirs), cell(v.ours), v.why))
        if same:
            lines += ["", "<details><summary>The same</summary>", ""]
            lines += ["- %s: %s" % (v.item, cell(v.ours)) for v in same]
            lines += ["", "</details>"]
    return "\n".join(lines).strip() + "\n"


def write_document(verdicts):
    with open(DOCUMENT) as f:
        text = f.read()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    with open(DOCUMENT, "w") as f:
        f.write(before + BEGIN + table(verdicts) + END + after)


def main(args):
    """Compare with gunicorn 26.1; --write renews the recording and the document."""
    import parity_cases  # noqa: F401 - fills CASES

    theirs = observe(Peer("gunicorn 26.1", NEWEST)) if NEWEST else recorded()
    ours = observe(greenicorn())
    verdicts = compare(theirs, ours)
    for v in verdicts:
        if v.kind == "wrong":
            print("%s/%s\n    gunicorn   %r\n    greenicorn %r" % (v.group, v.item, v.theirs, v.ours))
    for pattern in unused_differences(verdicts):
        print("explains nothing: %s" % pattern)
    kinds = collections.Counter(v.kind for v in verdicts)
    print(", ".join("%d %s" % (n, kind) for kind, n in kinds.items()))
    if "--write" in args:
        if NEWEST:
            with open(RECORDING, "w") as f:
                json.dump(theirs, f, indent=1, sort_keys=True)
                f.write("\n")
        write_document(verdicts)
    return 1 if kinds["wrong"] else 0


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    sys.modules["parity"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
