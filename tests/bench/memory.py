"""What a request that waits, and a connection that does not, cost in memory."""

import resource
import time
from statistics import median

from servers import GREENICORN, running
from tables import spread, verdict

PARKED = 1000
IDLE = 10000
SPARE = 200  # descriptors that are no connections
HOLD = 5  # seconds that parked requests sleep


def kernel_memory():
    """Bytes of kernel stacks, page tables and slab: of the whole machine, but little else changes meanwhile."""
    with open("/proc/meminfo") as f:
        sizes = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in f)}
    return sum(sizes[name] for name in ("KernelStack", "PageTables", "Slab"))


def connect(server, count):
    """Connections that have had a request answered, and wait."""
    connections = [server.connect() for _ in range(count)]
    for connection in connections:
        ask(connection)
    return connections


def ask(connection):
    connection.get("/")
    return connection.response().text


def close(connections):
    for connection in connections:
        connection.close()


def park(connections):
    """A sleeping request on each; the first connection is kept to ask how many sleep."""
    control, *others = connections
    for connection in others:
        connection.get("/%d" % HOLD)
    deadline = time.monotonic() + HOLD
    while int(ask(control)) != len(others):
        if time.monotonic() > deadline:
            raise SystemExit("not all requests were parked within %d s" % HOLD)
        time.sleep(0.05)


def parked_costs(options):
    """Bytes of RSS and of the kernel's memory for each parked request."""
    with running([GREENICORN], "park", options.build) as (server,):
        before = server.rss()
        connections = connect(server, PARKED + 1)
        kernel = kernel_memory()
        park(connections)
        costs = (server.rss() - before) / PARKED, (kernel_memory() - kernel) / PARKED
        if int(ask(connections[0])) != PARKED:
            raise SystemExit("requests ended while they were measured")
        for connection in connections[1:]:
            assert connection.response().status == 200
        close(connections)
    return costs


def idle_growth(options, count):
    """Bytes of RSS that connections add which have had an answer and are kept."""
    with running([GREENICORN], "hello", options.build, connections=count + SPARE) as (server,):
        before = server.rss()
        connections = connect(server, count)
        growth = server.rss() - before
        for connection in connections:
            ask(connection)  # or it was closed, and cost nothing
        close(connections)
    return growth


class MemoryScenario:
    what = (
        "Memory of greenicorn. Parked: 1,000 requests in time.sleep; RSS beyond that of the same server before there were "
        "connections, the kernel's part (stacks, page tables, slab) beyond that of the same connections when idle. "
        "Idle: keep-alive connections that have had one request answered; growth of the RSS of master and worker."
    )
    columns = ["memory", "median (range)", "target", "met"]

    def run(self, options):
        parked = [parked_costs(options) for _ in range(options.rounds)]
        rss = [rss / 1024 for rss, _ in parked]
        kernel = [kernel / 1024 for _, kernel in parked]
        both = [sum(costs) / 1024 for costs in parked]
        return [
            ["parked request, RSS", spread(rss, "%.1f", " KiB"), *verdict([("≤ 24 KiB", median(rss) <= 24)])],
            ["parked request, kernel", spread(kernel, "%.1f", " KiB"), "", ""],
            ["parked request, in all", spread(both, "%.1f", " KiB"), *verdict([("≤ 50 KiB", median(both) <= 50)])],
            self.idle_row(options),
        ]

    def idle_row(self, options):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        count = min(IDLE, limit - 2 * SPARE)
        growth = [idle_growth(options, count) / 1e6 for _ in range(options.rounds)]
        most = 15 * count / IDLE
        target = [("≤ %.3g MB" % most, median(growth) <= most)]
        return ["{:,} idle connections, RSS".format(count), spread(growth, "%.1f", " MB"), *verdict(target)]
