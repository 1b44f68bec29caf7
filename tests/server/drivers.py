"""The drivers that tests/apps/drivers_app.py uses: what waits in each, and how long fifty at once take.

As a program it makes the table of docs/drivers.md from what test_drivers.py has measured:
drivers.py FILE.json...
"""

import collections
import importlib.metadata
import importlib.util
import json
import os
import re
import sys

Driver = collections.namedtuple("Driver", "case module name waits")

# case: its route; module: what must be there; name: of the distribution, unless it is Python's own.
DRIVERS = [
    Driver(*row)
    for row in (
        ("psycopg2_connections", "psycopg2", "psycopg2", "libpq's poll; a connection each"),
        ("psycopg2_shared", "psycopg2", "psycopg2", "the mutex of one connection that all share"),
        ("psycopg2_pool", "psycopg2", "psycopg2", "libpq's poll; psycopg2.pool"),
        ("psycopg2_notify", "psycopg2", "psycopg2", "select for a notification that another request sends"),
        ("psycopg3_connections", "psycopg", "psycopg", "select or poll from Python or C; a connection each"),
        ("psycopg3_pool", "psycopg_pool", "psycopg-pool", "a condition: ten connections for all; its threads"),
        ("psycopg3_async", "psycopg", "psycopg", "epoll of an event loop each"),
        ("asyncpg_connections", "asyncpg", "asyncpg", "epoll of an event loop each"),
        ("pyodbc_connections", "pyodbc", "pyodbc", "libpq's poll, below psqlodbc and unixODBC"),
        ("django_orm", "django", "Django", "libpq's poll, below psycopg2"),
        ("sqlalchemy_pool", "sqlalchemy", "SQLAlchemy", "a condition: ten connections for all; libpq's poll"),
        ("sqlalchemy_asyncio", "sqlalchemy", "SQLAlchemy", "epoll, below asyncpg and greenlet"),
        ("pymysql_connections", "pymysql", "PyMySQL", "recv"),
        ("mysqlclient_connections", "MySQLdb", "mysqlclient", "libmariadb's poll and recv"),
        ("redis_python", "redis", "redis", "recv; parser in Python"),
        ("redis_hiredis", "hiredis", "hiredis", "recv; parser in C"),
        ("redis_pool", "redis", "redis", "recv; a client that all share; pairs of BLPOP and RPUSH"),
        ("redis_asyncio", "redis", "redis", "epoll of an event loop each"),
        ("kombu_queue", "kombu", "kombu", "poll and recv: a queue in Redis"),
        ("celery_publish", "celery", "celery", "recv and a pool of producers: tasks sent to a slow Redis"),
        ("urllib_tls", "ssl", "", "OpenSSL's read"),
        ("requests_get", "requests", "requests", "getaddrinfo, recv"),
        ("requests_session", "requests", "requests", "recv; connections kept in a session that all share"),
        ("requests_tls", "requests", "requests", "OpenSSL's read, below urllib3"),
        ("urllib3_pool", "urllib3", "urllib3", "a queue: ten connections for all"),
        ("httpx_tls", "httpx", "httpx", "OpenSSL's read through memory buffers, recv"),
        ("httpx_async", "httpx", "httpx", "epoll of an event loop each; a resolver's thread"),
        ("pycurl_get", "pycurl", "pycurl", "libcurl's poll; its resolver's thread"),
        ("pycurl_tls", "pycurl", "pycurl", "libcurl's poll; GnuTLS, in unstable OpenSSL"),
        ("ldap_search", "ldap", "python-ldap", "libldap's poll"),
        ("pymongo_find", "pymongo", "pymongo", "recv; conditions; its monitor threads"),
        ("pymemcache_get", "pymemcache", "pymemcache", "recv"),
        ("pylibmc_get", "pylibmc", "pylibmc", "libmemcached's poll"),
        ("grpc_call", "grpc", "grpcio", "a condition of gRPC's core in C++; its threads"),
        ("grpc_future", "grpc", "grpcio", "a condition of Python's that gRPC's threads notify"),
        ("grpc_inside", "grpc", "grpcio", "a client and a server with threads in the same worker"),
        ("sqlite_function", "sqlite3", "", "sleep in a Python function that SQLite calls"),
        ("lxml_file", "lxml", "lxml", "sleep in a Python file that libxml2 reads"),
        ("lxml_xpath", "lxml", "lxml", "sleep in a Python function that XPath calls"),
        ("numpy_vectorize", "numpy", "numpy", "sleep in a Python function that numpy calls"),
    )
]

ONE_AT_A_TIME = {"psycopg2_shared"}  # by what the driver is; other requests go on meanwhile


def missing(driver):
    """Why a driver cannot be tried here; None when it can."""
    if importlib.util.find_spec(driver.module) is None:
        return "%s is not installed" % driver.module
    if driver.module == "hiredis":
        import redis.utils

        if not redis.utils.HIREDIS_AVAILABLE:
            return "redis %s does not use hiredis %s" % (redis.__version__, version(driver))
    return None


def version(driver):
    return importlib.metadata.version(driver.name) if driver.name else ""


def label(driver):
    return "%s: %s" % (driver.name or driver.module, driver.case.partition("_")[2])


# ---- what was measured ----


def lines(results):
    """The measured rows as text."""
    text = ["%s, Python %s: %d requests at once in one worker" % (results["system"], results["python"], results["n"])]
    for driver in DRIVERS:
        row = results["rows"].get(driver.case)
        if row:
            what = (driver.case, row["version"], row["total"], row["serial"], row["serial"] / row["total"])
            text.append("  %-24s %-10s %6.2f s, one after another %6.2f s (%5.1f times)" % what)
    return text


def cell(row):
    if row is None:
        return "–"
    return ("%s %.2f / %.1f s" % (row["version"], row["total"], row["serial"])).lstrip()


def table(runs):
    heads = ["%s, Python %s" % (run["system"], run["python"]) for run in runs]
    text = ["| driver | what waits | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(runs)]
    for driver in DRIVERS:
        cells = [cell(run["rows"].get(driver.case)) for run in runs]
        text.append("| %s | %s | %s |" % (label(driver), driver.waits, " | ".join(cells)))
    return "\n".join(text) + "\n"


def main(paths):
    runs = []
    for path in paths:
        with open(path) as f:
            runs.append(json.load(f))
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.path.join(root, "docs", "drivers.md")
    with open(path) as f:
        text = f.read()
    marks = r"(<!-- measured: begin -->\n).*(<!-- measured: end -->\n)"
    new, found = re.subn(marks, lambda marks: marks[1] + table(runs) + marks[2], text, flags=re.S)
    if not found:
        sys.exit("%s has no place for the table" % path)
    with open(path, "w") as f:
        f.write(new)


if __name__ == "__main__":
    main(sys.argv[1:])
