"""Requests sent at once, and the time that they take together."""

import re
import selectors
import socket
import time

import harness


class Client:
    """Requests sent at once, each on a connection of its own; results in their order."""

    def __init__(self, server, paths):
        self.selector = selectors.DefaultSelector()
        self.answers = [b""] * len(paths)
        self.start = time.monotonic()
        for i, path in enumerate(paths):
            sock = socket.create_connection(("127.0.0.1", server.port), 10)
            sock.sendall(b"GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" % path.encode())
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, i)

    def receive(self, key):
        """Its end is where Content-Length says: a forked child keeps what it inherits open for longer."""
        data = key.fileobj.recv(65536)
        self.answers[key.data] += data
        head, _, body = self.answers[key.data].partition(b"\r\n\r\n")
        length = re.search(rb"\ncontent-length: *(\d+)", head, re.I)
        if not data or (length and len(body) >= int(length.group(1))):
            self.selector.unregister(key.fileobj)
            key.fileobj.close()

    def results(self, seconds):
        """(status, body) of each, and the seconds that all took."""
        deadline = time.monotonic() + seconds
        while self.selector.get_map():
            assert time.monotonic() < deadline, "%d requests are not answered" % len(self.selector.get_map())
            for key, _ in self.selector.select(1):
                self.receive(key)
        took = time.monotonic() - self.start
        self.selector.close()
        heads = [answer.partition(b"\r\n\r\n") for answer in self.answers]
        return [(int(head.split()[1]), body.decode()) for head, _, body in heads], took


def burst(server, paths, seconds=30):
    return Client(server, paths).results(seconds * harness.PATIENCE)


def numbers(n):
    return [(200, str(i)) for i in range(n)]
