"""What `meson install` puts in place, and that it works from there."""

import configparser
import json
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest

import harness

MESON = "/usr/bin/meson"  # another may be first on PATH, and does not understand this tree
PAGES = ("man8/greenicorn.8", "man8/greenicorn-worker.8", "man5/greenicorn.conf.5")


class Installation:
    """The build, installed below a folder as a packager does it; attributes are paths inside."""

    def __init__(self, folder):
        self.folder = str(folder)
        options = subprocess.check_output([MESON, "introspect", "--buildoptions", harness.BUILD])
        self.options = {option["name"]: option["value"] for option in json.loads(options)}
        self.bin = self.path("bindir")
        self.sysconf = self.path("sysconfdir", "greenicorn", "greenicorn.conf")
        self.service = self.path("systemdunitdir", "greenicorn.service")
        self.socket = self.path("systemdunitdir", "greenicorn.socket")
        self.completions = [
            self.path("datadir", *names)
            for names in (
                ("bash-completion", "completions", "greenicorn"),
                ("zsh", "site-functions", "_greenicorn"),
                ("fish", "vendor_completions.d", "greenicorn.fish"),
            )
        ]
        self.pages = [self.path("mandir", page) for page in PAGES]
        self.module = self.module_path()
        self.programs = [os.path.join(self.bin, name) for name in ("greenicorn", "greenicorn-worker")]

    def path(self, option, *names):
        return os.path.join(self.options["prefix"], self.options[option], *names)

    def module_path(self):
        """Where the Python that was embedded finds it."""
        options = subprocess.check_output([MESON, "introspect", "--installed", harness.BUILD])
        return next(path for path in json.loads(options).values() if path.endswith("/greenicorn.py"))

    def real(self, path):
        return self.folder + path

    def read(self, path):
        with open(self.real(path)) as f:
            return f.read()

    def install(self):
        command = [MESON, "install", "-C", harness.BUILD, "--no-rebuild", "--quiet", "--destdir", self.folder]
        subprocess.run(command, check=True)
        return self


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installation(tmp_path_factory.mktemp("installed")).install()


@pytest.fixture
def server(installed, tmp_path, monkeypatch):
    """The installed program, not yet started, and told nothing about where its worker is."""
    monkeypatch.setattr(harness, "MASTER", installed.real(installed.programs[0]))
    server = harness.Server(tmp_path, start=False)
    del server.env["GREENICORN_WORKER"]
    yield server
    server.finish()


def print_config(server, *args):
    """What is set, without where it came from."""
    command = [harness.MASTER, "--print-config", *args]
    text = subprocess.check_output(command, env=server.env, cwd=server.folder, text=True)
    return re.sub("; # .*", ";", text)


def test_these_files_and_no_others(installed):
    expected = {path: 0o755 for path in installed.programs}
    expected[installed.module] = 0o644
    templates = [path.replace("greenicorn.", "greenicorn@.") for path in (installed.service, installed.socket)]
    for path in [installed.sysconf, installed.service, installed.socket, *templates, *installed.pages, *installed.completions]:
        expected[path] = 0o644
    found = {}
    for folder, _, names in os.walk(installed.folder):
        for name in names:
            path = os.path.join(folder, name)
            found[path[len(installed.folder) :]] = stat.S_IMODE(os.stat(path).st_mode)
    assert found == expected


def test_python_finds_the_module(installed):
    """Below another prefix than Python's own it must be told where."""
    program = "import greenicorn; print(greenicorn.spawn(int, '7').result())"
    env = dict(os.environ, PYTHONPATH=os.path.dirname(installed.real(installed.module)))
    command = [sys.executable, "-B", "-c", program]
    assert subprocess.check_output(command, env=env, text=True) == "7\n"


def test_the_master_finds_its_worker(installed, server):
    server.start()
    assert os.readlink("/proc/%d/exe" % server.worker()) == installed.real(installed.programs[1])
    assert server.get("/").status == 200


def test_the_sample_configuration_serves(installed, server):
    with open(server.config, "w") as f:
        f.write(installed.read(installed.sysconf))
    command = [harness.MASTER, "--check-config", "-c", server.config, "--chdir", harness.APPS, "hello:app"]
    result = subprocess.run(command, env=server.env, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_sample_shows_the_defaults(installed, server):
    """Uncommented, every line of it is understood and changes nothing: as with no file at all."""
    sample = installed.read(installed.sysconf)
    lines, n = re.subn(r"^#(\w+ = .*;)$", r"\1", sample, flags=re.M)
    assert n > 20
    path = os.path.join(server.folder, "sample.conf")  # by itself it reads greenicorn.conf
    with open(path, "w") as f:
        f.write(lines)
    assert print_config(server, "-c", path) == print_config(server)


def test_the_manual_has_every_setting_of_the_sample(installed):
    settings = re.findall(r"^#?(\w+) = ", installed.read(installed.sysconf), re.M)
    assert {"bind", "workers", "wsgi_app"} <= set(settings)
    page = installed.read(installed.pages[-1])
    assert [s for s in settings if not re.search(r"^\.It Ic %s\b" % s, page, re.M)] == []


def test_pages_are_what_their_names_say(installed):
    for path in installed.pages:
        name, _, section = os.path.basename(path).rpartition(".")
        assert ".Dt %s %s" % (name.upper(), section) in installed.read(path).splitlines()


def test_units_name_what_is_installed(installed):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(installed.read(installed.service))
    assert unit["Service"]["ExecStart"].split() == [installed.programs[0], "-c", installed.sysconf]
    assert unit["Service"]["Type"] in ("notify", "notify-reload")
    assert ("ExecReload" in unit["Service"]) == (unit["Service"]["Type"] == "notify")
    for path in (installed.service, installed.socket):
        for each in (path, path.replace("greenicorn.", "greenicorn@.")):
            assert not re.search(r"@[A-Z]+@", installed.read(each)), each
    template = installed.read(installed.service.replace("greenicorn.", "greenicorn@."))
    assert "/greenicorn/%i.conf\n" in template and "RuntimeDirectory=greenicorn/%i\n" in template


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(installed, tmp_path):
    """All but the programs' paths, which are another machine's."""
    for name in ("greenicorn.service", "greenicorn.socket", "greenicorn@.service", "greenicorn@.socket"):
        text = installed.read(installed.service.replace("greenicorn.service", name))
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M))
    units = [str(tmp_path / name) for name in ("greenicorn.service", "greenicorn.socket", "greenicorn@x.service")]
    os.symlink(tmp_path / "greenicorn@.service", units[2])
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert not re.search("greenicorn", result.stderr), result.stderr


def test_an_edited_configuration_stays(tmp_path):
    installation = Installation(tmp_path).install()
    with open(installation.real(installation.sysconf), "w") as f:
        f.write('wsgi_app = "mine:app";\n')
    installation.install()
    assert installation.read(installation.sysconf) == 'wsgi_app = "mine:app";\n'
