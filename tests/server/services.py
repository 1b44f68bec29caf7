"""What drivers talk to, on free ports in a temporary folder: MariaDB, and servers in this process that take their time.

PostgreSQL and Redis are in harness.py. LDAP, MongoDB and memcached are a few messages of
their protocols: what waits is the client's own code, and Debian's servers would start at every boot, or there are none.
"""

import glob
import http.server
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import harness


class MariaDB:
    """A server in an empty directory, without users and their passwords: anybody may do anything."""

    def __init__(self, folder):
        self.port = harness.free_port()
        self.folder = os.path.join(str(folder), "mariadb")
        data = os.path.join(self.folder, "data")
        os.makedirs(data)
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen(
                [shutil.which("mariadbd") or "/usr/sbin/mariadbd", "--no-defaults", "--datadir=" + data,
                 "--skip-grant-tables", "--bind-address=127.0.0.1", "--port=%d" % self.port,
                 "--socket=" + os.path.join(self.folder, "sock"), "--pid-file=" + os.path.join(self.folder, "pid"),
                 "--max-connections=400", *(["--user=root"] if os.geteuid() == 0 else [])],
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        harness.wait_for(self._answers, 60, "MariaDB")

    def _answers(self):
        """It greets whoever connects, as the last step of its start."""
        assert self.process.poll() is None, open(os.path.join(self.folder, "log")).read()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                return len(s.recv(5)) == 5
        except OSError:
            return False

    def stop(self):
        harness.stop_process(self.process, 30)


class Served:
    """A socketserver in a thread: a handler for each connection, in a thread of its own."""

    class Threads(socketserver.ThreadingTCPServer):
        request_queue_size = 512
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request, client_address):
            """A client that goes away is nothing to report."""

    def __init__(self, handler, context=None):
        self.server = self.Threads(("127.0.0.1", 0), handler)
        if context:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


# ---- HTTP ----


