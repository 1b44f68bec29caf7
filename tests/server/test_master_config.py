"""The master's configuration: where it comes from, and one line and exit 1 for each mistake."""

import os
import shlex
import socket

import pytest

import harness
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
        ('\nworkers = "four";', 'greenicorn.conf:2: workers: expected a whole number, found "four"'),
        ("workers = 4000;", "greenicorn.conf:1: workers: 4000 is out of range (1 to 1024)"),
        ("timeout = 5\n= 6", "greenicorn.conf:2: syntax error"),
        ("timeout = 5;\ntimeout = 6;", "greenicorn.conf:2: timeout: duplicate setting name"),
        ('bind = "127.0.0.1:eighty";', 'greenicorn.conf:1: bind: the port is no number: "eighty"'),
        ('bind = "no.such.host.invalid:80";', 'greenicorn.conf:1: bind: unknown host "no.such.host.invalid"'),
        ('bind = "fd://3";', "greenicorn.conf:1: bind: sockets are taken over as systemd passes them: LISTEN_PID, LISTEN_FDS"),
        ('statsd_host = "127.0.0.1:x";', 'greenicorn.conf:1: statsd_host: the port is no number: "x"'),
        ('syslog_addr = "unix://";', "greenicorn.conf:1: syslog_addr: no path after unix:"),
        ('user = "nobody-at-all";', 'greenicorn.conf:1: user: unknown user "nobody-at-all"'),
        ('group = "nobody-at-all";', 'greenicorn.conf:1: group: unknown group "nobody-at-all"'),
        ('worker_class = "tornado";', "greenicorn.conf:1: worker_class: expected green"),
        ('chdir = "/no/such";', 'greenicorn.conf:1: chdir: no such directory: "/no/such"'),
    ],
)
def test_a_mistake_in_the_file(tmp_path, text, line):
    refused(run("ok", cwd=tmp_path, text=text), line)


def test_no_file_at_all(tmp_path):
    result = run("--print-config", "-c", "/dev/null", cwd=tmp_path, text="workers = 3;")
    assert result.returncode == 0 and "workers = 1; # default" in result.stdout, result
    refused(run("-c", "/dev/zero", "ok", cwd=tmp_path), "/dev/zero: cannot read it: not a regular file")


def test_an_unreadable_file(tmp_path):
    refused(run("-c", "nothing.conf", "ok", cwd=tmp_path), "nothing.conf: cannot read it: No such file")


