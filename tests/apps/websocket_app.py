"""WebSockets on gunicorn.socket, and other things that applications do with it: the path says which."""

import base64
import hashlib
import os
import queue
import selectors
import socket
import sys
import threading
import time

import greenicorn

ROUTES = {}
KEPT = []


def route(function):
    ROUTES["/" + function.__name__] = function
    return function


def app(environ, start_response):
    return ROUTES[environ["PATH_INFO"]](environ, start_response)


def answer(start_response, text, status="200 OK"):
    body = str(text).encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


# ---- a WebSocket, as small as it can be: text up to 64 KiB, one frame a message ----


class Gone(Exception):
    pass


def accept_key(environ):
    key = environ["HTTP_SEC_WEBSOCKET_KEY"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()


def handshake(environ):
    environ["gunicorn.socket"].sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_key(environ).encode()
    )
    return environ["gunicorn.socket"]


def exactly(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise Gone
        data += part
    return data


def receive(sock):
    """The next message; Gone at the end of the connection or a close frame, which is answered."""
    first, length = exactly(sock, 2)
    length &= 127
    if length == 126:
        length = int.from_bytes(exactly(sock, 2), "big")
    mask = exactly(sock, 4)
    data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(exactly(sock, length)))
    if first == 0x88:
        send(sock, data, 0x88)
        raise Gone
    return data


def send(sock, data, first=0x81):
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    sock.sendall(bytes([first]) + length + data)


def serve(sock):
    try:
        while True:
            send(sock, receive(sock))
    except Gone:
        pass


# ---- the ways in which applications take the socket ----


@route
def echo(environ, start_response):
    serve(handshake(environ))
    raise StopIteration


@route
def threaded(environ, start_response):
    """As simple-websocket does it: another thread receives, and waits with a selector."""
    sock = handshake(environ)
    messages = queue.Queue()

    def run():
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            try:
                while True:
                    assert selector.select(60)
                    messages.put(receive(sock))
            except Gone:
                messages.put(None)
        sock.close()

    thread_class = {"os": threading.Thread, "green": greenicorn.Thread}[environ["QUERY_STRING"]]
    thread_class(target=run).start()
    while (message := messages.get()) is not None:
        send(sock, message)
    raise StopIteration


@route
def simple(environ, start_response):
    import simple_websocket

    ws = simple_websocket.Server(environ, ping_interval=30)
    try:
        while True:
            ws.send(ws.receive())
    except simple_websocket.ConnectionClosed:
        pass
    return answer(start_response, "frameworks want a response")


@route
def returns(environ, start_response):
    serve(handshake(environ))
    return answer(start_response, "nobody reads this")


@route
def generator(environ, start_response):
    sock = handshake(environ)
    yield b"nor this"
    serve(sock)
    yield b"or this"


@route
def fails(environ, start_response):
    serve(handshake(environ))
    raise RuntimeError("after the WebSocket")


@route
def switch(environ, start_response):
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(environ))]
    start_response("101 Switching Protocols", headers)
    serve(environ["gunicorn.socket"])
    return []


@route
def flood(environ, start_response):
    """More than the kernel takes for a client that does not read."""
    sock = handshake(environ)
    for _ in range(400):
        send(sock, bytes(60000))
    raise StopIteration


@route
def duplicate(environ, start_response):
    """The connection is another thread's from here on."""
    handshake(environ)
    sock = environ["gunicorn.socket"].dup()

    def run():
        time.sleep(0.2)  # the request is over by then
        with sock:
            serve(sock)

    threading.Thread(target=run).start()
    raise StopIteration


@route
def upload(environ, start_response):
    """Bytes that were received with the head, past wsgi.input."""
    sock = environ["gunicorn.socket"]
    sock.sendall(b"got " + exactly(sock, int(environ["CONTENT_LENGTH"])))
    return []


@route
def close(environ, start_response):
    environ["gunicorn.socket"].close()
    return answer(start_response, "too late")


@route
def waiting(environ, start_response):
    """A thread of the application's stays in recv() when the request is over."""
    sock = handshake(environ)

    def wait_for_more():
        try:
            KEPT.append(sock.recv(1))
        except OSError:  # it was closed before the thread came that far
            KEPT.append(b"")

    thread = threading.Thread(target=wait_for_more)
    thread.start()
    KEPT[:] = [thread]
    raise StopIteration


@route
def waited(environ, start_response):
    KEPT[0].join(10)
    return answer(start_response, KEPT[1:])


# ---- what is no taking ----


@route
def look(environ, start_response):
    sock = environ["gunicorn.socket"]
    assert isinstance(sock, socket.socket) and not isinstance(sock, str)
    assert sock.getpeername() == (environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"]))
    assert sock.getsockname() == (environ["SERVER_NAME"], int(environ["SERVER_PORT"]))
    assert sock.gettimeout() is None and sock.fileno() > 0 and "fd=" in repr(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        gone = sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        gone = False
    return answer(start_response, "gone" if gone else "still there")


@route
def refuse(environ, start_response):
    repr(environ), environ["gunicorn.socket"].getpeername()
    return answer(start_response, "no WebSockets here", "403 Forbidden")


@route
def interim(environ, start_response):
    environ["gunicorn.socket"].sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
    return answer(start_response, "done")


@route
def keep(environ, start_response):
    KEPT[:] = [environ]
    return answer(start_response, environ["gunicorn.socket"].fileno())


@route
def use_kept(environ, start_response):
    try:
        KEPT[0]["gunicorn.socket"].recv(1)
    except OSError as error:
        KEPT[0]["wsgi.early_hints"]([("Link", "</late>")])
        return answer(start_response, error.errno)


@route
def keep_unused(environ, start_response):
    KEPT[:] = [environ]
    return answer(start_response, "ok")


@route
def stop_iteration(environ, start_response):
    next(iter([]))  # a mistake, and not about the socket


@route
def descriptors(environ, start_response):
    return answer(start_response, len(os.listdir("/proc/self/fd")))


# ---- early hints ----


@route
def hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload; as=style"), (b"X-Bytes", b"1")])
    environ["wsgi.early_hints"]((["Link", "</script.js>"],))
    result = answer(start_response, "done")
    write = start_response("200 OK", [("X", "1")], sys.exc_info()) if environ["QUERY_STRING"] else None
    if write:
        write(b"begun")
        environ["wsgi.early_hints"]([("Link", "</too-late>")])
        return []
    return result


@route
def bad_hints(environ, start_response):
    early_hints = environ["wsgi.early_hints"]
    found = []
    for bad in (
        [("Li nk", "a")], [("Link", "a\r\nSet-Cookie: b")], [("Content-Length", "1")], [("a",)], ["ab", 5], [(1, "a")], None,
        [("Link", "\u20ac")],
    ):  # fmt: skip
        try:
            early_hints(bad)
        except (TypeError, ValueError) as error:
            found.append(type(error).__name__)
    return answer(start_response, " ".join(found))
