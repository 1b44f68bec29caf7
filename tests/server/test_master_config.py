"""The master's configuration: where it comes from, and one line and exit 1 for each mistake."""

import os
import socket

import pytest

from harness import free_port
from master_util import Master, run

GOOD = 'bind = "127.0.0.1:0";\n'


def refused(result, line, status=1):
    """One line on standard error, nothing on standard output, nothing started."""
    assert result.returncode == status, result
    assert result.stderr.count("\n") == 1 and line in result.stderr, result.stderr
    assert result.stdout == ""
    assert "Booting" not in result.stderr


@pytest.mark.parametrize(
    "text, line",
    [
        ("workres = 4;", "greenicorn.conf:1: workres: unknown setting, did you mean workers?"),
        ('\nworkers = "four";', "greenicorn.conf:2: workers: expected a whole number, found a string"),
        ("workers = 4000;", "greenicorn.conf:1: workers: 4000 is out of range (1 to 1024)"),
        ("timeout = 5\n= 6", "greenicorn.conf:2: syntax error"),
        ("timeout = 5;\ntimeout = 6;", "greenicorn.conf:2: timeout: duplicate setting name"),
        ('bind = "127.0.0.1:eighty";', 'greenicorn.conf:1: bind: the port is no number: "eighty"'),
        ('bind = "no.such.host.invalid:80";', 'greenicorn.conf:1: bind: unknown host "no.such.host.invalid"'),
        ('user = "nobody-at-all";', 'greenicorn.conf:1: user: unknown user "nobody-at-all"'),
        ('group = "nobody-at-all";', 'greenicorn.conf:1: group: unknown group "nobody-at-all"'),
        ('worker_class = "tornado";', "greenicorn.conf:1: worker_class: expected green"),
        ('chdir = "/no/such";', 'greenicorn.conf:1: chdir: no such directory: "/no/such"'),
    ],
)
def test_a_mistake_in_the_file(tmp_path, text, line):
    refused(run("ok", cwd=tmp_path, text=text), line)


def test_an_unreadable_file(tmp_path):
    refused(run("-c", "nothing.conf", "ok", cwd=tmp_path), "nothing.conf: cannot read it: No such file")