def test_a_python_file(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 4\n")
    line = "a Python file is not read: greenicorn --from-gunicorn %s/gunicorn.conf.py > " % tmp_path
    refused(run("-c", "gunicorn.conf.py", "ok", cwd=tmp_path), line)
    refused(run("-c", "python:settings", "ok", cwd=tmp_path), "--from-gunicorn python:settings >")

def test_a_python_file_that_gunicorn_would_read(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 4\n")
    line = "[WARNING] gunicorn.conf.py is not read: greenicorn --from-gunicorn gunicorn.conf.py > "
    result = run("-b", "127.0.0.1:0", "exit=3", cwd=tmp_path)
    assert result.returncode == 3 and result.stderr.count(line) == 1, result.stderr
    result = run("exit=3", cwd=tmp_path, text=GOOD)
    assert result.returncode == 3 and line not in result.stderr


GUNICORN_CONF = r"""
import os
import hooks
from hooks import when_ready
bind = ["127.0.0.1:80%d" % n for n in range(2)]
workers = len(bind) * 2 + 1
umask = 0o27
timeout = 31
preload_app = True
accesslog = None
access_log_format = '%(h)s "\\"\n' + chr(233)
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
logconfig_dict = {"version": 1, "loggers": {"a.b": {}}}
raw_env = ["A=1"]
mine = 3
def post_fork(server, worker):
    pass
worker_exit = lambda server, worker: None
"""


def test_a_python_file_translated(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_CONF)
    (tmp_path / "hooks.py").write_text("def when_ready(server): pass\n")
    worker = {"GREENICORN_WORKER": harness.WORKER, "ASAN_OPTIONS": "detect_leaks=0"}
    result = run("--from-gunicorn", "gunicorn.conf.py", cwd=tmp_path, env=worker)
    assert (result.returncode, result.stderr) == (0, "")
    (tmp_path / "greenicorn.conf").write_text(result.stdout)
    printed = run("--print-config", "-w", "6", cwd=tmp_path, env=worker)
    assert printed.returncode == 0, printed
    values = dict(line.partition("; # ")[0].split(" = ") for line in printed.stdout.splitlines() if " = " in line)
    for name, value in {
        "bind": '[ "127.0.0.1:800", "127.0.0.1:801" ]',
        "workers": "6",
        "umask": '"027"',
        "timeout": "31",
        "preload_app": "true",
        "accesslog": '""',
        "access_log_format": r'"%(h)s \"\\\"\x0aé"',
        "raw_env": '[ "A=1" ]',
    }.items():
        assert values[name] == value, (name, values[name])
    for line in (
        "workers = 5; # len(bind) * 2 + 1",
        'when_ready = "hooks.when_ready";',
        'post_fork = "gunicorn.conf.py:post_fork";',
        'worker_exit = "gunicorn.conf.py:worker_exit";',
        'secure_scheme_headers = [ "X-FORWARDED-PROTO: https" ];',
        r'logconfig_dict = "{\"version\": 1, \"loggers\": {\"a.b\": {}}}";',
    ):
        assert line in result.stdout.splitlines(), result.stdout
    assert "mine" not in result.stdout

    (tmp_path / "settings.py").write_text("workers = 7\ndef on_exit(server): pass\n")
    translated = run("--from-gunicorn", "python:settings", cwd=tmp_path, env=worker).stdout
    assert "workers = 7;" in translated and 'on_exit = "settings.on_exit";' in translated
    broken = run("--from-gunicorn", "nothing.py", cwd=tmp_path, env=worker)
    assert broken.returncode == 1 and "No such file or directory: '%s/nothing.py'" % tmp_path in broken.stderr


def test_no_application(tmp_path):
    refused(run(cwd=tmp_path, text=GOOD), "Error: No application module specified.")


def test_a_mistake_on_the_command_line(tmp_path):
    """gunicorn's codes: 2 for what argparse refuses, 1 for what the setting does."""
    refused(run("-w", "-1", "ok", cwd=tmp_path), "command line: workers: -1 is out of range (1 to 1024)")
    refused(run("-b", "127.0.0.1:eighty", "ok", cwd=tmp_path), "command line: bind: the port is no number")
    refused(run("-c", "none.conf", "ok", cwd=tmp_path), "none.conf: cannot read it")

@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--workres=3"], "no such flag: --workres, did you mean --workers?"),
        (["--loglevel", "info"], "no such flag: --loglevel, did you mean --log-level?"),
        (["--completely-else"], "no such flag: --completely-else"),
        (["-bx:1", "-xw"], "no such flag: -x"),
        (["ok", "-w"], "its argument is missing: -w"),
        (["--workers"], "its argument is missing: --workers"),
        (["--preload=1"], "it takes no argument: --preload"),
        (["--log", "x"], "several flags begin so: --log"),
        (["one", "two"], "more than one application: two"),
        (["-w", "two", "ok"], 'workers: expected a whole number, found "two"'),
        (["--timeout=1.5", "ok"], 'timeout: expected a whole number, found "1.5"'),
    ],
)
def test_a_mistake_in_the_flags(tmp_path, arguments, problem):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "usage: greenicorn [OPTIONS] [APP_MODULE]\ngreenicorn: error: command line: %s\n" % problem


def test_a_mistake_in_the_environment(tmp_path):
    result = run("ok", cwd=tmp_path, env={"WEB_CONCURRENCY": "lots"})
    refused(result, 'WEB_CONCURRENCY: workers: expected a whole number, found "lots"')
    result = run("ok", cwd=tmp_path, env={"GREENICORN_CMD_ARGS": "--timeout -3"})
    refused(result, "GREENICORN_CMD_ARGS: timeout: -3 is out of range")
    assert run("ok", cwd=tmp_path, env={"GREENICORN_CMD_ARGS": "--name 'x"}).returncode == 2
    result = run("ok", cwd=tmp_path, env={"GUNICORN_CMD_ARGS": "-w two"})
    assert result.returncode == 2 and 'error: GUNICORN_CMD_ARGS: workers: expected a whole number, found "two"' in result.stderr


