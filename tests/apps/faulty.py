"""An application that harms itself on demand: /what?argument, or /what/anything?argument."""

import os
import signal
import subprocess
import time


def orphan(seconds):
    """A process whose parent is gone at once."""
    subprocess.run(["/bin/sh", "-c", "sleep %s &" % seconds], check=True)


def spin(seconds):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        pass


DEEDS = {
    "/sleep": lambda text: time.sleep(float(text)),
    "/kill": lambda text: os.kill(os.getpid(), int(text)),
    "/exit": lambda text: os._exit(int(text)),
    "/print": lambda text: os.write(2, b"x" * int(text)),
    "/orphan": orphan,
    "/spin": spin,
    "/raise": lambda text: 1 / 0,
}


def application(environ, start_response):
    deed = DEEDS.get("/" + environ["PATH_INFO"].split("/")[1])
    if deed:
        deed(environ["QUERY_STRING"].partition("&")[0])
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
