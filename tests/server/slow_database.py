"""A server that answers each line with that line, but not before it is told to: what thousands of requests wait for.

Run as a program it prints its port. A line "asked" is answered at once with how many wait,
"release" ends their waits.
"""

import contextlib
import os
import selectors
import socket
import subprocess
import sys

import harness


class Database:
    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.asked = []

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                else:
                    self.receive(key.fileobj)

    def receive(self, sock):
        line = sock.recv(100).strip()
        if line == b"asked":
            sock.sendall(b"%d\n" % len(self.asked))
        elif line == b"release":
            for waiting, answer in self.asked:
                waiting.sendall(answer)
            self.asked = []
        elif line:
            self.asked.append((sock, line))
        else:
            self.selector.unregister(sock)
            sock.close()


class Running:
    def __init__(self, port):
        self.port = port

    def tell(self, line):
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(line + b"\n")
            s.shutdown(socket.SHUT_WR)
            return s.recv(100)

    def asked(self):
        return int(self.tell(b"asked"))

    def release(self):
        self.tell(b"release")


@contextlib.contextmanager
def running():
    """A process of its own, which has a limit on descriptors of its own."""
    process = subprocess.Popen([sys.executable, "-B", os.path.abspath(__file__)], stdout=subprocess.PIPE)
    try:
        yield Running(int(process.stdout.readline()))
    finally:
        harness.stop_process(process)
        process.stdout.close()


if __name__ == "__main__":
    database = Database()
    print(database.listener.getsockname()[1], flush=True)
    database.run()
