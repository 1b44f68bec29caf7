"""Requests that make processes, one way a route: GET /NAME?n=N answers N when all was as it should be."""

import concurrent.futures
import json
import multiprocessing
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from multiprocessing import shared_memory

LONG = 60  # for what comes much sooner unless something is wrong
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def gone(pid):
    """Ended and waited for: not even a zombie."""
    return not os.path.exists("/proc/%d" % pid)


@case
def wait(n):
    time.sleep(0.2)
    return n


# ---- subprocess ----


@case
def pipes(n):
    """More than pipes hold, in and out and beside, while the child ends in its own way."""
    script = "cat; head -c 150000 /dev/zero >&2; exit %d" % (n % 7)
    data = b"%d " % n * 40000
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        out, err = child.communicate(data, timeout=LONG)
    assert (out, err, child.returncode) == (data, bytes(150000), n % 7)
    return n


@case
def conversation(n):
    """Lines to and fro."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        for i in range(10):
            child.stdin.write("%d %d\n" % (n, i))
            assert child.stdout.readline() == "%d %d\n" % (n, i)
        child.stdin.close()
        assert child.stdout.read() == ""
    assert child.returncode == 0
    return n


@case
def shell(n):
    done = subprocess.run("sleep 0.1; echo $N | tr 0-9 1-90", shell=True, capture_output=True, env={**os.environ, "N": str(n)})
    assert done.stdout.decode() == str(n).translate(str.maketrans("0123456789", "1234567890")) + "\n"
    return n


@case
def timeouts(n):
    child = subprocess.Popen(["sh", "-c", "echo begun; exec sleep 60"], stdout=subprocess.PIPE)
    for wait in (child.wait, child.communicate):
        try:
            wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise AssertionError("it has not waited")
    child.kill()
    assert child.communicate(timeout=LONG) == (b"begun\n", None)
    assert child.returncode == -signal.SIGKILL and gone(child.pid)
    try:
        subprocess.run(["sleep", "60"], timeout=0.1, capture_output=True)
    except subprocess.TimeoutExpired:
        return n


@case
def poll(n):
    child = subprocess.Popen(["sh", "-c", "sleep 0.1; exit %d" % (n % 7)])
    while child.poll() is None:
        time.sleep(0.01)
    assert child.returncode == n % 7
    return n


@case
def preexec(n):
    """Python between fork and exec."""
    done = subprocess.run(["sh", "-c", "pwd; ps -o sid= -p $$ || :"], preexec_fn=lambda: os.chdir("/"), capture_output=True)
    assert done.stdout.split()[0] == b"/"
    return n


@case
def group(n):
    """A session of its own, ended by a signal to its process group."""
    child = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True)
    grandchild = int(child.stdout.readline())
    assert os.getsid(child.pid) == os.getpgid(grandchild) == child.pid != os.getpgid(0)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(LONG) == -signal.SIGTERM
    child.stdout.close()
    return n


# ---- os ----


@case
def fork_exec(n):
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp("sh", ["sh", "-c", "sleep 0.1; exit %d" % (n % 7)])
        finally:
            os._exit(99)
    assert status_of(pid) == n % 7
    return n


@case
def spawn(n):
    assert os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "sleep 0.1; exit %d" % (n % 7)) == n % 7
    assert status_of(os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "exit 5")) == 5
    return n


@case
def posix_spawn(n):
    r, w = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, w, 1), (os.POSIX_SPAWN_CLOSE, r)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.1; echo %d" % n], os.environ, file_actions=actions)
    os.close(w)
    with os.fdopen(r) as f:
        assert f.read() == "%d\n" % n
    assert status_of(pid) == 0
    return n


@case
def system_and_popen(n):
    assert os.waitstatus_to_exitcode(os.system("sleep 0.05; exit %d" % (n % 7))) == n % 7
    with os.popen("sleep 0.05; echo %d" % n) as pipe:
        assert pipe.read() == "%d\n" % n
    return n


@case
def several(n):
    """Waited for in another order than they end."""
    pids = [os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.%d; exit %d" % (i, i)) for i in range(4)]
    assert [status_of(pid) for pid in reversed(pids)] == [3, 2, 1, 0]
    return n


@case
def waitid(n):
    pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.1; exit 3")
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    for options in (os.WEXITED | os.WNOWAIT, os.WEXITED):
        info = os.waitid(os.P_PID, pid, options)
        assert (info.si_pid, info.si_status, info.si_code) == (pid, 3, os.CLD_EXITED)
    assert gone(pid)
    return n


@case
def pidfd(n):
    pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.1; exit 4")
    fd = os.pidfd_open(pid)
    ends = select.poll()
    ends.register(fd, select.POLLIN)
    assert ends.poll(LONG * 1000) == [(fd, select.POLLIN)]
    assert os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status == 4
    os.close(fd)
    return n


@case
def stopped(n):
    """A child that stops and goes on."""
    pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "kill -STOP $$; exit 6")
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    os.kill(pid, signal.SIGCONT)
    assert status_of(pid) == 6
    return n


@case
def terminal(n):
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.execvp("sh", ["sh", "-c", "test -t 0 && read line && echo got $line"])
        finally:
            os._exit(99)
    os.write(fd, b"%d\n" % n)
    text = b""
    while b"got %d\r\n" % n not in text:
        text += os.read(fd, 1000)
    assert status_of(pid) == 0
    os.close(fd)
    return n


@case
def terminal_pair(n):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(["sh", "-c", "test -t 0 && exit 0"], stdin=theirs, stdout=theirs)
    os.close(theirs)
    assert child.wait(LONG) == 0
    os.close(ours)
    return n


@case
def burst(n):
    """Twenty at a time."""
    children = [subprocess.Popen(["true"]) for _ in range(20)]
    assert [child.wait(LONG) for child in children] == [0] * 20
    return n


# ---- any child: for one request at a time ----


@case
def any_child(n):
    pids = [os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.%d; exit %d" % (i, i)) for i in range(4)]
    assert [os.wait() for _ in pids] == [(pid, i << 8) for i, pid in enumerate(pids)]
    pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.1; exit 1")
    assert os.waitid(os.P_ALL, 0, os.WEXITED).si_pid == pid
    try:
        os.wait()
    except ChildProcessError:
        return n


# ---- multiprocessing ----


def double(x):
    time.sleep(0.01)
    return 2 * x


def from_queue(event, numbers, doubled):
    assert event.wait(LONG)
    doubled.put(double(numbers.get(timeout=LONG)))


def fill(name, byte):
    memory = shared_memory.SharedMemory(name)
    memory.buf[:] = bytes([byte]) * len(memory.buf)
    memory.close()


def in_children(context, n):
    event, numbers, doubled = context.Event(), context.Queue(), context.Queue()
    child = context.Process(target=from_queue, args=(event, numbers, doubled))
    child.start()
    numbers.put(n)
    event.set()
    assert doubled.get(timeout=LONG) == 2 * n
    child.join(LONG)
    assert child.exitcode == 0
    with context.Pool(2) as pool:
        assert pool.map(double, range(4)) == [0, 2, 4, 6]
    return n


@case
def mp_fork(n):
    return in_children(multiprocessing.get_context("fork"), n)


@case
def mp_spawn(n):
    return in_children(multiprocessing.get_context("spawn"), n)


@case
def mp_forkserver(n):
    return in_children(multiprocessing.get_context("forkserver"), n)


@case
def executor(n):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(double, range(4), timeout=LONG)) == [0, 2, 4, 6]
        assert isinstance(pool.submit(double, None).exception(LONG), TypeError)
    return n


@case
def mp_manager(n):
    with multiprocessing.get_context("fork").Manager() as manager:
        numbers = manager.list([n])
        numbers.append(1)
        assert list(numbers) == [n, 1]
    return n


@case
def mp_memory(n):
    memory = shared_memory.SharedMemory(create=True, size=4096)
    try:
        child = multiprocessing.get_context("fork").Process(target=fill, args=(memory.name, n % 256))
        child.start()
        child.join(LONG)
        assert child.exitcode == 0 and bytes(memory.buf[:4096]) == bytes([n % 256]) * 4096
    finally:
        memory.close()
        memory.unlink()
    return n


# ---- what a child has of its parent ----

LOOK = "cat /proc/self/status; grep -c greenicorn-scoreboard /proc/self/maps; ls -l /proc/self/fd"
PROGRAM = ["/bin/sh", "-c", LOOK]


def look():
    """LOOK without another program."""
    with open("/proc/self/status") as f:
        text = f.read()
    with open("/proc/self/maps") as f:
        text += "%d\n" % f.read().count("greenicorn-scoreboard")
    for fd in os.listdir("/proc/self/fd"):
        if os.path.exists("/proc/self/fd/" + fd):  # not listdir's own
            text += "%s -> %s\n" % (fd, os.readlink("/proc/self/fd/" + fd))
    return text


def in_fork():
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            os.write(w, look().encode())
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    assert status_of(pid) == 0
    return text


def in_system():
    """Nothing but a file takes its output to us: what it inherits is under test."""
    with tempfile.NamedTemporaryFile("r") as f:
        assert os.system("(%s) >%s" % (LOOK, f.name)) == 0
        return f.read()


def in_popen():
    with os.popen(LOOK) as pipe:
        return pipe.read()


def in_posix_spawn():
    r, w = os.pipe()
    pid = os.posix_spawn(PROGRAM[0], PROGRAM, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, w, 1)])
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    assert status_of(pid) == 0
    return text


INHERIT = {
    "fork": in_fork,
    "subprocess": lambda: subprocess.check_output(PROGRAM, close_fds=False, text=True),
    "preexec": lambda: subprocess.check_output(PROGRAM, close_fds=False, preexec_fn=lambda: None, text=True),
    "posix_spawn": in_posix_spawn,
    "system": in_system,
    "popen": in_popen,
}

# ---- signals and the end ----

CAUGHT = []  # numbers


def on_signal(number, frame):
    CAUGHT.append(number)


def own_signals():
    """The child's handler runs in the child, and only there."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(0.01)
            os.write(w, b"%d" % CAUGHT.count(signal.SIGUSR2))
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    assert status_of(pid) == 0
    return "child: %s, worker: %d" % (text, CAUGHT.count(signal.SIGUSR2))


