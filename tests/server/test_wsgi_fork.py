"""Requests that make processes: each ends as it should, and the client hears from one of them."""

import os
import threading

import pytest

from harness import children_of, wait_for


@pytest.fixture
def forks(serve):
    return serve("forks:app")


@pytest.mark.parametrize(
    "path, answer",
    [
        ("/fork", ("main thread: True", 3)),
        ("/process", (8, 0)),
        ("/pool", [0, 2, 4, 6]),
        ("/spawn", [0, 2, 4, 6]),
        ("/executor", [0, 2, 4, 6]),
    ],
)
def test_children_of_requests(forks, path, answer):
    results = [None] * 6

    def run(i):
        results[i] = forks.get(path, timeout=60).text

    for _ in range(2):  # the second time the threads have been used
        threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert results == [repr(answer)] * 6


@pytest.mark.parametrize(
    "path, status, log",
    [
        ("/returns", b"1", "A process that a request has forked came back from it"),
        ("/raises", b"1", "RuntimeError: in the child"),
        ("/exits", b"5", ""),
        ("/generator", b"one status 1", "A process that a request has forked came back from it"),
    ],
)
def test_a_child_that_comes_back_is_no_second_worker(forks, path, status, log):
    worker = forks.worker()
    for _ in range(3):
        assert forks.get(path).body == status
    assert log in forks.log_text()
    wait_for(lambda: not children_of(worker), what="the end of all children")
    assert forks.worker() == worker
    assert os.path.exists("/proc/%d" % worker)
