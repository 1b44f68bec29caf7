"""Requests by the hundreds and thousands: overlap_app.py's and some more."""

import os
import select
import socket
import urllib.request

from cases import LONG, case
from flask import request
from overlap_app import GATE, app, sleep

__all__ = ["app", "sleep"]
INSIDE = {"count": 0}


@case
def myself(n):
    with urllib.request.urlopen("http://127.0.0.1:%s/sleep?n=%d" % (request.environ["SERVER_PORT"], n)) as answer:
        return answer.read().decode()


@app.get("/inside")
def inside():
    return str(INSIDE["count"])


@app.get("/gate/close")
def close_gate():
    GATE.clear()
    INSIDE["count"] = 0
    return "closed"


def deep(levels):
    """C code and Python code by turns: each level takes some KiB of the C stack."""
    if levels:
        return sorted([levels], key=lambda _: deep(levels - 1))[0]
    data = bytearray(100000)
    INSIDE["count"] += 1
    assert GATE.wait(4 * LONG)
    return len(data)


@case
def large(n):
    """Waits with a deep stack and memory of its own."""
    deep(25)
    return n


def query(n):
    """As libpq does it: connect, send, poll, recv."""
    with socket.create_connection(("127.0.0.1", int(os.environ["TEST_DATABASE"]))) as s:
        s.sendall(n + b"\n")
        poll = select.poll()
        poll.register(s, select.POLLIN | select.POLLERR)
        INSIDE["count"] += 1
        poll.poll()
        return s.recv(100)


def bare(environ, start_response):
    """/inside and /query?n=N without a framework and what that needs for each request."""
    name, _, n = environ["QUERY_STRING"].partition("=")
    body = query(n.encode()) if name == "n" else b"%d" % INSIDE["count"]
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
