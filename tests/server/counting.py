"""Clients that know what a lost request is.

A request is lost when it was sent whole, or was being sent as announced, and no whole, right answer with
status 200 came: refused, reset, closed without an answer, truncated, another status. No loss: a
connection that ends without a byte (FIN, no RST) while no request is on it; an answer
that says "Connection: close".
"""

import hashlib
import random
import socket
import threading
import time


class Lost(Exception):
    pass


mine = threading.local()  # .port: of this thread's last connection, on our side


class Line:
    """A connection, read by hand."""

    def __init__(self, address):
        mine.port = None
        self.sock = socket.create_connection(address, 30)
        mine.port = self.sock.getsockname()[1]
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def closed_while_idle(self):
        """Whether the server has ended it before a request was sent."""
        self.sock.setblocking(False)
        try:
            data = self.sock.recv(1)
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(30)
        if data:
            raise Lost("bytes that nobody asked for: %r" % data)
        return True

    def fill(self, size=65536):
        data = self.sock.recv(size)
        if not data:
            raise Lost("closed after %d bytes of an answer" % len(self.data))
        self.data += data

    def answer(self, pause=None):
        """(body, whether the connection stays); pause makes it slow."""
        while b"\r\n\r\n" not in self.data:
            self.fill()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        if lines[0] != "HTTP/1.1 200 OK":
            raise Lost(lines[0])
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(fields["content-length"])
        while len(self.data) < length:
            self.fill(8192 if pause else 65536)
            if pause:
                time.sleep(pause)
        body, self.data = self.data[:length], self.data[length:]
        return body, fields.get("connection") != "close"


def request(path, method="GET", fields=""):
    return ("%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (method, path, fields)).encode()


class Clients:
    """Threads of each kind that ask until told to stop."""

    def __init__(self, address, each=2):
        self.address = address
        self.answered, self.idle_closed, self.lost = 0, 0, []
        self.lost_ports = []  # of the same; None: there was no connection
        self.lock, self.over = threading.Lock(), threading.Event()
        kinds = [self.keep_alive, self.connection_each, self.pipelining, self.uploading, self.downloading]
        self.threads = [threading.Thread(target=self.run, args=(kind,)) for kind in kinds for _ in range(each)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, kind):
        chance = random.Random(threading.get_ident())
        while not self.over.is_set():
            try:
                kind(chance)
            except (Lost, OSError) as error:
                with self.lock:
                    self.lost.append("%s: %s: %r" % (time.strftime("%H:%M:%S"), kind.__name__, error))
                    self.lost_ports.append(mine.port)
                time.sleep(0.1)

    def check(self, found, expected):
        if found != expected:
            raise Lost("%r instead of %r" % (found[:80], expected[:80]))
        with self.lock:
            self.answered += 1

    def keep_alive(self, chance):
        with Line(self.address) as line:
            stays = True
            while stays and not self.over.is_set():
                path = "/%x" % chance.getrandbits(64)
                line.sock.sendall(request(path))
                body, stays = line.answer()
                self.check(body, path.encode())
                time.sleep(chance.random() * 0.02)
                if stays and line.closed_while_idle():
                    with self.lock:
                        self.idle_closed += 1
                    return

    def connection_each(self, chance):
        with Line(self.address) as line:
            path = "/%x" % chance.getrandbits(64)
            line.sock.sendall(request(path, fields="Connection: close\r\n"))
            self.check(line.answer()[0], path.encode())
        time.sleep(chance.random() * 0.02)

    def pipelining(self, chance):
        """Three at once; after an answer that says close the rest may be sent again elsewhere."""
        with Line(self.address) as line:
            stays = True
            while stays and not self.over.is_set():
                paths = ["/%x" % chance.getrandbits(64) for _ in range(3)]
                line.sock.sendall(b"".join(request(path) for path in paths))
                for path in paths:
                    body, stays = line.answer()
                    self.check(body, path.encode())
                    if not stays:
                        return
                time.sleep(chance.random() * 0.02)

    def uploading(self, chance):
        body = chance.randbytes(40000)
        with Line(self.address) as line:
            line.sock.sendall(request("/upload", "POST", "Content-Length: %d\r\n" % len(body)))
            for i in range(0, len(body), 4000):
                line.sock.sendall(body[i : i + 4000])
                time.sleep(0.05)
            self.check(line.answer()[0], hashlib.sha256(body).hexdigest().encode())

    def downloading(self, chance):
        size = 16 * chance.randrange(4000, 16000)
        with Line(self.address) as line:
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            line.sock.sendall(request("/download?%d" % size))
            self.check(line.answer(pause=0.02)[0], b"0123456789abcdef" * (size // 16))