@pytest.mark.parametrize(
    "variable, value, line",
    [
        ("PORT", "8123", 'bind = [ "0.0.0.0:8123" ]; # PORT'),
        ("PORT", "", 'bind = [ "127.0.0.1:8000" ]; # default'),
        ("WEB_CONCURRENCY", "3", "workers = 3; # WEB_CONCURRENCY"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/8, ::1", 'forwarded_allow_ips = [ "10.0.0.0/8", "::1" ]; # FORWARDED_ALLOW_IPS'),
        ("FORWARDED_ALLOW_IPS", "*", 'forwarded_allow_ips = [ "*" ]; # FORWARDED_ALLOW_IPS'),
        ("SCRIPT_NAME", "/shop", 'script_name = "/shop"; # SCRIPT_NAME'),
        ("SENDFILE", "no", "sendfile = false; # SENDFILE"),
    ],
)
def test_variables_that_have_defaults(tmp_path, variable, value, line):
    result = run("--print-config", cwd=tmp_path, env={variable: value})
    assert result.returncode == 0 and result.stdout.count("\n%s" % line) == 1, result
    name = line.partition(" ")[0]
    file = {"bind": "127.0.0.1:1", "workers": 2, "sendfile": True}.get(name, "127.0.0.2")
    text = "%s = %s;" % (name, harness.value(file))
    result = run("--print-config", cwd=tmp_path, env={variable: value}, text=text)
    assert "\n%s" % line not in result.stdout and "greenicorn.conf:1\n" in result.stdout


@pytest.mark.parametrize(
    "variable, value, problem",
    [
        ("PORT", "eighty", 'PORT: bind: the port is no number: "eighty"'),
        ("PORT", "70000", "PORT: bind: "),
        ("WEB_CONCURRENCY", "0", "WEB_CONCURRENCY: workers: 0 is out of range (1 to 1024)"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8", "FORWARDED_ALLOW_IPS: forwarded_allow_ips: "),
        ("GUNICORN_CMD_ARGS", "-t -1", "GUNICORN_CMD_ARGS: timeout: -1 is out of range"),
    ],
)
def test_variables_that_are_wrong_are_named(tmp_path, variable, value, problem):
    refused(run("ok", cwd=tmp_path, env={variable: value}), problem)


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

    file = "workers = 3;"
    assert workers() == "workers = 1; # default"
    assert workers(WEB_CONCURRENCY="2") == "workers = 2; # WEB_CONCURRENCY"
    assert workers(WEB_CONCURRENCY="2", text=file) == "workers = 3; # %s/greenicorn.conf:1" % tmp_path
    assert workers(text=file, GUNICORN_CMD_ARGS="-w 4") == "workers = 4; # GUNICORN_CMD_ARGS"
    both = {"GUNICORN_CMD_ARGS": "-w 4", "GREENICORN_CMD_ARGS": "-w 5"}
    assert workers(text=file, **both) == "workers = 5; # GREENICORN_CMD_ARGS"
    assert workers("-w6", text=file, **both) == "workers = 6; # command line"
    (tmp_path / "other.conf").write_text("workers = 7;")
    (tmp_path / "third.conf").write_text("workers = 8;")
    assert workers(text=file, GREENICORN_CMD_ARGS="-c other.conf") == "workers = 7; # %s/other.conf:1" % tmp_path
    third = workers("-c", "file:third.conf", text=file, GREENICORN_CMD_ARGS="-c other.conf")
    assert third == "workers = 8; # %s/third.conf:1" % tmp_path


@pytest.mark.parametrize("value, meaning", [("Yes", True), ("1", True), ("y", True), ("on", False), ("", False)])
def test_the_variable_sendfile(tmp_path, value, meaning):
    result = run("--print-config", "--root-path", "x", cwd=tmp_path, env={"SENDFILE": value})
    assert ("sendfile = false; # SENDFILE" in result.stdout) is not meaning, result.stdout


def test_the_variables_words_are_split_as_shlex_does(tmp_path):
    text = r"""-e A='b c'"d e"\ f -e "B=\"\\\x'" -e 'C=\" ' --env D=e\
        '-eE=' -e F=#x"""  # a comment is none
    expected = [word[2:] if word.startswith("-e") else word for word in shlex.split(text)]
    expected = [word for word in expected if "=" in word]
    assert len(expected) == 6
    with Master(tmp_path, env={"GREENICORN_CMD_ARGS": text}) as m:
        env = m.about()["env"]
        for pair in expected:
            name, _, value = pair.partition("=")
            assert env[name] == value, pair


@pytest.mark.parametrize("text", ["-n 'x", '-n "x', "-n x\\"])
def test_words_that_shlex_refuses(tmp_path, text):
    with pytest.raises(ValueError):
        shlex.split(text)
    result = run("ok", cwd=tmp_path, env={"GREENICORN_CMD_ARGS": text})
    assert result.returncode == 2 and "GREENICORN_CMD_ARGS: " in result.stderr


def test_files_that_include_others(tmp_path):
    """Beside the file that names them; what it says itself wins, and of two the later."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-a.conf").write_text("workers = 2; timeout = 11;")
    (tmp_path / "conf.d" / "20-b.conf").write_text('@include "../deeper.conf"\nworkers = 3;')
    (tmp_path / "deeper.conf").write_text("\nbacklog = 64; workers = 9;")
    main = 'keepalive = 5;\n@include "conf.d/*.conf" # all\n@include "none.d/*"\n'
    result = run("--print-config", cwd=tmp_path, text=main + "timeout = 12;")
    for line in (
        "workers = 3; # %s/conf.d/20-b.conf:2" % tmp_path,
        "timeout = 12; # %s/greenicorn.conf:4" % tmp_path,
        "backlog = 64; # %s/conf.d/../deeper.conf:2" % tmp_path,
        "keepalive = 5; # %s/greenicorn.conf:1" % tmp_path,
    ):
        assert line in result.stdout.splitlines(), result

    (tmp_path / "deeper.conf").write_text("\n\nworkers = 0;")
    refused(run("ok", cwd=tmp_path, text=main), "deeper.conf:3: workers: 0 is out of range (1 to 1024)")
    (tmp_path / "deeper.conf").write_text("workers = = 1;")
    refused(run("ok", cwd=tmp_path, text=main), "deeper.conf:1: workers: syntax error")
    (tmp_path / "deeper.conf").write_text('\n@include "greenicorn.conf"')
    refused(run("ok", cwd=tmp_path, text=main), ": more than 10 files that include one another")
    (tmp_path / "deeper.conf").write_text('@include "not/there.conf"')
    refused(run("ok", cwd=tmp_path, text=main), "deeper.conf:1: cannot include %s/conf.d/../not/there.conf: No" % tmp_path)


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
    second = run("--print-config", "-c", "printed.conf", cwd=tmp_path)

    def values(text):
        return [line.rpartition("; # ")[0] for line in text.splitlines() if not line.startswith("#")]

    assert values(second.stdout) == values(first.stdout)
    assert r'proc_name = "a\"b\\";' + " # %s/printed.conf:" % tmp_path in second.stdout


def test_check_config(tmp_path):
    result = run("--check-config", "ok", cwd=tmp_path, text=GOOD)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    result = run("--check-config", "exit=3", cwd=tmp_path, text=GOOD)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "Error while loading the application\n")
    assert run("--print-config", "exit=3", cwd=tmp_path, text=GOOD).returncode == 1
    result = run("--check-config", "ok", cwd=tmp_path, text=GOOD, env={"GREENICORN_WORKER": "/no/such"})
    assert result.returncode == 1 and "cannot start /no/such: No such file or directory" in result.stderr
    refused(run("--check-config", "ok", cwd=tmp_path, text="workers = 0;"), "workers: 0 is out of range")


def test_help_and_version(tmp_path):
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    for flag in ("-c, --config FILE", "-w, --workers N", "--limit-request-field_size BYTES", "-k, --worker-class"):
        assert flag in result.stdout
    assert run("--version", cwd=tmp_path).stdout.startswith("greenicorn (version ")
    assert run("-v", cwd=tmp_path).stdout == run("--version", cwd=tmp_path).stdout
    for columns in (40, 60, 80, 100):
        text = run("--help", cwd=tmp_path, env={"COLUMNS": str(columns)}).stdout
        long = [line for line in text.splitlines() if len(line) > columns and " " in line.strip()]
        assert all(line.lstrip().startswith("-") or "(5)" in line for line in long), long
        assert "\nWorkers:\n" in text


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
