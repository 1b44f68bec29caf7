#!/usr/bin/python3
"""A worker that keeps the contract (common/contract.h) and misbehaves on demand: for tests of the master.

The application's name says how: "ok", or words joined by "+":
  exit=N        exit with that code at once         die=S:N     exit with N, S seconds after it was ready
  late=S        be ready after S seconds            never       never be ready
  silent        no heartbeat once ready             segv=S      SIGSEGV S seconds after it was ready
  retire=S      ask to be replaced S seconds after it was ready
  broken=PATH   exit with 3 if there is such a file
  mute          close the control socket once ready
  chatty        send rubbish to the master all the time
  stubborn      ignore TERM                         deaf        ignore ABRT as well
  mold=fork     with preload_app: fork workers      mold=twice  fork one, then name that one again
  mold=N        name process N as the worker        mold=hang   never answer
It answers each connection with JSON about itself.
"""

import json
import mmap
import os
import re
import select
import signal
import socket
import struct
import sys
import time

START = 3


def descriptors():
    assert int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PID is not ours"
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert len(names) == int(os.environ["LISTEN_FDS"])
    found = {}
    for i, name in enumerate(names):
        found.setdefault(name, []).append(START + i)
    return found


def setting(text, name):
    return re.search(r'^%s = "(.*)";$' % name, text, re.M).group(1)


def say(text):
    os.write(2, ("%s (pid: %d)\n" % (text, os.getpid())).encode())


class Worker:
    def __init__(self):
        self.fds = descriptors()
        (settings,) = self.fds["settings"]
        self.settings = os.pread(settings, 1 << 20, 0).decode()
        self.app = setting(self.settings, "wsgi_app")
        self.how = dict((word + "=").split("=")[:2] for word in self.app.split("+"))
        if "check_config = true;" in self.settings:
            sys.exit(int(self.how.get("exit", 0)))
        self.control = socket.socket(fileno=self.fds["control"][0])
        self.rows = mmap.mmap(self.fds["scoreboard"][0], 0)
        self.slot = int(os.environ["GREENICORN_SLOT"])
        self.listeners = [socket.socket(fileno=fd) for fd in self.fds["listen"]]
        self.ending = False

    def beat(self):
        struct.pack_into("Q", self.rows, 64 * self.slot, time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    def finish(self, *_):
        self.ending = True

    def handle_signals(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in self.how else self.finish)
        signal.signal(signal.SIGUSR1, lambda *_: say("Worker reopens"))
        for sig in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(sig, lambda *_: os._exit(0))
        if "deaf" in self.how:
            signal.signal(signal.SIGABRT, signal.SIG_IGN)

    def start(self):
        self.handle_signals()
        if "exit" in self.how:
            sys.exit(int(self.how["exit"]))
        if os.path.exists(self.how.get("broken", "")):
            sys.exit(3)
        time.sleep(float(self.how.get("late", 0)))
        while "never" in self.how and not self.ending:
            time.sleep(0.05)
        if self.ending:
            sys.exit(0)
        say("Worker ready")  # first: what the master does then is logged after it
        self.control.send(b"ready")
        if "mute" in self.how:
            self.control.close()

    def fork(self, control):
        """Twice, so that the worker is the master's child; in the mold, its pid."""
        reading, writing = os.pipe()
        if os.fork() == 0:
            pid = os.fork()
            if pid:
                os.write(writing, b"%d" % pid)
                os._exit(0)
            self.control.close()
            self.control = socket.socket(fileno=control)
            return 0
        pid = int(os.read(reading, 20))
        os.wait()
        for fd in reading, writing, control:
            os.close(fd)
        return pid

    def mold(self):
        """Until this process is a worker."""
        how, pid = self.how["mold"], 0
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        self.control.send(b"ready")
        while True:
            select.select([self.control], [], [])
            order, fds, _, _ = socket.recv_fds(self.control, 64, 1)
            if not order:
                os._exit(0)
            if how == "fork" or (how == "twice" and not pid):
                pid = self.fork(*fds)
                if not pid:
                    self.slot = int(order.split()[1])
                    return
            if how != "hang":
                self.control.send(b"forked %d" % (pid or int(how)))

    def answer(self, listener):
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        about = {"pid": os.getpid(), "app": self.app, "env": dict(os.environ), "settings": self.settings,
                 "fds": self.fds, "cwd": os.getcwd(), "ppid": os.getppid(),
                 "open": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))}  # fmt: skip
        body = json.dumps(about).encode()
        connection.settimeout(1)
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def chat(self):
        try:
            for word in (b"ready", b"readyready", b"re", bytes(100), b"ready") * 50:
                self.control.send(word)
        except BlockingIOError:
            pass

    def misbehave(self, age):
        if age > float(self.how.get("retire", 1e9)):
            self.how.pop("retire")
            self.control.send(b"retire")
        seconds, _, code = self.how.get("die", "1e9:0").partition(":")
        if age > float(seconds):
            os._exit(int(code))
        if age > float(self.how.get("segv", 1e9)):
            os.kill(os.getpid(), signal.SIGSEGV)

    def serve(self):
        began = time.monotonic()
        while not self.ending:
            self.misbehave(time.monotonic() - began)
            if "silent" not in self.how:
                self.beat()
            if "chatty" in self.how:
                self.chat()
            sockets = self.listeners + ([] if "mute" in self.how else [self.control])
            ready, _, _ = select.select(sockets, [], [], 0.05)
            if self.control in ready and not self.control.recv(64):
                break  # the master is gone
            for listener in ready:
                if listener is not self.control:
                    self.answer(listener)
        say("Worker exiting")


worker = Worker()
if "GREENICORN_MOLD" in os.environ:
    worker.mold()
worker.start()
worker.serve()
