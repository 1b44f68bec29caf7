"""Spawns while it is imported, which cannot be in a mold."""

import greenicorn

try:
    loaded = greenicorn.spawn(str, "spawned").result(60)
except RuntimeError as error:
    loaded = str(error)


def app(environ, start_response):
    text = greenicorn.spawn(str, "spawned").result() if environ["PATH_INFO"] == "/now" else loaded
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
