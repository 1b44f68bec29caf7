"""Nothing is lost: clients that count, while the server reloads, upgrades, recycles, grows and shrinks.

GREENICORN_RELOADS and GREENICORN_UPGRADES make it longer: see docs/reliability.md.
"""

import os
import signal

import harness
from counting import Clients
from harness import wait_for
from sites import Site

RELOADS = int(os.environ.get("GREENICORN_RELOADS", "5"))
UPGRADES = int(os.environ.get("GREENICORN_UPGRADES", "3"))


def assert_nothing_lost(clients, least):
    assert clients.lost == []
    assert clients.answered >= least


def test_reloads(serve):
    site = Site(serve("reliable", workers=2))
    with Clients(("127.0.0.1", site.server.port)) as clients:
        for _ in range(RELOADS):
            site.reload()
    assert_nothing_lost(clients, 20 * RELOADS)


def test_upgrades(serve, tmp_path):
    site = Site(serve("reliable", workers=2, pidfile=str(tmp_path / "pid")))
    try:
        with Clients(("127.0.0.1", site.server.port)) as clients:
            for _ in range(UPGRADES):
                site.upgrade()
        assert_nothing_lost(clients, 20 * UPGRADES)
    finally:
        site.stop()


def test_recycling_growing_and_shrinking(serve):
    site = Site(serve("reliable", workers=2, max_requests=100, max_requests_jitter=50))
    with Clients(("127.0.0.1", site.server.port)) as clients:
        for i in range(RELOADS):
            site.server.wait_log("Autorestarting worker", 30, count=2 * i + 2)
            site.signal(signal.SIGTTIN)
            wait_for(lambda: len(site.workers()) >= 3, 20)
            site.signal(signal.SIGTTOU)
        site.wait_ready(2)
    assert_nothing_lost(clients, 100 * RELOADS)


def test_idle_connections_never_delay_a_stop(serve):
    server = serve("reliable")
    lines = [server.connect() for _ in range(50)]
    for line in lines:
        line.get("/x")
        assert line.response().text == "/x"
    server.signal(signal.SIGTERM)
    assert server.process.wait(5 * harness.PATIENCE) == 0
    for line in lines:
        assert line.is_closed()  # by FIN: a reset would be an error here


def test_requests_longer_than_the_graceful_timeout_are_cut_and_named(serve):
    server = serve("reliable", graceful_timeout=1)
    with server.connect() as line, server.connect() as other:
        line.get("/sleep?30")
        other.get("/x")
        assert other.response().status == 200  # so the first has begun
        server.signal(signal.SIGTERM)
        assert server.process.wait(10 * harness.PATIENCE) == 0
    server.wait_log(r"WARNING\] Worker graceful timeout \(pid:\d+\)")
    server.wait_log(r"WARNING\] Cut off after 1\.\d s: GET /sleep \(client 127\.0\.0\.1\)$")
