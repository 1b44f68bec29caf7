"""Adds up test results for ./dev test: FILE... are meson's testlog.json and pytest's JUnit files.

A run that has left no file, and a C test that was not built or died, count as failed. The last
line is the sum; the exit status says whether all is well.
"""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree

UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unit", "test_*.c")


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def fail(self, what, n=1):
        print("FAILED:", what)
        self.failed += n

    def line(self):
        text = "%d passed, %d failed" % (self.passed, self.failed)
        return text + ", %d skipped" % self.skipped if self.skipped else text


def cases(output, word):
    """The names that cmocka prints after a word. A set: a forked child may repeat its parent's lines."""
    return set(re.findall(r"^\[ *%s *\] (\w+)$" % word, output, re.M))


def count_program(count, test):
    output = test.get("stdout", "") + "\n" + test.get("stderr", "")
    passed, skipped = cases(output, "OK"), cases(output, "SKIPPED")
    failed = cases(output, "RUN") - passed - skipped
    count.passed += len(passed)
    count.skipped += len(skipped)
    if skipped:
        print("skipped: %s: %s" % (test["name"], ", ".join(sorted(skipped))))
    if failed or test["result"] != "OK":
        print(output)
        what = ", ".join(sorted(failed)) or "the program: " + test["result"]
        count.fail("%s: %s" % (test["name"], what), max(len(failed), 1))
    elif not passed and not skipped:
        count.passed += 1  # no program of cmocka's: a fuzz target's smoke test


def count_meson(count, path):
    with open(path) as f:
        tests = [json.loads(line) for line in f]
    for test in tests:
        count_program(count, test)
    built = {re.sub(r".*\W", "", test["name"]) for test in tests}
    for source in sorted(glob.glob(UNIT)):
        if os.path.basename(source)[len("test_") : -len(".c")] not in built:
            count.fail("%s: not run by %s" % (source, path))


def count_pytest(count, path):
    total = 0
    for suite in xml.etree.ElementTree.parse(path).iter("testsuite"):
        tests, bad, skipped = (
            int(suite.get("tests")),
            int(suite.get("failures")) + int(suite.get("errors")),
            int(suite.get("skipped")),
        )
        total += tests
        count.passed += max(tests - bad - skipped, 0)
        count.skipped += skipped
        if bad:
            count.fail("%d in %s" % (bad, path), bad)
    if total == 0:
        count.fail("%s: no tests" % path)


def main(paths):
    count = Count()
    for path in paths:
        try:
            (count_meson if path.endswith(".json") else count_pytest)(count, path)
        except (OSError, ValueError, xml.etree.ElementTree.ParseError) as error:
            count.fail("no result: %s" % error)
    print(count.line())
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
