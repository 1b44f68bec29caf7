"""prometheus_client over several workers, with the hook of its documentation for gunicorn; and an
exporter that, like OpenTelemetry's, must be made anew in each worker.
"""

import os
import queue
import signal
import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

REQUESTS = Counter("requests", "Requests answered")
IN_PROGRESS = Gauge("in_progress", "Requests being answered", multiprocess_mode="livesum")


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)


class Exporter:
    """Spans go to a thread, which writes them down."""

    def __init__(self, worker):
        self.worker = worker
        self.spans = queue.Queue()
        threading.Thread(target=self._run, name="exporter", daemon=True).start()

    def _run(self):
        while True:
            span = self.spans.get()
            with open(os.environ["SPANS"], "a") as f:
                f.write("%d %d %s\n" % (os.getpid(), self.worker, span))
            self.spans.task_done()


exporter = None


def post_fork(server, worker):
    global exporter
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    exporter = Exporter(worker.pid)


def worker_exit(server, worker):
    exporter.spans.join()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        REQUESTS.inc()
        IN_PROGRESS.inc()
        exporter.spans.put(path)
        if path == "/die":  # in the middle of a request
            os.kill(os.getpid(), signal.SIGKILL)
        IN_PROGRESS.dec()
        body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
