"""greenicorn does what gunicorn does, but for what parity_differences.py tells: see parity.py."""

import os

import parity
import parity_cases  # noqa: F401 - fills parity.CASES
import pytest
from harness import SANITIZED

pytestmark = pytest.mark.skipif(SANITIZED, reason="says nothing about memory; done once, without sanitizers")


@pytest.fixture(scope="module")
def ours():
    return parity.observe(parity.greenicorn())


def wrong(verdicts):
    return [v for v in verdicts if v.kind == "wrong"]


def test_as_gunicorn_26_was_recorded(ours):
    verdicts = parity.compare(parity.recorded(), ours)
    assert not wrong(verdicts)
    assert not parity.unused_differences(verdicts)
    assert len(verdicts) > 400


def test_the_document_says_so(ours):
    """docs/gunicorn.md has the table of this very comparison."""
    with open(parity.DOCUMENT) as f:
        shown = f.read().split(parity.BEGIN)[1].split(parity.END)[0]
    assert shown == parity.table(parity.compare(parity.recorded(), ours)), "./dev test parity --write renews it"


def test_as_this_machine_s_gunicorn(ours):
    """Debian's is older: what 26.1 does otherwise counts as right, too."""
    if not os.path.exists(parity.DEBIAN):
        pytest.skip("gunicorn is not installed")
    theirs = parity.observe(parity.Peer("gunicorn", parity.DEBIAN))
    assert not wrong(parity.compare(theirs, ours, parity.recorded()))
