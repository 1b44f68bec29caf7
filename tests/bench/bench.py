"""Compares greenicorn with gunicorn's gevent worker, gevent.pywsgi and uWSGI: ./dev bench [SCENARIO…].

The main figure is CPU time per request: what the kernel says the server's processes used, divided
by the requests that wrk counted. It is nearly independent of how fast the client is, which on a
small machine the rate is not. The servers of a scenario run side by side and take turns
(A B C A B C), so that a slow moment of the machine falls on all of them.
"""

import argparse
import contextlib
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "server"))

from harness import Connection, children_of, free_port, stop_process, wait_for  # noqa: E402

PYTHON = "/usr/bin/python3"
TICK = os.sysconf("SC_CLK_TCK")
WARM_UP = 0.5
CONNECTIONS = 64

# ---- servers ----


def greenicorn(build, port, app):
    master = os.path.join(build, "master", "greenicorn")
    return [master, "-b", "127.0.0.1:%d" % port, "-w", "1", "--worker-connections", "2000", target(app)]


def gunicorn(build, port, app):
    options = "-k gevent -w 1 --worker-connections 2000 --keep-alive 75 --log-level warning"
    return ["/usr/bin/gunicorn", *options.split(), "-b", "127.0.0.1:%d" % port, target(app)]


def pywsgi(build, port, app):
    return [PYTHON, "-B", os.path.join(HERE, "apps.py"), str(port), app]


def uwsgi(socket, port, app):
    options = "--plugin python3 --master --processes 1 --disable-logging --die-on-term --need-app --listen 1024"
    return ["/usr/bin/uwsgi", *options.split(), socket, "127.0.0.1:%d" % port, "--module", target(app)]


def uwsgi_keeping(build, port, app):
    return uwsgi("--http11-socket", port, app)


def uwsgi_closing(build, port, app):
    return uwsgi("--http-socket", port, app)


GREENICORN = "greenicorn"
GUNICORN = "gunicorn gevent"
PYWSGI = "gevent.pywsgi"
UWSGI = "uWSGI http11-socket"
UWSGI_CLOSING = "uWSGI http-socket"
COMMANDS = {
    GREENICORN: greenicorn,
    GUNICORN: gunicorn,
    PYWSGI: pywsgi,
    UWSGI: uwsgi_keeping,
    UWSGI_CLOSING: uwsgi_closing,
}


def target(app):
    return "apps:%s" % (app + "()" if app.startswith("flask") else app)


