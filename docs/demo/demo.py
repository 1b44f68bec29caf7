"""What green threads give, in ten seconds: slow requests that overlap within one worker.

Every view below is ordinary blocking code. The page asks /run for N of them at once; /run opens N
connections to this same worker and streams, as lines of JSON, when each was sent and answered.
"""

import inspect
import json
import os
import queue
import selectors
import socket
import sqlite3
import subprocess
import time
import urllib.request

from flask import Flask, Response, abort, render_template, request

app = Flask(__name__)
SECONDS = 0.5
MOST = 500
handover = queue.Queue()


def sleep(base, n):
    time.sleep(SECONDS)
    return "slept"


def sqlite(base, n):
    with sqlite3.connect(":memory:") as db:
        db.create_function("wait", 1, time.sleep)  # C calls Python calls C
        db.execute("SELECT wait(?)", (SECONDS,)).fetchone()
    return "selected"


def http(base, n):
    with urllib.request.urlopen(base + "slow/sleep") as answer:
        return answer.read()


def process(base, n):
    return subprocess.run(["sleep", str(SECONDS)], check=True, capture_output=True).stdout


def handed(base, n):
    if n % 2:
        time.sleep(SECONDS)
        handover.put("from request %d" % n)
        return "put"
    return handover.get(timeout=10)


KINDS = {
    "sleep": (sleep, "time.sleep"),
    "sqlite": (sqlite, "SQLite, waiting inside a query"),
    "http": (http, "an HTTP request to this server"),
    "process": (process, "a child process"),
    "handed": (handed, "a queue between two requests"),
}


@app.get("/")
def page():
    kinds = {name: {"title": title, "source": inspect.getsource(view)} for name, (view, title) in KINDS.items()}
    return render_template("page.html", kinds=kinds, seconds=SECONDS, most=MOST, pid=os.getpid())


@app.get("/slow/<kind>")
def slow(kind):
    if kind not in KINDS:
        abort(404)
    return KINDS[kind][0](request.host_url, request.args.get("n", 0, int))


class Client:
    """N requests at once on connections of their own; events() tells what happens to them."""

    def __init__(self, address, host, kind, n):
        self.selector = selectors.DefaultSelector()
        self.start = time.monotonic()
        self.open = 0
        for i in range(n):
            sock = socket.create_connection(address)
            head = "GET /slow/%s?n=%d HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (kind, i, host)
            sock.sendall(head.encode())
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, [i, b"", self.now()])
            self.open += 1

    def now(self):
        return round(time.monotonic() - self.start, 4)

    def receive(self, key):
        """An event when the response is complete."""
        try:
            data = key.fileobj.recv(65536)
        except BlockingIOError:
            return None
        key.data[1] += data
        if data:
            return None
        self.selector.unregister(key.fileobj)
        key.fileobj.close()
        self.open -= 1
        i, answer, sent = key.data
        return {"i": i, "from": sent, "to": self.now(), "ok": answer.startswith(b"HTTP/1.1 200 ")}

    def events(self):
        for key in self.selector.get_map().values():
            yield {"i": key.data[0], "from": key.data[2]}
        while self.open:
            for key, _ in self.selector.select(30):
                event = self.receive(key)
                if event:
                    yield event
        yield {"total": self.now(), "pid": os.getpid()}

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


@app.get("/run")
def run():
    kind, n = request.args.get("kind", "sleep"), request.args.get("n", 100, int)
    if kind not in KINDS or not 1 <= n <= MOST:
        abort(400)
    n += kind == "handed" and n % 2  # they come in pairs
    address, host = (request.environ["SERVER_NAME"], int(request.environ["SERVER_PORT"])), request.host

    def lines():
        client = Client(address, host, kind, n)
        try:
            for event in client.events():
                yield json.dumps(event) + "\n"
        finally:
            client.close()

    return Response(lines(), mimetype="application/x-ndjson", headers={"Cache-Control": "no-store"})