def http_handler(wait):
    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers /TEXT with TEXT after a while."""

        protocol_version = "HTTP/1.1"

        def do_GET(self):
            time.sleep(wait)
            body = self.path[1:].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler


def certificate(folder):
    """The file of a new certificate for localhost, and a server's context with it."""
    key, file = os.path.join(folder, "key.pem"), os.path.join(folder, "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


# ---- a proxy whose server seems far away ----


def delay_handler(port, wait):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", port)) as server:
                threading.Thread(target=self.copy, args=(self.request, server, 0), daemon=True).start()
                self.copy(server, self.request, wait)

        def copy(self, source, target, delay):
            try:
                while data := source.recv(65536):
                    time.sleep(delay)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # one of the two has closed

    return Handler


# ---- LDAP ----


def ber(tag, *parts):
    content = b"".join(parts)
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


class Ber:
    """What is left of a message; read() takes its next element."""

    def __init__(self, content):
        self.content = content

    def read(self):
        tag, length, start = self.content[0], self.content[1], 2
        if length & 128:
            start += length & 127
            length = int.from_bytes(self.content[2:start], "big")
        element = self.content[start : start + length]
        self.content = self.content[start + length :]
        return tag, element


def ldap_handler(wait):
    class Handler(socketserver.StreamRequestHandler):
        """Binds whoever asks; a search for cn=N finds it, after a while."""

        def message(self):
            head = self.rfile.read(2)
            if len(head) < 2:
                return None
            if head[1] & 128:
                head += self.rfile.read(head[1] & 127)
                return self.rfile.read(int.from_bytes(head[2:], "big"))
            return self.rfile.read(head[1])

        def handle(self):
            done = ber(0x0A, b"\0"), ber(0x04), ber(0x04)  # success
            while message := self.message():
                message = Ber(message)
                number = ber(0x02, message.read()[1])
                operation, content = message.read()
                if operation == 0x60:
                    self.wfile.write(ber(0x30, number, ber(0x61, *done)))
                elif operation == 0x63:
                    time.sleep(wait)
                    dn = Ber(content).read()[1]
                    cn = ber(0x30, ber(0x04, b"cn"), ber(0x31, ber(0x04, dn.partition(b"=")[2])))
                    self.wfile.write(ber(0x30, number, ber(0x64, ber(0x04, dn), ber(0x30, cn))))
                    self.wfile.write(ber(0x30, number, ber(0x65, *done)))
                else:
                    return  # unbind

    return Handler


# ---- MongoDB ----


def mongodb_handler(wait):
    import bson

    class Handler(socketserver.StreamRequestHandler):
        """A server alone, of protocol versions 0 to 17; find finds what it is asked for, after a while."""

        OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013

        def handle(self):
            while len(head := self.rfile.read(16)) == 16:
                length, number, _, operation = struct.unpack("<iiii", head)
                body = self.rfile.read(length - 16)
                if operation == self.OP_QUERY:
                    command = body[body.index(b"\0", 4) + 9 :]
                    answer = struct.pack("<iqii", 8, 0, 0, 1) + bson.BSON.encode(self.answer(command))
                    operation = self.OP_REPLY
                else:
                    command = body[5:]
                    answer = struct.pack("<iB", 0, 0) + bson.BSON.encode(self.answer(command))
                self.wfile.write(struct.pack("<iiii", 16 + len(answer), 0, number, operation) + answer)

        def answer(self, command):
            command = bson.BSON(command[: struct.unpack_from("<i", command)[0]]).decode()
            if "find" in command:
                time.sleep(wait)
                cursor = {"id": bson.Int64(0), "ns": "test.numbers", "firstBatch": [command["filter"]]}
                return {"cursor": cursor, "ok": 1.0}
            return {"ismaster": True, "isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 17, "ok": 1.0,
                    "maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 1 << 25, "maxWriteBatchSize": 1000}  # fmt: skip

    return Handler


# ---- memcached ----


def memcached_handler(wait):
    class Handler(socketserver.StreamRequestHandler):
        """Every key has itself as its value."""

        def handle(self):
            while line := self.rfile.readline().split():
                if line[0] in (b"get", b"gets"):
                    time.sleep(wait)
                    item = (line[1], len(line[1]), line[1])
                    self.wfile.write(b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % item)
                elif line[0] == b"version":
                    self.wfile.write(b"VERSION 1.6.0\r\n")
                else:
                    return

    return Handler


# ---- gRPC ----


class Grpc:
    def __init__(self, wait):
        import grpc

        def echo(request, context):
            time.sleep(wait)
            return request

        handler = grpc.method_handlers_generic_handler("slow", {"echo": grpc.unary_unary_rpc_method_handler(echo)})
        self.server = grpc.server(ThreadPoolExecutor(100), handlers=[handler])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()


# ---- all of them ----


class Services:
    """Everything that drivers_app.py talks to; env tells it where."""

    def __init__(self, folder, wait, postgres, redis):
        self.started = []
        file, context = certificate(str(folder))
        mariadb = self.start(MariaDB(folder))
        slow = self.serve(http_handler(wait))
        slow_tls = self.serve(http_handler(wait), context)
        self.env = {
            "TEST_WAIT": str(wait),
            "TEST_POSTGRES": str(postgres.port),
            "TEST_REDIS": str(redis.port),
            "TEST_MARIADB": str(mariadb.port),
            "TEST_SLOW": "http://localhost:%d" % slow,
            "TEST_SLOW_TLS": "https://localhost:%d" % slow_tls,
            "TEST_CERTIFICATE": file,
            "TEST_SLOW_REDIS": "redis://127.0.0.1:%d" % self.serve(delay_handler(redis.port, wait / 2)),
            "TEST_LDAP": str(self.serve(ldap_handler(wait))),
            "TEST_MONGODB": str(self.serve(mongodb_handler(wait))),
            "TEST_MEMCACHED": str(self.serve(memcached_handler(wait))),
            "TEST_GRPC": str(self.start(Grpc(wait)).port),
            "TEST_ODBC": odbc_driver(),
            "TEST_SQLITE": os.path.join(str(folder), "numbers.db"),
        }

    def start(self, service):
        self.started.append(service)
        return service

    def serve(self, handler, context=None):
        return self.start(Served(handler, context)).port

    def stop(self):
        for service in reversed(self.started):
            service.stop()


def odbc_driver():
    """The file of PostgreSQL's driver, which needs no registration this way."""
    return next(iter(sorted(glob.glob("/usr/lib/*/odbc/psqlodbcw.so"))), "")
