"""What shells complete of greenicorn's command line, asked of the shells themselves."""

import os
import re
import shutil
import subprocess

import pytest

import harness

FOLDER = os.path.join(harness.BUILD, "completions")

# bash calls the function as it does when Tab is pressed: with the words, cut at COMP_WORDBREAKS.
BASH = r"""
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
[ "$(complete -p greenicorn)" = 'complete -F _greenicorn greenicorn' ] || exit 9
_greenicorn
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
"""


def output(*command, **arguments):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60 * harness.PATIENCE, **arguments)


def bash(folder, *words):
    result = output("bash", "--norc", "-c", BASH, "bash", os.path.join(FOLDER, "greenicorn"), "greenicorn", *words, cwd=folder)
    assert result.stderr == ""
    return sorted(result.stdout.splitlines())


def fish(folder, line):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    script = "source %s/greenicorn.fish; complete -C '%s'" % (FOLDER, line)
    result = output("fish", "--no-config", "-c", script, cwd=folder, env=env)
    assert result.stderr == ""
    return sorted(each.partition("\t")[0] for each in result.stdout.splitlines())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mysite").mkdir()
    (tmp_path / "mysite" / "wsgi.py").write_text("")
    for name in ("hello.py", "g.conf", "$(touch pwned).py", "two words.txt"):
        (tmp_path / name).write_text("")
    yield tmp_path
    assert not (tmp_path / "pwned").exists()


def flags_of_help():
    text = output(harness.MASTER, "--help").stdout.partition("\nOf gunicorn")[0]
    lines = re.findall(r"^ +((?:-\w, )?--.*?)(?:  |$)", text, re.M)
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", " ".join(lines)))


def test_bash_offers_every_flag(folder):
    assert set(bash(folder, "-")) == flags_of_help()
    assert bash(folder, "-w", "2", "--work") == ["--worker-class", "--worker-connections", "--workers"]


@pytest.mark.parametrize("before", [["--log-level"], ["--log-level", "="]])
def test_bash_offers_values(folder, before):
    assert bash(folder, *before, "") == ["critical", "debug", "error", "info", "warning"]
    assert bash(folder, *before, "de") == ["debug"]
    assert bash(folder, "-k", "") == ["gevent", "gthread", "sync"]
    assert bash(folder, "--header-map", "d") == ["dangerous", "drop"]
    assert bash(folder, "--script-name", "") == []


def test_bash_offers_files_folders_and_accounts(folder):
    assert bash(folder, "-c", "g") == ["g.conf"]
    assert bash(folder, "--pid", "=", "two") == ["two words.txt"]
    assert bash(folder, "--log-level", "=") == ["critical", "debug", "error", "info", "warning"]
    assert bash(folder, "--chdir", "") == ["mysite"]
    assert "root" in bash(folder, "-u", "roo") and "root" in bash(folder, "--group", "roo")
    assert bash(folder, "-w", "") == bash(folder, "--workers", "=", "") == []


def test_bash_offers_modules(folder):
    assert bash(folder, "") == ["hello", "mysite.wsgi"]
    assert bash(folder, "--preload", "my") == ["mysite.wsgi"]


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(folder):
    assert fish(folder, "greenicorn --work") == ["--worker-class", "--worker-connections", "--workers"]
    assert fish(folder, "greenicorn --log-level ") == ["critical", "debug", "error", "info", "warning"]
    assert fish(folder, "greenicorn --config=g") == ["--config=g.conf"]
    assert fish(folder, "greenicorn --chdir ") == ["mysite/"]
    assert "hello" in fish(folder, "greenicorn ") and "mysite.wsgi" in fish(folder, "greenicorn ")
    assert "-w" in fish(folder, "greenicorn -")


# zsh completes in a terminal only: one of its own, where Tab is pressed and what appears is read.
ZSH = r"""
zmodload zsh/zpty
zpty -b z zsh -f -i
read_until() {
	local part
	all=
	repeat 600; do
		zpty -rt z part && all+=$part || sleep 0.1
		[[ $all != *$1* ]] || return 0
	done
	print -r "nothing of $1 in: $all"
	exit 1
}
zpty -w z "PS1=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -D; setopt list_ambiguous; print re''ady"
read_until ready
zpty -w -n z "$2"$'\t'
read_until "$3"
print -r -- "$all"
zpty -d z
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize(
    "line, expected",
    [
        ("greenicorn --log-level=de", "--log-level=debug"),
        ("greenicorn -c g.", "g.conf"),
        ("greenicorn --keep", "--keep-alive="),
        ("greenicorn --preload my", "mysite.wsgi"),
    ],
)
def test_zsh(folder, line, expected):
    env = dict(os.environ, TERM="dumb")
    output("zsh", "-n", os.path.join(FOLDER, "_greenicorn"))
    result = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", FOLDER, line, expected], cwd=folder, env=env, capture_output=True, text=True, timeout=60 * harness.PATIENCE
    )
    assert result.returncode == 0, result.stdout
