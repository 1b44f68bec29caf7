"""Drivers and clients as applications use them, one a route: see cases.py. What is not installed has no routes."""

import asyncio
import contextlib
import os
import select
import sqlite3
import ssl
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty

from cases import LONG, WAIT, app, case, pairs

FEW = 10  # connections in a pool that all requests share
PG_PORT = int(os.environ["TEST_POSTGRES"])
PG_DSN = "host=127.0.0.1 port=%d user=test dbname=postgres" % PG_PORT
PG_URL = "test@127.0.0.1:%d/postgres" % PG_PORT
PG_SLEEP = "SELECT CAST(pg_sleep(%r) AS text), %%s" % WAIT
REDIS = int(os.environ["TEST_REDIS"])
SLOW, SLOW_TLS = os.environ["TEST_SLOW"], os.environ["TEST_SLOW_TLS"]
CERTIFICATE = os.environ["TEST_CERTIFICATE"]


class Once:
    """Something that the first request makes for all."""

    def __init__(self, make):
        self.make = make
        self.made = None
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            if self.made is None:
                self.made = self.make()
            return self.made


@case
def sleep(n):
    time.sleep(WAIT)
    return n


# ---- PostgreSQL ----

with suppress(ImportError):
    import psycopg2
    import psycopg2.pool

    def psycopg2_connect():
        return contextlib.closing(psycopg2.connect(PG_DSN))

    @case
    def psycopg2_connections(n):
        with psycopg2_connect() as connection, connection.cursor() as cursor:
            cursor.execute(PG_SLEEP, (n,))
            return cursor.fetchone()[1]

    psycopg2_one = Once(lambda: psycopg2.connect(PG_DSN))

    @case
    def psycopg2_shared(n):
        """libpq waits while psycopg2 holds the connection's own mutex, for which the others wait."""
        with psycopg2_one().cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.02), %s", (n,))
            return cursor.fetchone()[1]

    psycopg2_connections_of_all = Once(lambda: psycopg2.pool.ThreadedConnectionPool(0, 200, PG_DSN))

    @case
    def psycopg2_pool(n):
        pool = psycopg2_connections_of_all()
        connection = pool.getconn()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(PG_SLEEP, (n,))
                return cursor.fetchone()[1]
        finally:
            pool.putconn(connection)

    @pairs(threading.Event)
    def psycopg2_notify(n, listening, gives):
        channel = "pair%d" % (n // 2)
        with psycopg2_connect() as connection, connection.cursor() as cursor:
            connection.autocommit = True
            if gives:
                assert listening.wait(LONG)
                time.sleep(WAIT)
                cursor.execute("SELECT pg_notify(%s, %s)", (channel, str(n)))
                return n
            cursor.execute("LISTEN " + channel)
            listening.set()
            assert select.select([connection], [], [], LONG)[0]
            connection.poll()
            return int(connection.notifies.pop().payload) - 1

    @case
    def psycopg2_row_lock(n):
        """Transactions that wait for each other's row: lost updates would show in the sum."""
        with psycopg2_connect() as connection, connection, connection.cursor() as cursor:
            cursor.execute("SELECT total FROM overlap FOR UPDATE")
            total = cursor.fetchone()[0]
            time.sleep(0.005)
            cursor.execute("UPDATE overlap SET total = %s", (total + 1,))
            return n


with suppress(ImportError):
    import psycopg

    @case
    def psycopg3_connections(n):
        with psycopg.connect(PG_DSN) as connection:
            return connection.execute(PG_SLEEP, (n,)).fetchone()[1]

    @case
    def psycopg3_async(n):
        async def main():
            async with await psycopg.AsyncConnection.connect(PG_DSN) as connection:
                return (await (await connection.execute(PG_SLEEP, (n,))).fetchone())[1]

        return asyncio.run(main())


with suppress(ImportError):
    import psycopg_pool

    psycopg3_connections_of_all = Once(
        lambda: psycopg_pool.ConnectionPool(PG_DSN, min_size=FEW, max_size=FEW, timeout=LONG, open=True)
    )

    @case
    def psycopg3_pool(n):
        with psycopg3_connections_of_all().connection() as connection:
            return connection.execute(PG_SLEEP, (n,)).fetchone()[1]


with suppress(ImportError):
    import asyncpg

    @case
    def asyncpg_connections(n):
        async def main():
            connection = await asyncpg.connect("postgresql://" + PG_URL)
            try:
                return (await connection.fetchrow(PG_SLEEP % "$1::int", n))[1]
            finally:
                await connection.close()

        return asyncio.run(main())


with suppress(ImportError):
    import pyodbc

    @case
    def pyodbc_connections(n):
        text = "Driver=%s;Server=127.0.0.1;Port=%d;UID=test;Database=postgres" % (os.environ["TEST_ODBC"], PG_PORT)
        with contextlib.closing(pyodbc.connect(text)) as connection:
            return connection.execute(PG_SLEEP % "CAST(? AS int)", n).fetchone()[1]


with suppress(ImportError):
    import django
    from django.conf import settings
    from django.db import connection as django_connection
    from django.db import models

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": PG_PORT,
                               "USER": "test", "NAME": "postgres"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField", USE_TZ=True,
    )  # fmt: skip
    django.setup()

    class Number(models.Model):
        value = models.IntegerField()

        class Meta:
            app_label = "drivers"

    SLEPT = models.Func(models.Value(WAIT), function="pg_sleep", template="CAST(%(function)s(%(expressions)s) AS text)",
                        output_field=models.TextField())  # fmt: skip

    def django_table():
        with django_connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS drivers_number (id serial PRIMARY KEY, value integer NOT NULL)")
        return Number

    numbers = Once(django_table)

    @case
    def django_orm(n):
        try:
            row = numbers().objects.create(value=n)
            return Number.objects.annotate(slept=SLEPT).get(pk=row.pk).value
        finally:
            django_connection.close()  # as at the end of each of Django's requests


