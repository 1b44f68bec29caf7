"""What bench.py serves, the same for every server; run as a program it is gevent.pywsgi with one of these.

The bare WSGI applications name the length of their body, so that every server can keep the
connection. Flask is loaded only by the factories: hello must not carry its modules.
"""

import os
import sys
import time


def respond(start_response, body):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ, start_response):
    return respond(start_response, b"Hello, world!\n")


def sleep(environ, start_response):
    time.sleep(0.1)
    return respond(start_response, b"slept\n")


parked = 0


def park(environ, start_response):
    """/SECONDS sleeps so long; / says how many requests do."""
    global parked
    seconds = environ["PATH_INFO"][1:]
    if seconds:
        parked += 1
        time.sleep(float(seconds))
        parked -= 1
    return respond(start_response, b"%d\n" % parked)


def switches(environ, start_response):
    from switches import switches as application

    return application(environ, start_response)


def flask_json():
    """One route that returns a small JSON."""
    from flask import Flask, jsonify

    app = Flask(__name__)

    @app.route("/")
    def index():
        return jsonify(id=7, name="greenicorn", tags=["small", "green"], price=9.5)

    return app


def flask_blocking():
    """A route for each ordinary way to wait 0.2 s; n numbers the requests of a burst."""
    import contextlib
    import queue
    import subprocess

    import psycopg2
    import redis
    import requests
    from flask import Flask

    app = Flask(__name__)
    queues = [queue.Queue() for _ in range(50)]

    @app.route("/")
    def index():
        return "ready\n"

    @app.route("/sleep/<int:n>")
    def sleeping(n):
        time.sleep(0.2)
        return str(n)

    @app.route("/postgres/<int:n>")
    def postgres(n):
        with contextlib.closing(psycopg2.connect(os.environ["BENCH_POSTGRES"])) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.2), %s", (n,))
                return str(cursor.fetchone()[1])

    @app.route("/redis/<int:n>")
    def blpop(n):
        with redis.Redis(port=int(os.environ["BENCH_REDIS"])) as client:
            assert client.blpop("nothing-%d" % n, timeout=0.2) is None
        return str(n)

    @app.route("/requests/<int:n>")
    def get(n):
        return requests.get("%s/%d" % (os.environ["BENCH_SLOW"], n), timeout=30).text

    @app.route("/subprocess/<int:n>")
    def run(n):
        subprocess.run(["sleep", "0.2"], check=True)
        return str(n)

    @app.route("/queue/<int:n>")
    def hand_over(n):
        """The even one of each pair waits for what the odd one puts."""
        if n % 2 == 0:
            return str(queues[n // 2].get(timeout=30) - 1)
        time.sleep(0.2)
        queues[n // 2].put(n)
        return str(n)

    return app


def serve_pywsgi(port, name, connections):
    from gevent import monkey, pywsgi

    monkey.patch_all()
    import socket

    class Handler(pywsgi.WSGIHandler):
        """It sends head and body apart: without this each keep-alive response waits 40 ms for an acknowledgement."""

        def handle(self):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().handle()

    app = globals()[name]
    if name.startswith("flask"):
        app = app()
    address = ("127.0.0.1", int(port))
    options = {"log": None, "backlog": 2048, "spawn": int(connections), "handler_class": Handler}
    pywsgi.WSGIServer(address, app, **options).serve_forever()


if __name__ == "__main__":
    serve_pywsgi(*sys.argv[1:])
