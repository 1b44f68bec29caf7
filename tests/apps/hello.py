"""The smallest application: for benchmarks and for tests of everything around it."""


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world!\n"]


application = app