def test_a_python_file(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 4\n")
    refused(run("-c", "gunicorn.conf.py", "ok", cwd=tmp_path), "a Python file is not read; write")


def test_no_application(tmp_path):
    refused(run(cwd=tmp_path, text=GOOD), "Error: No application module specified.")


def test_a_mistake_on_the_command_line(tmp_path):
    refused(run("-w", "x", "ok", cwd=tmp_path), 'command line: workers: expected a whole number, found "x"')
    result = run("--no-such-flag", "ok", cwd=tmp_path)
    assert result.returncode == 2 and "usage: greenicorn" in result.stderr
    assert run("-w", cwd=tmp_path).returncode == 2
    assert run("one", "two", cwd=tmp_path).returncode == 2


def test_a_mistake_in_the_environment(tmp_path):
    result = run("ok", cwd=tmp_path, env={"WEB_CONCURRENCY": "lots"})
    refused(result, 'WEB_CONCURRENCY: workers: expected a whole number, found "lots"')
    result = run("ok", cwd=tmp_path, env={"GREENICORN_CMD_ARGS": "--timeout -3"})
    refused(result, "GREENICORN_CMD_ARGS: timeout: -3 is out of range")
    assert run("ok", cwd=tmp_path, env={"GREENICORN_CMD_ARGS": "--name 'x"}).returncode == 2


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        result = run("ok", cwd=tmp_path, text='\nbind = "127.0.0.1:%d";' % port)
    assert result.returncode == 1
    assert result.stderr.count("Connection in use: 127.0.0.1:%d" % port) == 4
    assert "Retrying in 1 second." in result.stderr
    last = result.stderr.splitlines()[-1]
    assert "greenicorn.conf:2: bind: cannot listen on 127.0.0.1:%d: Address already in use" % port in last
    assert "Booting" not in result.stderr


def test_an_address_that_is_not_ours(tmp_path):
    result = run("ok", cwd=tmp_path, text='bind = "192.0.2.1:80";')
    assert result.returncode == 1
    assert "bind: cannot listen on 192.0.2.1:80: Cannot assign requested address" in result.stderr


def test_a_log_that_cannot_be_opened(tmp_path):
    result = run("ok", cwd=tmp_path, text='errorlog = "/no/such/log";' + GOOD)
    assert result.returncode == 1
    assert "greenicorn.conf:1: errorlog: cannot open /no/such/log: No such file" in result.stderr


def test_precedence(tmp_path):
    """Default, environment, file, GREENICORN_CMD_ARGS, command line."""

    def workers(*args, text=GOOD, **env):
        result = run("--print-config", *args, "ok", cwd=tmp_path, text=text, env=env)
        assert result.returncode == 0, result
        return [line for line in result.stdout.splitlines() if line.startswith("workers = ")][0]

    assert workers() == "workers = 1;"
    assert workers(WEB_CONCURRENCY="2") == "workers = 2;"
    assert workers(WEB_CONCURRENCY="2", text="workers = 3;") == "workers = 3;"
    assert workers(text="workers = 3;", GUNICORN_CMD_ARGS="-w 4") == "workers = 4;"
    assert workers(text="workers = 3;", GUNICORN_CMD_ARGS="-w 4", GREENICORN_CMD_ARGS="-w 5") == "workers = 5;"
    assert workers("-w6", text="workers = 3;", GREENICORN_CMD_ARGS="-w 5") == "workers = 6;"


def test_lists_on_the_command_line(tmp_path):
    """Flags of a list add up, and replace what the file says."""
    result = run("--print-config", "-b", "127.0.0.1:1", "--bind=unix:x", "ok", cwd=tmp_path, text=GOOD)
    assert 'bind = [ "127.0.0.1:1", "unix:x" ];' in result.stdout
    result = run("--print-config", cwd=tmp_path, text="", env={"PORT": "5000"})
    assert 'bind = [ "0.0.0.0:5000" ];' in result.stdout


def test_switches(tmp_path):
    result = run("--print-config", "--no-require-host", "--preload", "--no-control-socket", "ok", cwd=tmp_path)
    assert "require_host = false;" in result.stdout and "preload_app = true;" in result.stdout
    assert "control_socket_disable = true;" in result.stdout


@pytest.mark.parametrize("flags", [["--proxy-protocol"], ["--proxy-protocol", "auto"], ["--proxy-protocol=true"]])
def test_what_cannot_be_passed_over(tmp_path, flags):
    line = "Error: command line: proxy_protocol: not supported yet"
    refused(run(*flags, "ok", cwd=tmp_path, text=GOOD), line)
    refused(run("ok", *flags, cwd=tmp_path, text=GOOD), line)
    assert run("--check-config", "--proxy-protocol", "off", "ok", cwd=tmp_path, text=GOOD).returncode == 0


def test_what_does_nothing_is_told(tmp_path):
    with Master(tmp_path, args=["--dirty-app", "a:B", "--dirty-app", "c:D"], dirty_threads=1) as m:
        log = m.log_text()
    assert log.count("does nothing here") == 1, log
    assert "[WARNING] command line: dirty_apps does nothing here: there are no dirty arbiters" in log


def test_the_printed_configuration_is_one(tmp_path):
    first = run("--print-config", "-n", 'a"b\\', "-e", "A=1", "ok", cwd=tmp_path)
    assert first.returncode == 0
    (tmp_path / "printed.conf").write_text(first.stdout)
    assert run("--print-config", "-c", "printed.conf", cwd=tmp_path).stdout == first.stdout


def test_check_config(tmp_path):
    result = run("--check-config", "ok", cwd=tmp_path, text=GOOD)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    refused(run("--check-config", "ok", cwd=tmp_path, text="workers = 0;"), "workers: 0 is out of range")


def test_help_and_version(tmp_path):
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    for flag in ("-c, --config FILE", "-w, --workers N", "--limit-request-field_size BYTES", "-k, --worker-class"):
        assert flag in result.stdout
    assert run("--version", cwd=tmp_path).stdout.startswith("greenicorn (version ")


def test_the_worker_gets_what_the_contract_says(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    with Master(
        tmp_path, app=None, wsgi_app="ok", raw_env=["COLOUR=green", "EMPTY="], proc_name='a"b', timeout=20,
        bind=["127.0.0.1:%d" % free_port(), "unix:%s/s" % tmp_path],
    ) as m:  # fmt: skip
        m.port = int(m.settings["bind"][0].split(":")[1])
        about = m.about()
        assert about["env"]["COLOUR"] == "green" and about["env"]["EMPTY"] == ""
        assert about["env"]["SERVER_SOFTWARE"].startswith("greenicorn/")
        assert about["env"]["GREENICORN_SLOT"] == "0"
        assert about["env"]["LISTEN_PID"] == str(about["pid"])
        assert about["fds"] == {"listen": [3, 4], "control": [5], "settings": [6], "scoreboard": [7]}
        assert max(fd for fd in about["open"] if fd < 10) <= 9 and about["ppid"] == m.process.pid
        assert "NOTIFY_SOCKET" not in about["env"]
        assert 'proc_name = "a\\"b";' in about["settings"] and "timeout = 20;" in about["settings"]


def test_a_relative_chdir_begins_where_it_was_started(tmp_path):
    (tmp_path / "app").mkdir()
    with Master(tmp_path, args=["--chdir", "app"]) as m:
        assert m.about()["cwd"] == str(tmp_path / "app")
        m.hup(workers=2)
        m.wait_workers(2)
        assert "Reload failed" not in m.log_text()


def test_a_missing_worker_program(tmp_path):
    result = run("ok", cwd=tmp_path, text=GOOD, env={"GREENICORN_WORKER": "/no/such/worker"})
    assert result.returncode == 1 and "cannot run /no/such/worker" in result.stderr
    assert os.listdir(tmp_path) == ["greenicorn.conf"]
