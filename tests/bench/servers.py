"""The servers that are compared: how each is started, how its CPU and memory are read, how it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "server"))

from harness import Connection, children_of, free_port, stop_process, wait_for  # noqa: E402

PYTHON = "/usr/bin/python3"
TICK = os.sysconf("SC_CLK_TCK")
HOST = "127.0.0.1"


def target(app):
    """apps.NAME as the servers want it named; those that begin with flask are factories."""
    return "apps:%s" % (app + "()" if app.startswith("flask") else app)


# ---- commands: each server in the fastest form of its plain installation ----


def greenicorn(build, port, app, connections):
    options = "-w 1 --worker-connections %d" % connections
    return [os.path.join(build, "master", "greenicorn"), *options.split(), "-b", "%s:%d" % (HOST, port), target(app)]


def gunicorn(build, port, app, connections):
    options = "-k gevent -w 1 --worker-connections %d --keep-alive 75 --log-level warning" % connections
    return ["/usr/bin/gunicorn", *options.split(), "-b", "%s:%d" % (HOST, port), target(app)]


def pywsgi(build, port, app, connections):
    return [PYTHON, "-B", os.path.join(HERE, "apps.py"), str(port), app, str(connections)]


def uwsgi(socket, port, app):
    options = "--plugin python3 --master --processes 1 --disable-logging --die-on-term --need-app --listen 1024"
    return ["/usr/bin/uwsgi", *options.split(), socket, "%s:%d" % (HOST, port), "--module", target(app)]


def uwsgi_keeping(build, port, app, connections):
    """Keeps connections, but a process stays with one until its client closes; the others wait."""
    return uwsgi("--http11-socket", port, app)


def uwsgi_closing(build, port, app, connections):
    """Closes after each response: shared between the clients, at the price of a connection per request."""
    return uwsgi("--http-socket", port, app)


def floor(build, port, app, connections):
    """What the kernel takes for one recv and one send: no server that answers at once can cost less."""
    return [os.path.join(build, "tests", "floor"), str(port)]


GREENICORN = "greenicorn"
GUNICORN = "gunicorn gevent"
PYWSGI = "gevent.pywsgi"
UWSGI = "uWSGI http11-socket"
UWSGI_CLOSING = "uWSGI http-socket"
FLOOR = "recv and send in C"
COMMANDS = {
    GREENICORN: greenicorn,
    GUNICORN: gunicorn,
    PYWSGI: pywsgi,
    UWSGI: uwsgi_keeping,
    UWSGI_CLOSING: uwsgi_closing,
    FLOOR: floor,
}


# ---- running ----


class Server:
    """One server with one application, until stop."""

    def __init__(self, name, app, build, connections=2000, env=None):
        self.name = name
        self.keeps = name != UWSGI_CLOSING
        self.address = (HOST, free_port())
        self.log = tempfile.TemporaryFile()
        worker = os.path.join(build, "worker", "greenicorn-worker")
        self.process = subprocess.Popen(
            COMMANDS[name](build, self.address[1], app, connections), cwd=HERE,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=dict(os.environ, GREENICORN_WORKER=worker, PYTHONDONTWRITEBYTECODE="1", **(env or {})),
        )  # fmt: skip

    def connect(self):
        return Connection(self.address)

    def wait_ready(self):
        try:
            wait_for(lambda: self.process.poll() is not None or self.answers(), 20, self.name)
            assert self.process.poll() is None, "%s ended" % self.name
        except AssertionError as error:
            raise SystemExit("%s:\n%s" % (error, self.log_text())) from None
        if self.keeps:
            self.check_keeps()

    def answers(self):
        try:
            with self.connect() as connection:
                connection.get("/", close=True)
                return connection.response().status == 200
        except OSError:
            return False

    def check_keeps(self):
        """A server that closes its connections would be measured at something else."""
        with self.connect() as connection:
            for _ in range(3):
                connection.get("/")
                assert connection.response().status == 200

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def processes(self):
        found = [self.process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def cpu(self):
        """Seconds of CPU, user and system, that the processes have used."""
        return sum(cpu_of(pid) for pid in self.processes())

    def rss(self):
        """Bytes of resident memory of the processes."""
        return sum(rss_of(pid) for pid in self.processes())

    def stop(self):
        """Servers end their workers; those of one that had to be killed are killed too."""
        pids = self.processes()
        if stop_process(self.process, 5) is None:
            for pid in pids[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.log.close()


def cpu_of(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:13]) / TICK


def rss_of(pid):
    """Exact, unlike VmRSS, which lags behind by some pages per CPU."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Rss:")) * 1024


@contextlib.contextmanager
def running(names, app, build, **arguments):
    """The servers side by side, all ready."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name in names:
            servers.append(Server(name, app, build, **arguments))
            stack.callback(servers[-1].stop)
        for server in servers:
            server.wait_ready()
        yield servers