with suppress(ImportError):
    import sqlalchemy

    engine = Once(
        lambda: sqlalchemy.create_engine(
            "postgresql+psycopg2://" + PG_URL, pool_size=FEW, max_overflow=0, pool_timeout=LONG
        )
    )
    SLEEP = sqlalchemy.text(PG_SLEEP % "CAST(:n AS int)")

    @case
    def sqlalchemy_pool(n):
        with engine().connect() as connection:
            return connection.execute(SLEEP, {"n": n}).fetchone()[1]

    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    @case
    def sqlalchemy_asyncio(n):
        async def main():
            engine = create_async_engine("postgresql+asyncpg://" + PG_URL, poolclass=NullPool)
            try:
                async with engine.connect() as connection:
                    return (await connection.execute(SLEEP, {"n": n})).fetchone()[1]
            finally:
                await engine.dispose()

        return asyncio.run(main())


# ---- MariaDB ----

MARIADB = {"host": "127.0.0.1", "port": int(os.environ["TEST_MARIADB"]), "user": "test"}


def mariadb_sleep(connect, n):
    with contextlib.closing(connect(**MARIADB)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT SLEEP(%s), %s", (WAIT, n))
        return cursor.fetchone()[1]


with suppress(ImportError):
    import pymysql

    @case
    def pymysql_connections(n):
        return mariadb_sleep(pymysql.connect, n)


with suppress(ImportError):
    import MySQLdb

    @case
    def mysqlclient_connections(n):
        return mariadb_sleep(MySQLdb.connect, n)


# ---- Redis ----

with suppress(ImportError):
    import redis
    import redis.asyncio

    def redis_wait(n, parser):
        pool = redis.ConnectionPool(host="127.0.0.1", port=REDIS, parser_class=parser)
        with contextlib.closing(redis.Redis(connection_pool=pool)) as client:
            assert client.blpop("never-%d" % n, timeout=WAIT) is None
            client.rpush("list-%d" % n, n)
            value = client.blpop("list-%d" % n, timeout=LONG)[1]
        pool.disconnect()
        return int(value)

    try:
        from redis._parsers import _HiredisParser as HiredisParser
        from redis._parsers import _RESP2Parser as PythonParser
    except ImportError:
        from redis.connection import HiredisParser, PythonParser

    @case
    def redis_hiredis(n):
        return redis_wait(n, HiredisParser)

    @case
    def redis_python(n):
        return redis_wait(n, PythonParser)

    redis_client = Once(lambda: redis.Redis(port=REDIS))

    @pairs(lambda: None)
    def redis_pool(n, _, gives):
        if gives:
            time.sleep(WAIT)
            redis_client().rpush("pair-%d" % (n // 2), n - 1)
            return n
        return int(redis_client().blpop("pair-%d" % (n // 2), timeout=LONG)[1])

    @case
    def redis_asyncio(n):
        async def main():
            client = redis.asyncio.Redis(port=REDIS)
            try:
                assert await client.blpop("never-%d" % n, timeout=WAIT) is None
                return n
            finally:
                await client.connection_pool.disconnect()

        return asyncio.run(main())


with suppress(ImportError):
    import kombu

    @case
    def kombu_queue(n):
        with kombu.Connection("redis://127.0.0.1:%d" % REDIS) as connection:
            with contextlib.closing(connection.SimpleQueue("kombu-%d" % n)) as queue:
                with suppress(Empty):
                    queue.get(timeout=WAIT)
                queue.put(n)
                message = queue.get(timeout=LONG)
                message.ack()
                return message.payload


with suppress(ImportError):
    import celery

    celery_app = Once(lambda: celery.Celery("drivers", broker=os.environ["TEST_SLOW_REDIS"]))

    @case
    def celery_publish(n):
        queue = "celery-%d" % (n % 100)  # an application remembers each that it has used
        celery_app().send_task("work", args=[n], queue=queue, retry=False)
        with contextlib.closing(redis.Redis(port=REDIS)) as client:
            assert client.lpop(queue) is not None
        return n


# ---- HTTP ----


@case
def urllib_tls(n):
    context = ssl.create_default_context(cafile=CERTIFICATE)
    with urllib.request.urlopen("%s/%d" % (SLOW_TLS, n), timeout=LONG, context=context) as answer:
        return answer.read().decode()


with suppress(ImportError):
    import requests
    import urllib3

    @case
    def requests_get(n):
        return requests.get("%s/%d" % (SLOW, n), timeout=LONG).text

    @case
    def requests_tls(n):
        return requests.get("%s/%d" % (SLOW_TLS, n), timeout=LONG, verify=CERTIFICATE).text

    SESSION = requests.Session()
    SESSION.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=100))

    @case
    def requests_session(n):
        return SESSION.get("%s/%d" % (SLOW, n), timeout=LONG).text

    urllib3_manager = Once(lambda: urllib3.PoolManager(maxsize=FEW, block=True))

    @case
    def urllib3_pool(n):
        """Requests wait for a connection to come free."""
        return urllib3_manager().request("GET", "%s/%d" % (SLOW, n), timeout=LONG).data.decode()


with suppress(ImportError):
    import anyio._backends._asyncio  # noqa: F401 - a race of AnyIO's: docs/drivers.md
    import httpx

    httpx_context = Once(lambda: ssl.create_default_context(cafile=CERTIFICATE))

    @case
    def httpx_tls(n):
        with httpx.Client(timeout=LONG, verify=httpx_context()) as client:
            return client.get("%s/%d" % (SLOW_TLS, n)).text

    @case
    def httpx_async(n):
        async def main():
            async with httpx.AsyncClient(timeout=LONG, verify=httpx_context()) as client:
                return (await client.get("%s/%d" % (SLOW, n))).text

        return asyncio.run(main())


with suppress(ImportError):
    import io

    import pycurl

    def curl(url):
        it, body = pycurl.Curl(), io.BytesIO()
        for option, value in ((pycurl.URL, url), (pycurl.WRITEDATA, body), (pycurl.CAINFO, CERTIFICATE),
                              (pycurl.TIMEOUT, LONG), (pycurl.NOSIGNAL, 1), (pycurl.FAILONERROR, 1)):  # fmt: skip
            it.setopt(option, value)
        with contextlib.closing(it):
            it.perform()
        return body.getvalue().decode()

    @case
    def pycurl_get(n):
        return curl("%s/%d" % (SLOW, n))

    @case
    def pycurl_tls(n):
        return curl("%s/%d" % (SLOW_TLS, n))


# ---- other servers ----

with suppress(ImportError):
    import ldap

    @case
    def ldap_search(n):
        connection = ldap.initialize("ldap://127.0.0.1:%s" % os.environ["TEST_LDAP"])
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, LONG)
        connection.simple_bind_s("cn=test", "secret")
        (dn, attributes), = connection.search_s("cn=%d" % n, ldap.SCOPE_BASE)
        connection.unbind_s()
        assert dn == "cn=%d" % n
        return attributes["cn"][0].decode()


with suppress(ImportError):
    import pymongo

    mongo = Once(lambda: pymongo.MongoClient("127.0.0.1", int(os.environ["TEST_MONGODB"]), maxPoolSize=200))

    @case
    def pymongo_find(n):
        return mongo().test.numbers.find_one({"n": n})["n"]


MEMCACHED = "127.0.0.1:" + os.environ["TEST_MEMCACHED"]

with suppress(ImportError):
    from pymemcache.client.base import Client as PyMemcache

    @case
    def pymemcache_get(n):
        with contextlib.closing(PyMemcache(MEMCACHED, timeout=LONG)) as client:
            return client.get(str(n)).decode()


with suppress(ImportError):
    import pylibmc

    @case
    def pylibmc_get(n):
        client = pylibmc.Client([MEMCACHED], behaviors={"receive_timeout": LONG * 1000000})
        value = client.get(str(n))
        client.disconnect_all()
        return value.decode()


with suppress(ImportError):
    import grpc

    channel = Once(lambda: grpc.insecure_channel("127.0.0.1:" + os.environ["TEST_GRPC"]))

    @case
    def grpc_call(n):
        return channel().unary_unary("/slow/echo")(b"%d" % n, timeout=LONG).decode()

    @case
    def grpc_future(n):
        return channel().unary_unary("/slow/echo").future(b"%d" % n, timeout=LONG).result().decode()

    def grpc_serve():
        """A server within the worker: its handlers run on threads of their own."""

        def echo(request, context):
            time.sleep(WAIT)
            return request

        handler = grpc.method_handlers_generic_handler("inside", {"echo": grpc.unary_unary_rpc_method_handler(echo)})
        server = grpc.server(ThreadPoolExecutor(100), handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server, grpc.insecure_channel("127.0.0.1:%d" % port)

    inside = Once(grpc_serve)

    @case
    def grpc_inside(n):
        return inside()[1].unary_unary("/inside/echo")(b"%d" % n, timeout=LONG).decode()


# ---- C code that calls Python that waits ----


def slowly(value):
    time.sleep(WAIT)
    return value


@case
def sqlite_function(n):
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.create_function("slowly", 1, slowly)
        return db.execute("SELECT slowly(?)", (n,)).fetchone()[0]


@case
def sqlite_file(n):
    """Writers wait for each other by sleeping: a busy timeout."""
    with contextlib.closing(sqlite3.connect(os.environ["TEST_SQLITE"], timeout=LONG)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE IF NOT EXISTS numbers (n INTEGER)")
        time.sleep(0.001)
        db.execute("INSERT INTO numbers VALUES (?)", (n,))
        return n


with suppress(ImportError):
    from lxml import etree

    class SlowFile:
        def __init__(self, n):
            self.parts = [b"<n>", b"%d" % n, b"</n>", b""]

        def read(self, size):
            time.sleep(WAIT / 4)
            return self.parts.pop(0)

    @case
    def lxml_file(n):
        return etree.parse(SlowFile(n)).getroot().text

    @case
    def lxml_xpath(n):
        """An error in one document is not seen in another's log."""
        functions = {(None, "slowly"): lambda context, value: slowly(value)}
        value = etree.fromstring("<n>%d</n>" % n).xpath("slowly(string(/n))", extensions=functions)
        try:
            etree.fromstring("<n>%d</m%d>" % (n, n))
        except etree.XMLSyntaxError as error:
            assert "m%d" % n in str(error) or "/m" in str(error), error
        return value


with suppress(ImportError):
    import numpy

    @case
    def numpy_vectorize(n):
        """What numpy.errstate says is the request's own."""
        with numpy.errstate(divide="raise" if n % 2 else "ignore"):
            value = int(numpy.vectorize(slowly, otypes=[int])(numpy.array([n])).sum())
            try:
                numpy.array([1.0]) / 0
                assert n % 2 == 0
            except FloatingPointError:
                assert n % 2 == 1
        return value
