"""wsgiref's checker between the server and an application: it raises when either breaks PEP 3333."""

from wsgiref.validate import validator


def inner(environ, start_response):
    stream = environ["wsgi.input"]
    parts = [stream.read(2), stream.readline()]
    parts += stream.readlines(1)
    parts += list(iter(stream.readline, b""))
    environ["wsgi.errors"].write("checked\n")
    environ["wsgi.errors"].flush()
    environ["wsgi.errors"].writelines(["checked ", "again\n"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return parts + [b"valid"]


app = validator(inner)


def inner_write(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])(b"written ")
    return [b"valid"]


app_write = validator(inner_write)
