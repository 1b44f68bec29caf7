"""environ["gunicorn.socket"]: the request's connection as a real socket of Python's.

Three classes of one layout, an object goes from one to the next: _Lazy has no descriptor yet, since few
applications ask; Shared has one of its own and is for looking (addresses, options, select); Taken
belongs to the application, and the server sends nothing more. What tells them apart is in the C half,
connection.c: object._exchange.
"""

import _socket
import os
import socket
import threading
import time

GRACE = 0.5  # seconds that others may use the connection after its request


class Taken(socket.socket):
    """The connection is the application's until its request ends."""

    __slots__ = ("_exchange",)

    def dup(self):
        self._exchange.kept = True  # the other one goes on after the request
        return socket.socket(fileno=os.dup(self.fileno()))

    def detach(self):
        self._exchange.kept = True
        return super().detach()


class Shared(Taken):
    """What only looks leaves the request as it is; what receives, closes or gives on takes the connection."""

    __slots__ = ()

    def __repr__(self):
        return "<gunicorn.socket fd=%d>" % _socket.socket.fileno(self)

    def _take(self):
        self._exchange.take(_socket.socket.fileno(self))
        self.__class__ = Taken

    def fileno(self):
        # Who asked for another protocol and is given the number will not go through here again.
        if self._exchange.upgrade:
            self._take()
        return _socket.socket.fileno(self)

    def recv(self, size, flags=0, /):
        # Whether the client is still there is found out by MSG_PEEK.
        if not flags & socket.MSG_PEEK:
            self._take()
        return _socket.socket.recv(self, size, flags)


def _taking(function):
    def method(self, *args, **kwargs):
        self._take()
        return function(self, *args, **kwargs)

    return method


def _sending(function):
    """An interim response by hand, say, is followed by the application's response."""

    def method(self, *args, **kwargs):
        if self._exchange.upgrade:
            self._take()
        return function(self, *args, **kwargs)

    return method


for _name in (
    "close", "detach", "dup", "makefile", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "shutdown",
):  # fmt: skip
    setattr(Shared, _name, _taking(getattr(Taken, _name)))
for _name in ("send", "sendall", "sendfile", "sendmsg", "sendto"):
    setattr(Shared, _name, _sending(getattr(Taken, _name)))

_look_lock = threading.Lock()


class _Lazy(Shared):
    __slots__ = ()

    def __getattribute__(self, name):
        if name == "__class__":  # isinstance() asks
            return Shared
        _look(self)
        return getattr(self, name)


def _look(lazy):
    with _look_lock:
        if type(lazy) is not _Lazy:
            return  # another thread has
        fd = Taken._exchange.__get__(lazy).look()
        object.__setattr__(lazy, "__class__", Shared)
        socket.socket.__init__(lazy, fileno=fd)
        lazy.setblocking(True)  # as gunicorn does


def make_connection(exchange):
    connection = _Lazy.__new__(_Lazy)
    connection._exchange = exchange
    return connection


def _let_others_end(connection):
    """Threads of the application's that wait in recv() are told; what they send by that (a close frame) may leave.

    simple-websocket wakes the request first and then answers the client, closes and ends, in a thread of its own.
    """
    try:
        socket.socket.shutdown(connection, socket.SHUT_RD)
    except OSError:
        return
    end = time.monotonic() + GRACE
    while not connection._closed and time.monotonic() < end:
        time.sleep(0.01)


def end_connection(connection, shared):
    """The request is over, and with it the connection, but for what the application has kept of it.

    shared: somebody else has the object still.
    """
    if type(connection) is Taken and not connection._exchange.kept:
        if shared:
            _let_others_end(connection)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    socket.socket.close(connection)
    connection._real_close()  # also while files made of it are open
