"""A Flask application whose views wait in every ordinary way; tests look for the overlap."""

import asyncio
import contextlib
import os
import queue
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response, g, jsonify, request, session, stream_with_context

app = Flask(__name__)
app.secret_key = "for tests"
QUEUE = queue.Queue()
POOL = ThreadPoolExecutor(4)
LOCK = threading.Lock()


@app.route("/")
def index():
    return "Hello, Flask!\n"


@app.route("/sleep/<float:seconds>")
def sleep(seconds):
    time.sleep(seconds)
    return "slept\n"


@app.route("/postgres")
def postgres():
    import psycopg2

    with contextlib.closing(psycopg2.connect(os.environ["TEST_DSN"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.2), %s", (request.args["n"],))
        return cursor.fetchone()[1]


@app.route("/redis")
def redis():
    import redis

    client = redis.Redis(port=int(os.environ["TEST_REDIS"]))
    key = "list-" + request.args["n"]
    assert client.blpop(key, timeout=0.2) is None
    client.rpush(key, request.args["n"])
    return client.blpop(key, timeout=5)[1]


@app.route("/requests")
def requests():
    import requests

    return requests.get(request.args["url"], timeout=20).text


@app.route("/subprocess")
def run():
    script = "sleep 0.2; echo %s" % int(request.args["n"])
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, text=True).stdout.strip()


@app.route("/queue/get")
def queue_get():
    return QUEUE.get(timeout=20)


@app.route("/queue/put")
def queue_put():
    QUEUE.put(request.args["n"])
    return "put\n"


@app.route("/asyncio")
def use_asyncio():
    async def main():
        await asyncio.gather(asyncio.sleep(0.2), asyncio.to_thread(time.sleep, 0.2))
        return request.args["n"]

    return asyncio.run(main())


@app.route("/pool")
def pool():
    return POOL.submit(lambda: "from the pool").result()


@app.route("/lock")
def lock():
    with LOCK:
        time.sleep(0.01)
        return request.args["n"]


@app.route("/resolve")
def resolve():
    return socket.getaddrinfo("localhost", 80)[0][4][0]


@app.route("/stream")
def stream():
    @stream_with_context
    def lines():
        for i in range(3):
            yield "%s %d\n" % (request.args["n"], i)
            time.sleep(0.05)

    return Response(lines(), mimetype="text/plain")


@app.route("/upload", methods=["POST"])
def upload():
    file = request.files["file"]
    return jsonify(name=file.filename, size=len(file.read()), field=request.form["field"])


@app.route("/json", methods=["POST"])
def echo_json():
    return jsonify(request.get_json())


@app.route("/session")
def count():
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@app.route("/g")
def use_g():
    g.n = request.args["n"]
    time.sleep(0.05)
    return g.n


@app.route("/log")
def log():
    app.logger.error("from the logger of %s", request.args["n"])
    return "logged\n"


@app.route("/error")
def error():
    raise RuntimeError("in a view")