def lingers():
    """A child that is still there when the answer is."""
    pid = os.fork()
    if pid == 0:
        time.sleep(LONG)
        os._exit(0)
    return str(pid)


def reap(pid):
    return str(status_of(pid))


def writes_elsewhere(environ, write):
    """A child that has taken over the number of the connection, and then uses what is left of the request."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        for call in (lambda: write(b"the child's"), lambda: environ["wsgi.input"].read()):
            try:
                call()
                said.append("none")
            except OSError as error:
                said.append(type(error).__name__)
        os.write(w, " ".join(said).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    assert status_of(pid) == 0
    write(text.encode())


def app(environ, start_response):
    name, _, rest = environ["PATH_INFO"][1:].partition("/")
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if name in CASES:
        n = int(environ["QUERY_STRING"].partition("=")[2])
        return [b"%d" % CASES[name](n)]
    if name == "inherit":
        return [INHERIT[rest]().encode()]
    if name == "reap":
        return [reap(int(rest)).encode()]
    if name == "writes_elsewhere":
        writes_elsewhere(environ, write)
        return []
    return [{"own_signals": own_signals, "lingers": lingers, "": lambda: str(os.getpid())}[name]().encode()]


signal.signal(signal.SIGUSR2, on_signal)
if os.environ.get("TEST_SIGCHLD"):
    signal.signal(signal.SIGCHLD, on_signal)
    CASES["caught"] = lambda n: CAUGHT.count(signal.SIGCHLD)

if __name__ == "__main__":  # what a plain Python gives its children, by way
    print(json.dumps({way: run() for way, run in INHERIT.items()}))
