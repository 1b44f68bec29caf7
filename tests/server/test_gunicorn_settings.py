"""Every setting of gunicorn 26.1: its name, flags, kind and default, and what docs/gunicorn.md and docs/migrate.md say."""

import grp
import os
import pwd
import re

import pytest

import gunicorn_settings
import harness
from master_util import run

THEIRS = gunicorn_settings.recorded()


@pytest.fixture(scope="module")
def ours():
    return gunicorn_settings.ours()


def test_there_are_all(ours):
    assert len(THEIRS) == 119
    assert [s["name"] for s in THEIRS if s["name"] not in ours] == []


def test_they_are_the_same_but_for_the_written_differences(ours):
    differing = {s["name"]: gunicorn_settings.compare(s, ours[s["name"]]) for s in THEIRS}
    assert {name: what for name, what in differing.items() if what and name not in gunicorn_settings.DIFFERENCES} == {}
    assert all("flags" not in what and "kind" not in what for what in differing.values()), differing


def test_no_difference_is_written_of_what_does_nothing(ours):
    names = {s["name"] for s in THEIRS}
    for name in gunicorn_settings.DIFFERENCES:
        assert name in names and ours[name]["effect"] not in ("nothing", "refused"), name


def test_the_document_has_these_tables():
    with open(gunicorn_settings.DOCUMENT) as f:
        text = f.read()
    assert text == gunicorn_settings.document(text), "tests/server/gunicorn_settings.py --write renews it"


# A value for each kind that needs another than its default.
VALUES = {"kind": {"list": "x=y", "account": "0", "number": "0"}, "name": {"bind": "127.0.0.1:0", "chdir": "/", "user": "0", "group": "0"}}


def value_for(s):
    if s["default"] not in (None, "", []):
        return str(s["default"] if not isinstance(s["default"], list) else s["default"][0])
    return VALUES["name"].get(s["name"]) or VALUES["kind"].get(s["kind"], "x")


@pytest.mark.parametrize("section", dict.fromkeys(s["section"] for s in THEIRS if s["cli"]))
def test_the_program_takes_every_flag(tmp_path, section):
    """Spelled as gunicorn spells it: with one that it does not know it would end with 2."""
    for s in (s for s in THEIRS if s["section"] == section and s["name"] != "config"):
        for flag in s["cli"]:
            argument = [] if s["switch"] else [value_for(s)]
            result = run("--print-config", flag, *argument, cwd=tmp_path)
            assert result.returncode in (0, 1), (flag, result.stderr)
            if result.returncode == 1:  # a value that means nothing here, or a setting that is refused
                assert result.stderr.count("\n") == 1 and ": %s: " % s["name"] in result.stderr, result.stderr


def test_numbers_that_gunicorn_takes(tmp_path):
    """0 for never or unlimited, and large ones for nearly so."""
    for value in ("0", "31536000"):
        for flag in ("--timeout", "--graceful-timeout", "--keep-alive", "--max-requests"):
            assert run("--print-config", flag, value, cwd=tmp_path).returncode == 0, flag
    for flag in ("--limit-request-line", "--limit-request-fields", "--limit-request-field_size"):
        assert run("--print-config", flag, "0", cwd=tmp_path).returncode == 0, flag
        assert "is out of range (0 to " in run("--print-config", flag, "-1", cwd=tmp_path).stderr, flag


def test_help_has_every_flag():
    words = set(run("--help", cwd=harness.ROOT).stdout.replace(",", " ").replace("[", " ").split())
    missing = [flag for s in THEIRS for flag in s["cli"] if flag not in words]
    assert missing == []


def migrations():
    """Whatever docs/migrate.md shows of a configuration: texts in back quotes, and whole files."""
    with open(os.path.join(harness.ROOT, "docs", "migrate.md")) as f:
        text = f.read()
    files = re.findall(r"^```libconfig\n(.*?)^```", text, re.M | re.S)
    return files + re.findall(r"`(\w+ = [^`]*;)`", text)


def test_the_configurations_of_migrate_are_understood(tmp_path):
    texts = migrations()
    assert len(texts) > 30 and len(texts[0].splitlines()) > 10
    (tmp_path / "venv").mkdir()
    mine = {
        "/srv/shop": str(tmp_path),
        'user = "www-data"': 'user = "%s"' % pwd.getpwuid(os.geteuid()).pw_name,
        'group = "www-data"': 'group = "%s"' % grp.getgrgid(os.getegid()).gr_name,
    }
    for text in texts:
        for old, new in mine.items():
            text = text.replace(old, new)
        result = run("--print-config", cwd=tmp_path, text=text)
        assert result.returncode == 0, (text, result.stderr)
