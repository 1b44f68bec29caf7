"""A Flask application of cases: /NAME?n=N each, which waits WAIT seconds and answers with its number n."""

import os
import platform
import threading

from flask import Flask, request

WAIT = float(os.environ.get("TEST_WAIT", 0.2))
LONG = 20  # for what comes much sooner unless something is wrong
app = Flask(__name__)


class Meeting:
    """What two requests with the same number share; the second one to take it removes it."""

    def __init__(self, make):
        self.make = make
        self.open = {}
        self.lock = threading.Lock()

    def join(self, key):
        with self.lock:
            if key in self.open:
                return self.open.pop(key)
            self.open[key] = self.make()
            return self.open[key]


def case(function):
    """A route /NAME?n=N; N is given to the function as a number."""
    app.add_url_rule("/" + function.__name__, function.__name__, lambda: str(function(request.args.get("n", 0, int))))
    return function


def pairs(make):
    """Of requests 2k and 2k + 1 the odd one gives and the even one takes, by one make() of theirs."""

    def decorate(function):
        meeting = Meeting(make)

        def paired(n):
            return function(n, meeting.join(n // 2), n % 2 == 1)

        paired.__name__ = function.__name__
        return case(paired)

    return decorate


@app.get("/")
def index():
    return str(os.getpid())


@app.get("/version")
def version():
    return platform.python_version()
