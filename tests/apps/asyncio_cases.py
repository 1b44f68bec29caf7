"""asyncio inside requests, each with a loop of its own: see cases.py."""

import asyncio
import contextvars
import os
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress

import django.conf
import django.core.wsgi
import django.http
import django.urls
from asgiref.sync import async_to_sync, sync_to_async
from cases import LONG, WAIT, app, case
from flask import request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

try:
    import uvloop
except ImportError:
    uvloop = None

variable = contextvars.ContextVar("variable", default=None)


@case
def many_tasks(n):
    async def one(i):
        await asyncio.sleep(WAIT)
        return i

    async def main():
        return sum(await asyncio.gather(*(one(i) for i in range(20))))

    assert asyncio.run(main()) == 190
    return n


@case
def executor(n):
    async def main():
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*(loop.run_in_executor(None, time.sleep, WAIT) for _ in range(3)))
        return n if results == [None] * 3 else -1

    return asyncio.run(main())


@case
def to_thread(n):
    variable.set(n)

    def blocking():
        time.sleep(WAIT)
        return variable.get()

    async def main():
        return await asyncio.to_thread(blocking)

    return asyncio.run(main())


@case
def timeouts(n):
    async def main():
        try:
            await asyncio.wait_for(asyncio.sleep(LONG), WAIT)
        except asyncio.TimeoutError:
            return n

    return asyncio.run(main())


@case
def streams(n):
    """A server and a client of its own, on loopback."""

    async def serve(reader, writer):
        line = await reader.readline()
        await asyncio.sleep(WAIT)
        writer.write(line)
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"%d\n" % n)
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return int(answer)

    return asyncio.run(main())


theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
theirs.load_cert_chain(os.environ["TEST_CERTIFICATE"], os.environ["TEST_KEY"])
ours = ssl.create_default_context(cafile=os.environ["TEST_CERTIFICATE"])


@case
def tls_streams(n):
    """Both ends of TLS on one loop."""

    async def serve(reader, writer):
        line = await reader.readline()
        await asyncio.sleep(WAIT)
        writer.write(line * 2000)
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=theirs)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address, ssl=ours, server_hostname="localhost")
            writer.write(b"%d\n" % n)
            lines = (await reader.read()).split()
            writer.close()
            assert len(lines) == 2000
            return int(lines[-1])

    return asyncio.run(main())


@case
def cancelled(n):
    """asyncio.timeout, where it is (3.11), around what goes on for longer, in a task group."""

    async def main():
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT), asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(asyncio.sleep(LONG))
            return -1
        return n

    return asyncio.run(main())


@case
def runner(n):
    """One loop for several calls, with its context."""

    async def put():
        variable.set(n)

    async def get():
        await asyncio.sleep(WAIT)
        return variable.get()

    with asyncio.Runner() as one:
        one.run(put())
        return one.run(get())


@case
def turns(n):
    """asyncio.sleep(0) is others' turn, too: requests 2k and 2k + 1 count in step."""
    theirs = n ^ 1

    async def main():
        for i in range(20):
            counts[n] = i
            while counts.get(theirs, 0) < i - 1:
                await asyncio.sleep(0)
        counts[n] = 20

    asyncio.run(main())
    return n


counts = {}


@case
def recv_in_a_coroutine(n):
    ours, theirs = socket.socketpair()

    async def main():
        timer = threading.Timer(WAIT, theirs.sendall, [b"%d" % n])
        timer.start()
        return int(ours.recv(100))

    with ours, theirs:
        return asyncio.run(main())


@case
def subprocess_exec(n):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "sleep %s; cat" % WAIT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(b"%d" % n)
        assert process.returncode == 0
        return int(out)

    return asyncio.run(main())


@case
def subprocess_kill(n):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", str(LONG))
        await asyncio.sleep(WAIT)
        process.kill()
        assert await process.wait() == -9
        return n

    return asyncio.run(main())


@case
def getaddrinfo(n):
    async def main():
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        await asyncio.sleep(WAIT)
        return n if found else -1

    return asyncio.run(main())


@case
def blocking_in_a_coroutine(n):
    """It holds up this loop's other tasks, as anywhere, and no other request."""

    async def main():
        time.sleep(WAIT)
        return n

    return asyncio.run(main())


@case
def loops_are_apart(n):
    async def main():
        mine = asyncio.get_running_loop()
        for _ in range(5):
            await asyncio.sleep(WAIT / 5)
            assert asyncio.get_running_loop() is mine
        return n

    result = asyncio.run(main())
    assert asyncio._get_running_loop() is None
    return result


