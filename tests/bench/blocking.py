"""A hundred Flask requests at once that block in every ordinary way: how long until all are answered."""

import asyncio
import contextlib
import tempfile
import time
from statistics import median

from servers import GREENICORN, GUNICORN, HOST, running
from tables import spread, verdict

from harness import Postgres, Redis, free_port  # servers has put it on the path

REQUESTS = 100
WAITS = {
    "sleep": "time.sleep(0.2)",
    "postgres": "SELECT pg_sleep(0.2) by psycopg2, a connection each",
    "redis": "redis BLPOP of 0.2 s",
    "requests": "requests.get from a server that takes 0.2 s",
    "subprocess": 'subprocess.run(["sleep", "0.2"])',
    "queue": "queue.Queue handed over between pairs of requests",
}
# psycopg2 blocks gevent as a whole, for 20 s with a hundred requests: a fifth of them shows it as well.
FEWER = {(GUNICORN, "postgres"): 20}


async def ask(address, path):
    """The body of the answer, on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(("GET %s HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n" % path).encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise SystemExit("%s was answered by\n%s" % (path, answer.decode(errors="replace")))
    return body.decode()


async def burst(server, wait, count):
    """Seconds until all of count requests, started at once, have the answer that is theirs."""
    start = time.monotonic()
    asking = asyncio.gather(*(ask(server.address, "/%s/%d" % (wait, n)) for n in range(count)))
    bodies = await asyncio.wait_for(asking, 60)
    seconds = time.monotonic() - start
    if [body.strip() for body in bodies] != [str(n) for n in range(count)]:
        raise SystemExit("%s mixed up the answers to %s: %s" % (server.name, wait, bodies))
    return seconds


async def answer_slowly(reader, writer):
    """The server that requests.get asks: it returns the last part of the path after 0.2 s."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        body = head.split()[1].rpartition(b"/")[2]
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


async def measure(servers, port, rounds):
    """Seconds of each burst by (wait, server's name), after one pair of requests that loads what is lazy."""
    figures = {}
    slow = await asyncio.start_server(answer_slowly, HOST, port, backlog=REQUESTS)
    async with slow:
        for wait in WAITS:
            for server in servers:
                await burst(server, wait, 2)
            for _ in range(rounds):
                for server in servers:
                    count = FEWER.get((server.name, wait), REQUESTS)
                    seconds = await burst(server, wait, count) * REQUESTS / count
                    figures.setdefault((wait, server.name), []).append(seconds)
    return figures


@contextlib.contextmanager
def databases():
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        postgres = Postgres(folder)
        stack.callback(postgres.stop)
        redis = Redis(folder)
        stack.callback(redis.stop)
        yield {"BENCH_POSTGRES": postgres.dsn, "BENCH_REDIS": str(redis.port)}


class BlockingScenario:
    what = (
        "A hundred Flask requests started at once, each waiting 0.2 s, in one worker: seconds until all are answered. "
        "gunicorn gevent got 20 of the psycopg2 requests, and its figure is five times what it took."
    )
    columns = ["blocking in", "server", "seconds", "target", "met"]

    def run(self, options):
        with databases() as env:
            port = free_port()
            env["BENCH_SLOW"] = "http://%s:%d" % (HOST, port)
            with running([GREENICORN, GUNICORN], "flask_blocking", options.build, env=env) as servers:
                figures = asyncio.run(measure(servers, port, options.rounds))
        return [self.row(*key, seconds) for key, seconds in figures.items()]

    def row(self, wait, name, seconds):
        targets = [("< 1 s", median(seconds) < 1)] if name == GREENICORN else []
        scaled = "5 × 20 requests: " if (name, wait) in FEWER else ""
        return [WAITS[wait], name, scaled + spread(seconds, "%.2f"), *verdict(targets)]
