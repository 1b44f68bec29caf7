"""What the server does when things break: processes, descriptors, disks, pipes. The faults are real."""

import contextlib
import ctypes
import errno
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import time

import pytest

import harness
from harness import children_of, stop_process, wait_for
from master_util import Master

ROOT = os.geteuid() == 0


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serves(server):
    """Whether somebody answers."""
    try:
        return server.get(timeout=60).status == 200
    except (ConnectionRefusedError, harness.Closed):
        return False


def in_flight(server, paths):
    """Connections with these requests on them; the worker has read them."""
    lines = []
    for path in paths:
        lines.append(server.connect())
        lines[-1].get(path)
    server.get("/")  # later than they: the worker takes requests in the order in which they come
    return lines


@contextlib.contextmanager
def closing(lines):
    try:
        yield lines
    finally:
        for line in lines:
            line.close()


# ---- stopping ----


@pytest.mark.parametrize("half", [b"", b"GET / HT"])
def test_a_client_that_sends_no_request_does_not_hold_up_a_stop(serve, half):
    """Nor one that sends half of it; that one is told so."""
    server = serve("faulty", graceful_timeout=120, header_timeout=120)
    with server.connect(60) as line:
        server.get()
        line.send(half)
        server.get()
        server.signal(signal.SIGTERM)
        answer = line.rest()
        assert answer.startswith(b"HTTP/1.1 408 ") if half else answer == b""
        assert server.process.wait(40 * harness.PATIENCE) == 0


def refuses(server):
    """Whether nobody listens any more: the last worker has begun to stop."""
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_rest_of_a_head_is_waited_for(serve):
    server = serve("faulty", graceful_timeout=60)
    with server.connect() as line:
        line.send("GET / HTTP/1.1\r\n")
        server.get()
        server.signal(signal.SIGTERM)
        wait_for(lambda: refuses(server))
        line.send("Host: x\r\n\r\n")
        response = line.response()
        assert response.status == 200 and response.header("Connection") == "close"
    assert server.process.wait(30 * harness.PATIENCE) == 0


def test_a_second_term_changes_nothing(serve):
    """The request in flight is still answered."""
    server = serve("faulty", graceful_timeout=60)
    with closing(in_flight(server, ["/sleep?2"])) as (line,):
        server.signal(signal.SIGTERM)
        server.wait_log("Handling signal: term")
        server.signal(signal.SIGTERM)
        server.wait_log("Handling signal: term", count=2)
        assert line.response().status == 200
    assert server.process.wait(30 * harness.PATIENCE) == 0


def test_who_connects_during_a_stop_is_refused(serve):
    """At once: it could only wait for a server that is about to end."""
    server = serve("faulty", workers=2, graceful_timeout=60)
    with closing(in_flight(server, ["/sleep?3"])) as (line,):
        server.signal(signal.SIGTERM)
        server.wait_log(r"worker \d \(pid \d+\): stopping", count=2)

        wait_for(lambda: refuses(server))
        assert line.response().status == 200
    assert server.process.wait(30 * harness.PATIENCE) == 0


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_does_not_wait_for_requests(serve, sig):
    server = serve("faulty", graceful_timeout=120)
    with closing(in_flight(server, ["/sleep?300"])) as (line,):
        server.signal(sig)
        assert server.process.wait(60 * harness.PATIENCE) == 0
        assert line.rest() == b""


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_application_loads(serve, tmp_path, sig):
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(2)\nfrom faulty import application\n")
    server = serve("slow_import", wait=False, pythonpath=str(tmp_path) + "," + harness.APPS, workers=2)
    server.wait_log("Booting worker", count=2)
    workers = server.workers()
    server.signal(sig)
    assert server.process.wait(60 * harness.PATIENCE) == 0
    assert not any(os.path.exists("/proc/%d" % pid) for pid in workers)
    assert "Worker ready" not in server.log_text()


