"""Compares greenicorn with gunicorn's gevent worker, gevent.pywsgi and uWSGI: ./dev bench [SCENARIO…].

The main figure is CPU time per request: what the kernel says the server's processes used, divided
by the requests that wrk counted. It depends little on how fast the client is, which the rate does
on a small machine. The servers of a scenario run side by side and take turns
(A B C A B C), so that a slow moment of the machine falls on all of them.
"""

import argparse
import os
import resource
import signal

import report
from blocking import BlockingScenario
from load import LOADS
from memory import MemoryScenario
from servers import ROOT
from switches import SwitchScenario
from tables import table

SCENARIOS = {**LOADS, "blocking": BlockingScenario(), "memory": MemoryScenario(), "switches": SwitchScenario()}


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description="Compare greenicorn with other servers.")
    parser.add_argument("scenario", nargs="*", metavar="scenario", help="of %s (all)" % ", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3, help="times that each server has its turn (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="that a turn under wrk takes (%(default)s)")
    parser.add_argument("--build", default=os.path.join(ROOT, "build-release"), help="(%(default)s)")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, after all scenarios")
    options = parser.parse_args()
    unknown = sorted(set(options.scenario) - set(SCENARIOS))
    if unknown:
        parser.error("no scenario %s; there are %s" % (", ".join(unknown), ", ".join(SCENARIOS)))
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    if options.write and options.scenario:
        parser.error("--write is for all scenarios")
    options.build = os.path.abspath(options.build)
    if not all(os.path.exists(os.path.join(options.build, name)) for name in ("master/greenicorn", "tests/floor")):
        parser.error("%s is not built: see ./dev bench" % options.build)
    return options


def interrupt(signum, frame):
    """Leave by the way of an ordinary end, where the servers are stopped."""
    raise SystemExit(128 + signum)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, interrupt)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sections = {}
    for name in options.scenario or SCENARIOS:
        scenario = SCENARIOS[name]
        sections[name] = "%s\n\n%s\n" % (scenario.what, table(scenario.columns, scenario.run(options)))
        print(sections[name], flush=True)
    if options.write:
        report.write(options, sections)
        print("written: %s" % report.PATH)


if __name__ == "__main__":
    main()
