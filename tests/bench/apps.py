"""What bench.py serves, the same for every server; run as a program it is gevent.pywsgi with one of these.

Hello and the sleeps are bare WSGI and name their length, so that every server can keep the
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


def flask_json():
    """One route that returns a small JSON."""
    from flask import Flask, jsonify

    app = Flask(__name__)

    @app.route("/")
    def index():
        return jsonify(id=7, name="greenicorn", tags=["small", "green"], price=9.5)

    return app


def serve_pywsgi(port, name):
    from gevent import monkey, pywsgi

    monkey.patch_all()
    app = globals()[name]
    if name.startswith("flask"):
        app = app()
    pywsgi.WSGIServer(("127.0.0.1", int(port)), app, log=None, backlog=2048, spawn=2000).serve_forever()


if __name__ == "__main__":
    serve_pywsgi(*sys.argv[1:])
