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
import threading
import time
import urllib.request

from flask import Flask, Response, abort, render_template, request

app = Flask(__name__)
SECONDS = 0.5
MOST = 500
PATIENCE = 30
handover = queue.Queue()


def sleep(n):
    time.sleep(SECONDS)


def sqlite(n):
    with sqlite3.connect(":memory:") as db:
        db.create_function("wait", 1, time.sleep)  # C calls Python calls C
        db.execute("SELECT wait(?)", (SECONDS,)).fetchone()


def http(n):
    with urllib.request.urlopen(here() + "/slow/sleep") as answer:
        return answer.read()


def process(n):
    subprocess.run(["sleep", str(SECONDS)], check=True)


def handed(n):
    if n % 2:
        time.sleep(SECONDS)
        handover.put("from request %d" % n)
    else:
        return handover.get(timeout=PATIENCE)


KINDS = {
    "sleep": (sleep, "time.sleep"),
    "sqlite": (sqlite, "SQLite, within a query"),
    "http": (http, "HTTP, a request to this server"),
    "process": (process, "a child process"),
    "handed": (handed, "a queue between two requests"),
}


def here():
    """Where this server listens; not what the client's Host says."""
    return "http://%s:%s" % (request.environ["SERVER_NAME"], request.environ["SERVER_PORT"])


def source(view):
    return "\n".join(["SECONDS = %s\n" % SECONDS, inspect.getsource(view), inspect.getsource(slow)])


@app.get("/")
def page():
    kinds = {name: {"title": title, "source": source(view)} for name, (view, title) in KINDS.items()}
    return render_template("page.html", kinds=kinds, seconds=SECONDS, most=MOST, pid=os.getpid())


@app.get("/slow/<kind>")
def slow(kind):
    if kind not in KINDS:
        abort(404)
    view, _ = KINDS[kind]
    view(request.args.get("n", 0, int))
    # Who ran this, as the kernel has it:
    ids = os.getpid(), threading.get_native_id()
    return "%d %d" % ids


class Client:
    """N requests at once on connections of their own; events() tells what happens to them."""

    def __init__(self, address, kind):
        self.address = address
        self.kind = kind
        self.selector = selectors.DefaultSelector()
        self.start = time.monotonic()
        self.ran_by = set()

    def now(self):
        return round(time.monotonic() - self.start, 4)

    def send(self, i):
        sock = socket.create_connection(self.address, PATIENCE)
        head = "GET /slow/%s?n=%d HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n" % (self.kind, i)
        event = {"i": i, "from": self.now()}
        self.selector.register(sock, selectors.EVENT_READ, (event, []))
        sock.sendall(head.encode())
        return event

    def receive(self, sock, event, pieces):
        """The event of a response that is complete, else None."""
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        pieces.append(data)
        if data:
            return None
        self.selector.unregister(sock)
        sock.close()
        head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
        ok = head.startswith(b"HTTP/1.1 200 ")
        if ok:
            self.ran_by.add(tuple(body.split()))
        return {**event, "to": self.now(), "ok": ok}

    def events(self, n):
        for i in range(n):
            yield self.send(i)
        while self.selector.get_map() and self.now() < 2 * PATIENCE:
            for key, _ in self.selector.select(1):
                event = self.receive(key.fileobj, *key.data)
                if event:
                    yield event
        processes = {pid for pid, _ in self.ran_by}
        yield {"total": self.now(), "pid": os.getpid(), "processes": len(processes), "threads": len(self.ran_by)}

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
    address = request.environ["SERVER_NAME"], int(request.environ["SERVER_PORT"])

    def lines():
        client = Client(address, kind)
        try:
            for event in client.events(n):
                yield json.dumps(event) + "\n"
        finally:
            client.close()

    return Response(lines(), mimetype="application/x-ndjson", headers={"Cache-Control": "no-store"})
