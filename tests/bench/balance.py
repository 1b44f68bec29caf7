"""balance.py BUILD: how four workers share connections, and what a connection costs them together, beside one.

./dev bench balance runs it. Shares are of 400 kept connections; the cost is CPU time of all workers for a connection
of one request, one and four workers taking turns.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "server"))
os.environ["GREENICORN_BUILD"] = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build-release")

import harness  # noqa: E402
from test_balance import CONNECTIONS, WORKERS, Crowd, ask, one_busy  # noqa: E402

ROUNDS, SECONDS = 5, 3
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def shares(title, counts):
    numbers = sorted(counts.values(), reverse=True)
    print("%-44s %s  most/mean %.2f" % (title, " ".join(map(str, numbers)), numbers[0] * len(numbers) / sum(numbers)))


def sharing(folder):
    server = harness.Server(folder, "balance", workers=WORKERS, timeout=0)
    try:
        with Crowd(server) as crowd:
            crowd.come(CONNECTIONS)
            shares("400 connections at once", crowd.counts())
        with Crowd(server) as crowd:
            crowd.come(CONNECTIONS, each=ask)
            shares("400 one after another, a request on each", crowd.counts())
        with one_busy(server, folder), Crowd(server) as crowd:
            crowd.come(CONNECTIONS, each=ask)
            shares("the same while one worker computes", crowd.counts())
    finally:
        server.stop()


def cost(server, clients):
    """Microseconds of the workers' CPU for a connection."""
    before, cpu = served(server), cpu_seconds(server.workers())
    subprocess.run(
        ["wrk", "-t1", "-c%d" % clients, "-d%d" % SECONDS, "-H", "Connection: close", server.url()],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return (cpu_seconds(server.workers()) - cpu) / (served(server) - before) * 1e6


def served(server):
    """Lines of the access log: each is a connection."""
    size = os.path.getsize(server.settings["accesslog"])
    return size // len("x\n")


def costs(folder):
    servers = {}
    for n in (1, WORKERS):
        place = os.path.join(folder, str(n))
        os.mkdir(place)
        servers[n] = harness.Server(
            place, "balance", workers=n, accesslog=os.path.join(place, "log"), access_log_format="x"
        )
    try:
        for clients in (1, 8, 64):
            found = {n: [] for n in servers}
            for _ in range(ROUNDS):
                for n, server in servers.items():
                    found[n].append(cost(server, clients))
            one, all_of_them = (statistics.median(found[n]) for n in servers)
            print(
                "a connection of one request, %2d clients      1 worker %.1f us, %d workers %.1f us  ratio %.2f"
                % (clients, one, WORKERS, all_of_them, all_of_them / one)
            )
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sharing(pathlib.Path(folder))
        costs(folder)