@case
def one_loop_kept(n):
    """loop.run_until_complete on a loop that the request makes and closes by itself, twice."""
    loop = asyncio.new_event_loop()
    try:
        for _ in range(2):
            loop.run_until_complete(asyncio.sleep(WAIT / 2))
    finally:
        loop.close()
    return n


@case
def to_sync(n):
    """asgiref's, as Django uses it for async views under WSGI, with a way back to blocking code."""

    async def main(value):
        await asyncio.sleep(WAIT)
        return await sync_to_async(lambda: value)()

    return async_to_sync(main)(n)


@case
def to_async_beside(n):
    async def main():
        blocking = sync_to_async(lambda: time.sleep(WAIT), thread_sensitive=False)
        await asyncio.gather(blocking(), asyncio.sleep(WAIT))
        return n

    return async_to_sync(main)()


@case
def signal_handlers(n):
    """For the main thread only, as on any thread but that one."""

    async def main():
        try:
            asyncio.get_running_loop().add_signal_handler(10, print)
        except (RuntimeError, ValueError):
            await asyncio.sleep(WAIT)
            return n

    assert threading.current_thread() is not threading.main_thread()
    return asyncio.run(main())


@app.get("/flask_async_view")
async def flask_async_view():
    await asyncio.sleep(WAIT)
    return request.args["n"]


async def django_view(request):
    """Where it blocks it runs on the request's own thread (thread_sensitive)."""
    await asyncio.sleep(WAIT / 2)
    await sync_to_async(time.sleep)(WAIT / 2)
    n = request.GET["n"]
    return django.http.HttpResponse(n, headers={"Content-Length": len(n)})


django.conf.settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="test", DEBUG=True, DEFAULT_CHARSET="utf-8", USE_TZ=True
)
urlpatterns = [django.urls.path("view", django_view)]
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/django": django.core.wsgi.get_wsgi_application()})

with suppress(ImportError):
    import aiohttp
    import aiohttp.web

    @case
    def aiohttp_client(n):
        """And a server, in the same loop."""

        async def answer(request):
            await asyncio.sleep(WAIT)
            return aiohttp.web.Response(text=request.query["n"])

        async def main():
            web = aiohttp.web.Application()
            web.add_routes([aiohttp.web.get("/", answer)])
            runner = aiohttp.web.AppRunner(web)
            await runner.setup()
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
            url = "http://127.0.0.1:%d/?n=%d" % (runner.addresses[0][1], n)
            try:
                async with aiohttp.ClientSession() as session, session.get(url) as response:
                    return int(await response.text())
            finally:
                await runner.cleanup()

        return asyncio.run(main())


with suppress(ImportError):
    import aiosqlite

    @case
    def aiosqlite_function(n):
        """SQLite runs on a thread that aiosqlite makes; the function waits there."""

        def wait(value):
            time.sleep(WAIT)
            return value

        async def main():
            async with aiosqlite.connect(":memory:") as connection:
                await connection.create_function("wait", 1, wait)
                async with connection.execute("SELECT wait(?)", (n,)) as cursor:
                    return (await cursor.fetchone())[0]

        return asyncio.run(main())

    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    @case
    def aiosqlite_sqlalchemy(n):
        """greenlet is what lets SQLAlchemy's own code wait for a coroutine."""

        async def main():
            engine = create_async_engine("sqlite+aiosqlite://")
            async with engine.begin() as connection:
                await connection.execute(sqlalchemy.text("CREATE TABLE t (n INTEGER)"))
                await connection.execute(sqlalchemy.text("INSERT INTO t VALUES (:n)"), {"n": n})
                await asyncio.sleep(WAIT)
                result = (await connection.execute(sqlalchemy.text("SELECT n FROM t"))).scalar()
            await engine.dispose()
            return result

        return asyncio.run(main())


if uvloop:

    def on_uvloop(main):
        if sys.version_info >= (3, 12):
            return uvloop.run(main)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)

    @case
    def uvloop_sleep(n):
        async def main():
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
            await asyncio.gather(*(asyncio.sleep(WAIT) for _ in range(10)))
            return n

        return on_uvloop(main())

    @case
    def uvloop_streams(n):
        async def main():
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ours)
            other_reader, other_writer = await asyncio.open_connection(sock=theirs)
            asyncio.get_running_loop().call_later(WAIT, other_writer.write, b"%d\n" % n)
            try:
                return int(await reader.readline())
            finally:
                writer.close()
                other_writer.close()

        return on_uvloop(main())

    @case
    def uvloop_executor(n):
        async def main():
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, WAIT)
            return n

        return on_uvloop(main())
