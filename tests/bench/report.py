"""docs/performance.md: the tables of a whole run, and what one must know to read or repeat them."""

import datetime
import os
import platform
import shlex
import subprocess

from servers import COMMANDS, ROOT, TICK

PATH = os.path.join(ROOT, "docs", "performance.md")
PACKAGES = (
    "python3 python3-flask gunicorn python3-gevent python3-greenlet uwsgi-core wrk "
    "postgresql python3-psycopg2 redis-tools python3-redis python3-requests"
).split()

TEXT = """\
# Performance

Measured on {date} by `{command}`: the servers took turns under wrk, {seconds} s each,
{rounds} times. Figures are medians, with the range in brackets. CPU per request is the time, user and system, of all of
a server's processes divided by the requests that wrk counted; "CPU to greenicorn's" is how many times greenicorn's
a server used.

{sections}
## Machine and versions

{machine}

## Commands

In tests/bench, with the applications of apps.py:

{commands}

## What to bear in mind

- Client and servers share {cpus} CPUs and talk over loopback. Requests per second are what was left for the server,
  and often the client's limit; CPU per request is the figure to compare. It includes the kernel's work for both
  directions that loopback happens to do in the server's name, and is counted in steps of {tick:g} ms.
- One worker process each, no access log, the same applications. 2,000 connections are allowed where a limit exists.
- uWSGI with one process serves one keep-alive connection at a time (`--http11-socket`): the others wait until the
  client closes it, so its p99 is that of one connection. `--http-socket` closes after each response, and each request
  pays for a connection of its own. Offload threads change neither; the HTTP router (`--http`, with keep-alive) costs
  two to three times as much CPU; 64 threads on `--http11-socket` serve 64 connections and more requests
  per second, for up to one and a half times the CPU, with a wide spread. It has no row where requests sleep: one
  process does one at a time.
- "recv and send in C" is no server: one recv and one send of a fixed response on each readable connection, nothing parsed.
  It is what this machine's kernel takes for a request that is answered as it comes. Where it comes near a fifteenth of
  another server's figure, that target cannot be met by a server that answers so, whatever it does.
- gevent.pywsgi has TCP_NODELAY set by a handler of ours. As it comes, it sends head and body apart, and a keep-alive
  response waits 40 ms for an acknowledgement.
- psycopg2 blocks gevent as a whole unless psycogreen is installed, which is not in Debian; here it is not.
- The kernel's part of memory is the change of KernelStack, PageTables and Slab in /proc/meminfo, of the whole machine.
"""


def versions():
    form = "${Package} ${Version}\n"
    packages = subprocess.run(["dpkg-query", "-W", "-f", form, *PACKAGES], capture_output=True, text=True, check=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return "greenicorn at %s; %s" % (commit.stdout.strip() or "?", ", ".join(packages.stdout.splitlines()))


def cpu_model():
    with open("/proc/cpuinfo") as f:
        return next((line.partition(":")[2].strip() for line in f if line.startswith("model name")), platform.machine())


def memory():
    with open("/proc/meminfo") as f:
        return "%.0f GiB" % (int(f.readline().split()[1]) / 1024**2)


def machine():
    return "\n".join([
        "- CPU: %s, %d CPUs; memory: %s" % (cpu_model(), os.cpu_count(), memory()),
        "- Kernel: %s" % platform.release(),
        "- Software: %s" % versions(),
    ])  # fmt: skip


def commands(build):
    """As they were run, but for the port and the folders."""
    shown = []
    for name, command in COMMANDS.items():
        words = [os.path.basename(word) if os.path.isabs(word) else word for word in command(build, 8000, "hello", 2000)]
        shown.append("    # %s\n    %s" % (name, shlex.join(words)))
    shown.append("    # client\n    wrk --latency -t1 -c64 -d3s --timeout 10s http://127.0.0.1:8000/")
    return "\n".join(shown)


def write(options, sections):
    """sections: Markdown by scenario."""
    text = TEXT.format(
        date=datetime.date.today().isoformat(),
        command="./dev bench --write --rounds %d --seconds %d" % (options.rounds, options.seconds),
        seconds=options.seconds,
        rounds=options.rounds,
        sections="\n".join("## %s\n\n%s" % section for section in sections.items()),
        machine=machine(),
        commands=commands(options.build),
        cpus=os.cpu_count(),
        tick=1000 / TICK,
    )
    with open(PATH, "w") as f:
        f.write(text)
