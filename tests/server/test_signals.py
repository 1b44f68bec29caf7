"""Python-level signal handlers of the application run, on its main thread."""

import os
import signal

from harness import wait_for


def test_handlers_of_the_application_run(serve):
    server = serve("signals:app")
    worker = server.worker()
    assert server.get("/").text == "[]"
    os.kill(worker, signal.SIGUSR2)
    entry = (signal.SIGUSR2.value, True)
    wait_for(lambda: server.get("/").text == repr([entry]), 5, "the handler")
    server.get("/kill")
    # two signals that are pending together may be handled once, as ever in Python
    wait_for(lambda: server.get("/").text in (repr([entry] * 2), repr([entry] * 3)), 5, "the handler")
    assert server.worker() == worker


def test_an_exception_in_a_handler_is_logged(serve):
    server = serve("signals:app")
    worker = server.worker()
    os.kill(worker, signal.SIGALRM)
    server.wait_log(r"Error in a signal handler")
    server.wait_log(r"RuntimeError: from a signal handler")
    assert server.get("/").status == 200
    assert server.worker() == worker
