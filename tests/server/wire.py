"""HTTP as bytes on a socket: what a test sends is what goes out."""

import collections
import socket

Response = collections.namedtuple("Response", "version status reason headers body")


class Wire:
    """A client connection. Reading is bounded by the socket's timeout."""

    def __init__(self, sock):
        self.sock = sock
        self.buf = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def fill(self):
        data = self.sock.recv(65536)
        self.buf += data
        return data != b""

    def read_until(self, mark):
        while mark not in self.buf:
            if not self.fill():
                raise EOFError("end of stream after %r" % self.buf)
        text, self.buf = self.buf.split(mark, 1)
        return text

    def read_exactly(self, n):
        while len(self.buf) < n:
            if not self.fill():
                raise EOFError("end of stream after %d of %d bytes" % (len(self.buf), n))
        data, self.buf = self.buf[:n], self.buf[n:]
        return data

    def read_rest(self):
        while self.fill():
            pass
        data, self.buf = self.buf, b""
        return data

    def at_eof(self):
        """Whether the server has closed, with nothing left to read. Waits for it."""
        try:
            return self.buf == b"" and not self.fill()
        except ConnectionResetError:
            return True

    def read_chunked(self):
        body = b""
        while True:
            size = int(self.read_until(b"\r\n"), 16)
            body += self.read_exactly(size)
            if self.read_exactly(2) != b"\r\n":
                raise ValueError("chunk without CRLF")
            if size == 0:
                return body

    def response(self, head=False):
        """The next response; head: it answers a HEAD request."""
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        if head or status[0] == "1" or status in ("204", "304"):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self.read_chunked()
        elif "content-length" in headers:
            body = self.read_exactly(int(headers["content-length"]))
        else:
            body = self.read_rest()
        return Response(version, int(status), reason, headers, body)

    def get(self, target, *lines):
        """Send a GET and read its response."""
        self.send(request("GET", target, *lines))
        return self.response()


def request(method, target, *lines, version="1.1", body=b""):
    """A request's bytes, with a Host field."""
    head = "%s %s HTTP/%s\r\n" % (method, target, version)
    head += "".join(line + "\r\n" for line in ("Host: test",) + lines)
    return head.encode("latin-1") + b"\r\n" + body
