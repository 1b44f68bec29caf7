"""From a URI to an application: what can be loaded, what is said when it cannot, and the end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request

import pytest

import harness
from harness import wait_for

PYTHON = sys.executable
VERSION = "python%d.%d" % sys.version_info[:2]

MODULE = """
    import json, os, sys

    def respond(value):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(value() if callable(value) else value).encode()]
        return app

    app = respond("app")
    application = respond("application")
    path = respond(lambda: {"path": sys.path, "prefix": sys.prefix, "exec_prefix": sys.exec_prefix,
        "base_prefix": sys.base_prefix, "executable": sys.executable, "cwd": os.getcwd(),
        "software": os.environ["SERVER_SOFTWARE"], "argv": sys.argv})
    number = 5
    nothing = None

    def create(*args, **kwargs):
        return respond([list(args), kwargs])

    def two(a, b):
        return app

    def returns_none():
        pass

    def fails():
        return len(5)

    class Class:
        def __init__(self, name="class"):
            self.app = respond(name)

        def __call__(self, environ, start_response):
            return self.app(environ, start_response)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the module "loadable", and whatever write() adds."""
    folder = tmp_path / "apps"
    folder.mkdir()
    write(folder, "loadable.py", MODULE)
    return folder


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def fetch(server, path="/"):
    with urllib.request.urlopen(server.url(path), timeout=20) as answer:
        return json.loads(answer.read())


def fails(serve, app, **settings):
    """Start a server that cannot load its application: its exit status and its log."""
    server = serve(app, wait=False, **settings)
    status = wait_for(lambda: server.process.poll() is not None and [server.process.returncode], 20, "the end")
    return status[0], server.log_text()


# what can be loaded


@pytest.mark.parametrize(
    "uri, answer",
    [
        ("loadable:app", "app"),
        ("loadable", "application"),
        ("loadable:", "application"),
        ("loadable:create()", [[], {}]),
        ("loadable:create(1, 'two', [3.5, None], four={'a': (1, True)})", [[1, "two", [3.5, None]], {"four": {"a": [1, True]}}]),
        ('loadable:create("a,b(c)", k=-1)', [["a,b(c)"], {"k": -1}]),
        ("loadable:Class()", "class"),
        ("loadable:Class(name='named')", "named"),
        ("package.inner.deep:app", "deep"),
    ],
)
def test_uri(serve, folder, uri, answer):
    write(folder, "package/__init__.py", "")
    write(folder, "package/inner/deep.py", "from loadable import respond\napp = respond('deep')\n")
    assert fetch(serve(uri, chdir=str(folder))) == answer


def test_uri_from_the_file(serve, folder):
    assert fetch(serve("", wsgi_app="loadable:create('file')", chdir=str(folder))) == [["file"], {}]


# what cannot


@pytest.mark.parametrize(
    "name, text",
    [
        ("nosuch", "Failed to find attribute 'nosuch' in 'loadable'."),
        ("number", "Application object must be callable."),
        ("nothing", "Failed to find application object: 'nothing'"),
        ("returns_none()", "Failed to find application object: 'returns_none()'"),
        ("nosuch()", "Failed to find attribute 'nosuch' in 'loadable'."),
        ("app.attribute", "Failed to parse 'app.attribute' as an attribute name or function call."),
        ("1 + 1", "Failed to parse '1 + 1' as an attribute name or function call."),
        ("create(", "Failed to parse 'create(' as an attribute name or function call."),
        ("app:app", "Failed to parse 'app:app' as an attribute name or function call."),
        ("create()()", "Function reference must be a simple name: 'create()()'"),
        ("os.getcwd()", "Function reference must be a simple name: 'os.getcwd()'"),
        ("create(os)", "Failed to parse arguments as literal values: 'create(os)'"),
        ("create(*[1])", "Failed to parse arguments as literal values: 'create(*[1])'"),
        ("create(**{})", "Failed to parse arguments as literal values: 'create(**{})'"),
        ("two(1)", "TypeError: two() missing 1 required positional argument: 'b'"),
        ("Class(1, 2)", "TypeError: Class.__init__() takes from 1 to 2 positional arguments but 3 were given"),
    ],
)
def test_a_uri_without_an_application_is_exit_4(serve, folder, name, text):
    status, log = fails(serve, "loadable:" + name, chdir=str(folder))
    assert "[ERROR] %s\n" % text in log
    assert "Traceback" not in log
    assert status == 4


@pytest.mark.parametrize(
    "source, text",
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("def app(:", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('\\udcff\\0')", "ValueError: \\udcff?"),
    ],
    ids=["exception", "import", "syntax", "exit", "interrupt", "surrogate"],
)
def test_an_exception_while_loading_is_exit_3(serve, folder, source, text):
    write(folder, "broken.py", source)
    status, log = fails(serve, "broken:app", chdir=str(folder))
    assert "[ERROR] Exception in worker process\nTraceback (most recent call last):\n" in log
    assert 'broken.py", line 1' in log
    assert text in log
    assert status == 3


def test_a_module_that_does_not_exist(serve, folder):
    status, log = fails(serve, "nosuchmodule:app", chdir=str(folder))
    assert "ModuleNotFoundError: No module named 'nosuchmodule'" in log
    assert status == 3


def test_a_file_name_as_uri(serve, folder):
    status, log = fails(serve, "loadable.py:app", chdir=str(folder))
    assert "ImportError: Failed to find application, did you mean 'loadable:app'?" in log
    assert status == 3


def test_a_type_error_inside_the_factory_has_its_traceback(serve, folder):
    status, log = fails(serve, "loadable:fails()", chdir=str(folder))
    assert "in fails\n" in log and "TypeError: object of type 'int' has no len()" in log
    assert status == 3


def test_a_failed_load_does_not_wait_for_threads(serve, folder):
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n1 / 0\n"
    write(folder, "broken.py", source)
    status, log = fails(serve, "broken:app", chdir=str(folder))
    assert "ZeroDivisionError" in log
    assert status == 3


# where it is looked for


def test_chdir_comes_first(serve, folder):
    path = fetch(serve("loadable:path", chdir=str(folder)))
    assert path["path"][0] == str(folder)
    assert path["cwd"] == str(folder)
    assert path["software"].startswith("greenicorn/")
    assert path["argv"] == ["greenicorn"]


def test_pythonpath(serve, folder, tmp_path):
    write(tmp_path, "one/only_one.py", "from loadable import respond\napp = respond('one')\n")
    (tmp_path / "two").mkdir()
    server = serve("only_one:app", chdir=str(folder), pythonpath="%s,%s" % (tmp_path / "one", tmp_path / "two"))
    assert fetch(server) == "one"


def test_environment_of_python(serve, folder, tmp_path):
    write(tmp_path, "env/only_env.py", "from loadable import respond\napp = respond('env')\n")
    server = serve("only_env:app", chdir=str(folder), env={"PYTHONPATH": str(tmp_path / "env")})
    assert fetch(server) == "env"


# virtual environments


@pytest.fixture
def venv(tmp_path):
    """venv(...) makes one with a module in its site-packages and one that a .pth file leads to."""

    def make(*options):
        prefix = tmp_path / "venv"
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", *options, str(prefix)], check=True)
        packages = "venv/lib/%s/site-packages" % VERSION
        write(tmp_path, packages + "/in_venv.py", "")
        write(tmp_path, packages + "/flask.py", "whose = 'venv'")
        write(tmp_path, packages + "/more.pth", "%s\nimport sys; sys.pth_was_run = True\n" % (tmp_path / "more"))
        write(tmp_path, "more/by_pth.py", "")
        return prefix

    return make


VENV_APP = """
    import importlib.util, subprocess, sys
    import flask
    from loadable import respond
    facts = {
        "in_venv": importlib.util.find_spec("in_venv") is not None,
        "by_pth": importlib.util.find_spec("by_pth") is not None and sys.pth_was_run,
        "flask": getattr(flask, "whose", "system"),
        "system": importlib.util.find_spec("redis") is not None,
        "prefix": [sys.prefix, sys.exec_prefix],
        "base": sys.base_prefix,
        "child": subprocess.run([sys.executable, "-c", "import sys, in_venv; print(sys.prefix)"],
            capture_output=True, text=True).stdout.strip(),
    }
    app = respond(facts)
