"""Scenarios in which wrk asks as fast as it can: CPU time per request."""

import re
import subprocess
from statistics import median

from servers import FLOOR, GREENICORN, GUNICORN, PYWSGI, UWSGI, UWSGI_CLOSING, running
from tables import spread, verdict


class Load:
    """What one run of wrk gave: requests/s, p99 in ms, microseconds of the server's CPU per request."""

    def __init__(self, server, connections, seconds):
        before = server.cpu()
        text = wrk(server, connections, seconds)
        used = server.cpu() - before
        requests = int(re.search(r"(\d+) requests in", text)[1])
        # wrk counts a connection that the server closes as an error.
        if not requests or "Non-2xx" in text or (server.keeps and "Socket errors" in text):
            raise SystemExit("%s failed:\n%s\n%s" % (server.name, text, server.log_text()))
        self.rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
        self.p99 = milliseconds(re.search(r"^ +99% +(\S+)", text, re.M)[1])
        self.cpu = used / requests * 1e6


def wrk(server, connections, seconds):
    command = "wrk --latency -t1 -c%d -d%ds --timeout 10s http://%s:%d/" % (connections, seconds, *server.address)
    return subprocess.run(command.split(), check=True, timeout=seconds + 30, capture_output=True, text=True).stdout


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


class LoadScenario:
    """Servers that take turns under wrk.

    times is the target: at least how many times greenicorn's CPU per request another server
    uses; rate and p99 are greenicorn's own targets.
    """

    columns = ["scenario", "server", "req/s", "p99", "CPU µs/request", "CPU to greenicorn's", "target", "met"]

    def __init__(self, what, app, connections, servers, times, rate=None, p99=None):
        self.what = what
        self.app = app
        self.connections = connections
        self.servers = servers
        self.times = times
        self.rate = rate
        self.p99 = p99

    def run(self, options):
        loads = {name: [] for name in self.servers}
        with running(self.servers, self.app, options.build) as servers:
            for server in servers:
                wrk(server, self.connections, 1)
            for _ in range(options.rounds):
                for server in servers:
                    loads[server.name].append(Load(server, self.connections, options.seconds))
        return [self.row(name, loads[name], loads[GREENICORN]) for name in self.servers]

    def row(self, name, loads, greenicorn):
        cpu = [load.cpu for load in loads]
        rate = median(load.rate for load in loads)
        p99 = median(load.p99 for load in loads)
        ratio = median(cpu) / median(load.cpu for load in greenicorn)
        targets = []
        if name in self.times:
            targets.append(("CPU ≥ %g×" % self.times[name], ratio >= self.times[name]))
        if name == GREENICORN and self.rate:
            targets.append(("≥ {:,} req/s".format(self.rate), rate >= self.rate))
        if name == GREENICORN and self.p99:
            targets.append(("p99 < %d ms" % self.p99, p99 < self.p99))
        figures = ["{:,.0f}".format(rate), "%.1f ms" % p99, spread(cpu, "%.1f"), "%.1f×" % ratio]
        return [self.app, name, *figures, *verdict(targets)]


LOADS = {
    "hello": LoadScenario(
        "Hello world, 64 keep-alive connections.",
        "hello", 64, [GREENICORN, GUNICORN, PYWSGI, UWSGI, UWSGI_CLOSING, FLOOR],
        {GUNICORN: 15, UWSGI: 2, UWSGI_CLOSING: 2},
    ),
    "flask": LoadScenario(
        "A Flask route that returns a small JSON, 64 keep-alive connections.",
        "flask_json", 64, [GREENICORN, GUNICORN, PYWSGI, UWSGI], {GUNICORN: 2},
    ),
    "sleep": LoadScenario(
        "Requests that each sleep 0.1 s, 1,000 at a time in one worker (so that at most 10,000 a second are possible).",
        "sleep", 1000, [GREENICORN, GUNICORN, PYWSGI], {GUNICORN: 6}, rate=9000, p99=200,
    ),
}  # fmt: skip
