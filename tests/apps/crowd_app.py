"""More requests than there may be threads: overlap_app.py's, and one that asks its own worker."""

import urllib.request

from cases import case
from flask import request
from overlap_app import app, sleep

__all__ = ["app", "sleep"]


@case
def myself(n):
    with urllib.request.urlopen("http://127.0.0.1:%s/sleep?n=%d" % (request.environ["SERVER_PORT"], n)) as answer:
        return answer.read().decode()