"""


@pytest.mark.parametrize("how", ["setting", "activated"])
@pytest.mark.parametrize("system", [False, True])
def test_virtualenv(serve, folder, venv, how, system):
    prefix = venv(*(["--system-site-packages"] if system else []))
    write(folder, "venv_app.py", VENV_APP)
    settings = {"virtualenv": str(prefix)} if how == "setting" else {"env": {"VIRTUAL_ENV": str(prefix)}}
    assert fetch(serve("venv_app:app", chdir=str(folder), **settings)) == {
        "in_venv": True,
        "by_pth": True,
        "flask": "venv",
        "system": system,
        "prefix": [str(prefix)] * 2,
        "base": "/usr",
        "child": str(prefix),
    }


def test_virtualenv_of_another_python(serve, folder, tmp_path):
    write(tmp_path, "old/pyvenv.cfg", "home = /usr/bin\nversion = 3.7.1\n")
    status, log = fails(serve, "loadable:app", chdir=str(folder), virtualenv=str(tmp_path / "old"))
    ours = "%d.%d" % sys.version_info[:2]
    assert "virtualenv %s is made for Python 3.7, and this worker runs Python %s" % (tmp_path / "old", ours) in log
    assert "Traceback" not in log
    assert status == 3


def test_virtualenv_that_is_none(serve, folder, tmp_path):
    status, log = fails(serve, "loadable:app", chdir=str(folder), virtualenv=str(tmp_path))
    assert "virtualenv %s has no " % tmp_path in log
    assert status == 3


# the settings that shape environ

ENVIRON_APP = """
    from loadable import json
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({k: v for k, v in environ.items() if type(v) in (str, bool)}).encode()]
"""


def test_script_name(serve, folder):
    write(folder, "environ_app.py", ENVIRON_APP)
    server = serve("environ_app:app", chdir=str(folder), script_name="/shop")
    for target, info in (("/shop/a%20b", "/a b"), ("/shop", ""), ("/shop/", "/")):
        environ = fetch(server, target)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["RAW_URI"]) == ("/shop", info, target)
    for target in ("/", "/shopping", "/other/shop"):
        assert server.get(target).status == 500
    server.wait_log("does not start with SCRIPT_NAME '/shop'")


def test_multiprocess(serve, folder):
    write(folder, "environ_app.py", ENVIRON_APP)
    assert fetch(serve("environ_app:app", chdir=str(folder), workers=2))["wsgi.multiprocess"] is True


@pytest.mark.parametrize(
    "host, name, port",
    [
        ("shop.example", "shop.example", "80"),
        ("shop.example:8080", "shop.example", "8080"),
        ("[::1]", "[::1]", "80"),
        ("[::1]:8080", "[::1]", "8080"),
    ],
)
def test_on_a_unix_socket(serve, folder, tmp_path, host, name, port):
    write(folder, "environ_app.py", ENVIRON_APP)
    path = str(tmp_path / "s")
    serve("environ_app:app", chdir=str(folder), bind="unix:" + path)
    with harness.Connection(path) as connection:
        connection.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
        environ = json.loads(connection.response().body)
        connection.send("GET / HTTP/1.0\r\n\r\n")
        nobody = json.loads(connection.response().body)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert environ["REMOTE_ADDR"] == "" and "REMOTE_PORT" not in environ
    assert (nobody["SERVER_NAME"], nobody["SERVER_PORT"]) == ("localhost", "80")


# the end


def test_exit_handlers_run(serve, folder):
    write(
        folder,
        "ends.py",
        """
        import atexit, threading, time
        from concurrent.futures import ThreadPoolExecutor
        from loadable import respond

        end = threading.Event()
        pool = ThreadPoolExecutor(2)

        def worker():
            end.wait()
            print("thread joined")

        def note(text):
            print(text)
            time.sleep(0.1)  # exit handlers may wait

        threading.Thread(target=worker).start()
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        threading._register_atexit(end.set)
        atexit.register(note, "first registered")
        atexit.register(note, "last registered")
        pool.submit(time.sleep, 0.01)
        app = respond("ends")
        """,
    )
    server = serve("ends:app", chdir=str(folder))
    assert fetch(server) == "ends"
    assert server.stop() == 0
    assert server.stdout_text() == "thread joined\nlast registered\nfirst registered\n"


def test_an_exit_handler_that_fails(serve, folder):
    write(
        folder,
        "ends.py",
        """
        import atexit
        from loadable import respond
        atexit.register(print, "still run")
        atexit.register(lambda: 1 / 0)
        app = respond("ends")
        """,
    )
    server = serve("ends:app", chdir=str(folder))
    assert server.stop() == 0
    assert "ZeroDivisionError" in server.log_text()
    assert server.stdout_text() == "still run\n"


def test_exit_in_a_signal_handler(serve, folder):
    write(
        folder,
        "exits.py",
        """
        import atexit, signal, sys
        from loadable import respond
        signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
        atexit.register(print, "exit handlers run")
        app = respond("exits")
        """,
    )
    server = serve("exits:app", chdir=str(folder))
    assert fetch(server) == "exits"
    assert server.stop() == 0
    assert server.stdout_text() == "exit handlers run\n"
    assert "SystemExit" not in server.log_text()


def test_abort_leaves_the_stacks(serve, folder):
    write(
        folder,
        "stuck.py",
        """
        import time
        from loadable import respond

        def where_it_sleeps():
            time.sleep(600)

        def app(environ, start_response):
            environ["wsgi.errors"].write("about to sleep\\n")
            where_it_sleeps()
        """,
    )
    server = serve("stuck:app", chdir=str(folder))
    with server.connect() as connection:
        connection.get("/")
        server.wait_log("about to sleep")
        os.kill(server.worker(), signal.SIGABRT)
        server.wait_log(r"CRITICAL\] Worker timeout")
        server.wait_log("in where_it_sleeps")
    # finish() takes this for a crash, which it is not.
    server.process.send_signal(signal.SIGQUIT)
    server.process.wait(20)
    open(server.log, "w").close()