def test_a_master_that_is_killed(serve):
    """Its workers notice at once, answer what they have, and free the port."""
    server = serve("faulty", workers=2, graceful_timeout=60)
    workers = server.workers()
    with closing(in_flight(server, ["/sleep?2"])) as (line,):
        server.signal(signal.SIGKILL)
        server.process.wait()
        server.wait_log("The master is gone", count=2)
        assert line.response().status == 200
    wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in workers), 30, "the end of the workers")
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", server.port))


# ---- deaths ----


class Crashing(harness.Server):
    """Its log may tell of crashes."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert stop_process(self.process) == 0, self.log_text()


@pytest.mark.parametrize(
    "deed, words",
    [
        ("/kill?9", r"ERROR\] Worker \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?"),
        ("/kill?11", r"WARNING\] Worker \(pid:\d+\) was sent SIG(SEGV|ABRT)!"),  # ABRT: a sanitizer's
        ("/exit?7", r"ERROR\] Worker \(pid:\d+\) exited with code 7\."),
    ],
)
def test_the_master_says_what_a_worker_was_doing_when_it_died(tmp_path, deed, words):
    with Crashing(tmp_path, "faulty", timeout=0) as server:
        old = server.worker()
        with closing(in_flight(server, ["/sleep?300&secret=1"] * 2)):
            with server.connect() as line:
                line.get(deed, method="DELETE")
                with pytest.raises(harness.Closed):
                    line.response()
        server.wait_log(words + " In flight: GET /sleep, GET /sleep, DELETE %s$" % deed.split("?")[0])
        wait_for(lambda: server.ready_workers() not in ([], [old]))
        assert server.get().text == str(server.worker())


def test_many_requests_in_flight_and_long_ones(tmp_path):
    """Sixteen are named, the others counted; those that have ended are not in the way."""
    with Crashing(tmp_path, "faulty", timeout=0) as server:
        for _ in range(40):
            server.get("/ended")
        with closing(in_flight(server, ["/sleep?300"] * 19 + ["/sleep/%s?300" % ("a" * 100)])):
            os.kill(server.worker(), signal.SIGKILL)
            (line,) = server.wait_log(r"SIGKILL! Perhaps out of memory\? In flight: (.*)$")
        names, _, more = line.partition(" and ")
        names = [name for name in names.split(", ") if name != "GET /"]  # in_flight's, which may just have ended
        assert len(names) == 15 and more == "5 more", line
        assert set(names) == {"GET /sleep", "GET /sleep/" + "a" * 46 + "..."}, line


class Limited(Master):
    """May have four processes of its user."""

    prefix = ("prlimit", "--nproc=4:4")


@pytest.mark.skipif(not ROOT, reason="only root can become another")
def test_no_more_processes(open_path):
    """RLIMIT_NPROC: the master tries again until it may."""
    user = 54321  # nobody else's
    with Limited(open_path, workers=2, user=user, group=user) as m:
        first, second = m.wait_workers(2)
        others = [subprocess.Popen(["sleep", "600"], user=user, group=user, extra_groups=[]) for _ in range(4)]
        try:
            os.kill(first, signal.SIGKILL)
            m.wait_log(r"ERROR\] cannot start a worker: Resource temporarily unavailable", 20, count=2)
            before = cpu_seconds(m.process.pid)
            time.sleep(1)
            assert cpu_seconds(m.process.pid) - before < 0.3 * harness.PATIENCE
            assert m.about()["pid"] == second
        finally:
            for other in others:
                other.kill()
                other.wait()
        assert second in m.wait_workers(2, 60)


def test_no_more_descriptors_in_the_master(tmp_path):
    with Master(tmp_path, workers=2) as m:
        first, second = m.wait_workers(2)
        limits = resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE)
        used = max(int(fd) for fd in os.listdir("/proc/%d/fd" % m.process.pid)) + 1
        resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        os.kill(first, signal.SIGKILL)
        m.hup()
        m.wait_log(r"ERROR\] cannot .*: Too many open files", count=2)
        assert m.about()["pid"] == second
        resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE, limits)
        assert second in m.wait_workers(2, 60)
        m.hup()
        wait_for(lambda: second not in m.workers(), 30)
        m.wait_workers(2, 30)


def test_no_more_descriptors_in_a_worker(serve):
    """Connections wait in the kernel, without a spin, and are served when others have ended."""
    server = serve("faulty")
    worker = server.worker()
    used = max(int(fd) for fd in os.listdir("/proc/%d/fd" % worker)) + 1
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 10, used + 10))
    lines = [server.connect(60) for _ in range(40)]
    with closing(lines):
        server.wait_log(r"WARNING\] accept: Too many open files")
        before = cpu_seconds(worker)
        time.sleep(1)
        assert cpu_seconds(worker) - before < 0.3 * harness.PATIENCE
        for line in lines:  # each has its answer, the later ones in the place of the earlier
            line.get("/", close=True)
            assert line.response().status == 200
    assert len(server.log_lines()) < 200
    assert server.workers() == [worker]


def test_a_crash_loop_backs_off_and_leaves_the_others_alone(tmp_path):
    """The pauses grow; a worker that is well goes on."""
    flag = tmp_path / "broken"
    with Master(tmp_path, app="broken=%s" % flag, workers=2) as m:
        first, second = m.wait_workers(2)
        flag.touch()
        os.kill(first, signal.SIGKILL)
        m.wait_log(r"Workers die young: the next one starts in \d+ s", 60)
        assert m.about()["pid"] == second
        flag.unlink()
        assert second in m.wait_workers(2, 60)


def test_all_workers_at_once(tmp_path):
    """Who connects meanwhile waits, and is served."""
    with Master(tmp_path, workers=3) as m:
        for pid in m.wait_workers(3):
            os.kill(pid, signal.SIGKILL)
        assert m.about()["pid"] in m.wait_workers(3, 60)


def test_a_worker_that_is_stopped_is_replaced(serve):
    """SIGSTOP: it cannot even die of SIGABRT."""
    server = serve("faulty", timeout=2)
    old = server.worker()
    os.kill(old, signal.SIGSTOP)
    server.wait_log(r"WORKER TIMEOUT \(pid:%d\)" % old, 30)
    server.wait_log(r"Worker \(pid:%d\) was sent SIGKILL!" % old, 30)
    assert int(server.get().text) != old


def test_thousands_of_signals(tmp_path):
    with Master(tmp_path) as m:
        pids = m.wait_workers(1)
        for _ in range(3000):
            m.signal(signal.SIGCHLD)
        assert m.about()["pid"] == pids[0] and m.workers() == pids


def namespaces_work():
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return ROOT and subprocess.run(command, capture_output=True).returncode == 0


class Container(Crashing):
    """Process 1 of a namespace of its own."""

    prefix = ("unshare", "--pid", "--fork", "--mount-proc")

    def wait_ready(self, seconds=20):
        self.wait_log("Worker ready", seconds)
        (self.pid,) = children_of(self.process.pid)

    def workers(self):
        return children_of(self.pid)

    def signal(self, sig):
        os.kill(self.pid, sig)

    def __exit__(self, *_):
        self.signal(signal.SIGTERM)
        assert self.process.wait(30 * harness.PATIENCE) == 0, self.log_text()


@pytest.mark.skipif(not namespaces_work(), reason="no namespaces here")
def test_process_1_of_a_container(tmp_path):
    """Reaps what others leave behind, without a word; TERM, which process 1 does not die of, stops it."""
    with Container(tmp_path, "faulty") as m:
        workers = m.workers()
        for _ in range(20):
            m.get("/orphan?0.2")
        m.get("/orphan?300")
        wait_for(lambda: len(m.workers()) == 2, 20, "the end of all orphans but one")
        assert workers[0] in m.workers()
        m.signal(signal.SIGHUP)
        wait_for(lambda: workers[0] not in m.workers(), 30, "a new worker")
        assert m.get().status == 200
        said = len(m.log_lines())
    assert said < 60, m.log_text()


# ---- memory ----


def without_memfd():
    """To be run in a child: seccomp(2) fails memfd_create with ENOSYS, as an old kernel would."""
    number = {"x86_64": 319, "aarch64": 279}[os.uname().machine]
    rows = [
        (0x20, 0, 0, 0),  # the number of the system call
        (0x15, 0, 1, number),
        (0x06, 0, 0, 0x00050000 | errno.ENOSYS),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    program = b"".join(struct.pack("HBBI", *row) for row in rows)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", len(rows), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, head, 0, 0) == 0


def test_no_shared_memory(tmp_path):
    server = harness.Server(tmp_path, start=False)
    server.write_config()
    run = subprocess.run(
        [harness.MASTER, "-c", server.config, "hello:app"], env=server.env, capture_output=True, text=True,
        timeout=20 * harness.PATIENCE, preexec_fn=without_memfd,
    )  # fmt: skip
    assert run.returncode == 1
    assert "cannot write the settings for the workers: Function not implemented" in run.stderr


# ---- logs ----


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not ROOT or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no file systems can be mounted here")
    yield folder
    wait_for(lambda: subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0, 30)


def test_a_full_disk(small_disk, serve):
    """Requests go on; when there is room again so does the log, which says how much is missing."""
    server = serve("faulty", errorlog=str(small_disk / "error.log"), accesslog=str(small_disk / "access.log"), wait=False)
    wait_for(lambda: serves(server), 20)
    with pytest.raises(OSError), open(small_disk / "filler", "wb") as filler:
        filler.write(b"x" * 100000)
    for _ in range(30):  # to the end of the last page
        assert server.get("/raise").status == 500
    old = server.worker()
    server.signal(signal.SIGHUP)
    wait_for(lambda: old not in server.workers(), 30)
    assert server.get().status == 200
    (small_disk / "filler").unlink()
    server.signal(signal.SIGTTIN)
    text = r"WARNING\] \d+ lines of the log could not be written before this one$"
    wait_for(lambda: re.search(text, (small_disk / "error.log").read_text(), re.M), 20)


def test_logs_that_may_not_grow(serve, tmp_path):
    """RLIMIT_FSIZE: its signal ends nobody."""
    server = serve("faulty", accesslog=str(tmp_path / "access.log"))
    pids = [server.process.pid, *server.workers()]
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, 100))
    for _ in range(5):
        assert server.get("/raise").status == 500
    server.signal(signal.SIGTTIN)
    wait_for(lambda: len(server.workers()) == 2)
    assert set(pids[1:]) < set(server.workers())


@pytest.mark.parametrize("log", ["errorlog", "accesslog"])
def test_a_device_that_is_always_full(serve, log):
    server = serve("faulty", **{log: "/dev/full"}, wait=False)
    wait_for(lambda: serves(server), 20)
    assert server.get("/raise").status == 500
    assert server.get().status == 200


class Piped(harness.Server):
    """Standard error is a small pipe that nobody reads until the end."""

    def start(self, wait=True):
        self.write_config()
        self.reader, writer = os.pipe()
        fill = b"x" * 4096
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, fill)
        os.set_blocking(writer, True)
        self.process = subprocess.Popen(
            [harness.MASTER, "-c", self.config, self.app], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=writer, env=self.env, cwd=self.folder,
        )  # fmt: skip
        os.close(writer)

    def read(self):
        os.set_blocking(self.reader, False)
        text = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reader, 65536):
                text += data
        return text.lstrip(b"x").decode()


def test_nobody_reads_standard_error(tmp_path):
    """A full pipe costs each process a second at most, then lines; the server goes on."""
    server = Piped(tmp_path, "faulty", workers=2, timeout=20)
    try:
        wait_for(lambda: serves(server), 20)
        for _ in range(20):
            assert server.get("/raise").status == 500
        old = wait_for(lambda: len(server.workers()) == 2 and set(server.workers()), 30)
        server.signal(signal.SIGHUP)
        wait_for(lambda: len(server.workers()) == 2 and not old & set(server.workers()), 60)
        assert server.get().status == 200
        assert server.read() == ""
        server.signal(signal.SIGTTIN)
        text = wait_for(server.read, 20)
        assert "Handling signal: ttin" in text
        text = wait_for(lambda: text + server.read(), 20)
        assert re.search(r"WARNING\] \d+ lines of the log could not be written before this one$", text, re.M), text
    finally:
        assert stop_process(server.process) == 0
        os.close(server.reader)