class Server:
    """One server with one application, until stop."""

    def __init__(self, name, app, build, env=None):
        self.name = name
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        worker = os.path.join(build, "worker", "greenicorn-worker")
        self.process = subprocess.Popen(
            COMMANDS[name](build, self.port, app), cwd=HERE, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=dict(os.environ, GREENICORN_WORKER=worker, PYTHONDONTWRITEBYTECODE="1", **(env or {})),
        )  # fmt: skip

    def wait_ready(self, path="/"):
        try:
            wait_for(lambda: self.process.poll() is not None or self.answers(path), 20, self.name)
            assert self.process.poll() is None, "%s ended" % self.name
        except AssertionError as error:
            self.log.seek(0)
            raise SystemExit("%s:\n%s" % (error, self.log.read().decode(errors="replace"))) from None
        if self.name != UWSGI_CLOSING:
            self.check_keeps(path)

    def answers(self, path):
        try:
            with Connection(("127.0.0.1", self.port), 10) as connection:
                connection.get(path, close=True)
                return connection.response().status == 200
        except OSError:
            return False

    def check_keeps(self, path):
        """A server that closes each connection would be measured at something else."""
        with Connection(("127.0.0.1", self.port), 10) as connection:
            for _ in range(3):
                connection.get(path)
                assert connection.response().status == 200

    def processes(self):
        found = [self.process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def cpu(self):
        """Seconds of CPU, user and system, that the processes have used."""
        return sum(cpu_of(pid) for pid in self.processes())

    def stop(self):
        pids = self.processes()
        if stop_process(self.process, 5) is None:
            for pid in pids[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.log.close()


def cpu_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(ticks) for ticks in fields[11:13]) / TICK


@contextlib.contextmanager
def running(names, app, build, env=None):
    with contextlib.ExitStack() as stack:
        servers = []
        for name in names:
            servers.append(Server(name, app, build, env))
            stack.callback(servers[-1].stop)
        for server in servers:
            server.wait_ready()
        yield servers


# ---- load by wrk ----


class Load:
    """What one run of wrk gave: requests/s, p99 in ms, microseconds of the server's CPU per request."""

    def __init__(self, server, connections, seconds):
        before = server.cpu()
        text = wrk(server, connections, seconds)
        used = server.cpu() - before
        requests = int(re.search(r"(\d+) requests in", text)[1])
        if not requests or "Non-2xx" in text or (server.name != UWSGI_CLOSING and "Socket errors" in text):
            raise SystemExit("%s failed:\n%s" % (server.name, text))
        self.rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
        self.p99 = milliseconds(re.search(r"99%\s+(\S+)", text)[1])
        self.cpu = used / requests * 1e6


def wrk(server, connections, seconds):
    command = "wrk --latency -t1 -c%d -d%gs --timeout 10s http://127.0.0.1:%d/"
    command %= connections, seconds, server.port
    return subprocess.run(command.split(), check=True, timeout=seconds + 30, capture_output=True, text=True).stdout


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


class LoadScenario:
    """wrk against several servers. Targets: of greenicorn's own figures, and of its share of another's CPU."""

    def __init__(self, app, connections, servers, shares, rate=None, p99=None):
        self.app = app
        self.connections = connections
        self.servers = servers
        self.shares = shares
        self.rate = rate
        self.p99 = p99

    def run(self, options):
        runs = {name: [] for name in self.servers}
        with running(self.servers, self.app, options.build) as servers:
            for server in servers:
                wrk(server, self.connections, 1)
            for _ in range(options.rounds):
                for server in servers:
                    runs[server.name].append(Load(server, self.connections, options.seconds))
        return [self.row(name, runs) for name in self.servers]

    def row(self, name, runs):
        cpu = [load.cpu for load in runs[name]]
        rate = median(load.rate for load in runs[name])
        p99 = median(load.p99 for load in runs[name])
        ratio = median(cpu) / median(load.cpu for load in runs[GREENICORN])
        targets = []
        if name in self.shares:
            targets.append(("CPU ≥ %g×" % self.shares[name], ratio >= self.shares[name]))
        if name == GREENICORN and self.rate:
            targets.append(("≥ {:,} req/s".format(self.rate), rate >= self.rate))
        if name == GREENICORN and self.p99:
            targets.append(("p99 < %d ms" % self.p99, p99 < self.p99))
        return [self.app, name, "{:,.0f}".format(rate), "%.1f ms" % p99, spread(cpu), "%.1f×" % ratio, *verdict(targets)]

    columns = ["scenario", "server", "req/s", "p99", "CPU µs/request", "CPU to greenicorn's", "target", "met"]


median = statistics.median


def spread(figures):
    return "%.1f (%.1f–%.1f)" % (median(figures), min(figures), max(figures))


def verdict(targets):
    return ["; ".join(text for text, _ in targets), "; ".join("yes" if met else "NO" for _, met in targets)]


# ---- the whole ----

SCENARIOS = {
    "hello": LoadScenario(
        "hello", CONNECTIONS, [GREENICORN, GUNICORN, PYWSGI, UWSGI, UWSGI_CLOSING],
        {GUNICORN: 15, UWSGI: 2, UWSGI_CLOSING: 2},
    ),
    "flask": LoadScenario("flask_json", CONNECTIONS, [GREENICORN, GUNICORN, PYWSGI, UWSGI], {GUNICORN: 2}),
}  # fmt: skip


def table(columns, rows):
    """Markdown that reads as text."""
    cells = [columns, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("| %s |" % " | ".join(text.ljust(width) for text, width in zip(row, widths)) for row in cells)


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description="Compare greenicorn with other servers.")
    parser.add_argument("scenario", nargs="*", metavar="scenario", help="of %s (all)" % ", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3, help="times that each server has its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="that a turn takes (%(default)s)")
    parser.add_argument("--build", default=os.path.join(ROOT, "build-release"), help="(%(default)s)")
    options = parser.parse_args()
    for name in options.scenario:
        if name not in SCENARIOS:
            parser.error("no scenario %r; there are %s" % (name, ", ".join(SCENARIOS)))
    options.build = os.path.abspath(options.build)
    return options


def interrupt(signum, frame):
    """Leaves by the same way as the end, where servers are stopped."""
    raise SystemExit(128 + signum)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, interrupt)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in options.scenario or SCENARIOS:
        scenario = SCENARIOS[name]
        print("\n%s\n" % table(scenario.columns, scenario.run(options)), flush=True)


if __name__ == "__main__":
    main()
