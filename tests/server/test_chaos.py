"""Everything happens to a server at once, for a few seconds: see chaos.py, which does it for longer."""

import re

import chaos
import pytest
from counting import Clients


@pytest.mark.parametrize("preload, seed", [(False, 1), (True, 2)])
def test_only_what_was_in_a_killed_worker_is_lost(serve, tmp_path, preload, seed):
    more = {"preload_app": True} if preload else {}
    server = serve("reliable", **chaos.settings(tmp_path), **more)
    disorder = chaos.Chaos(server, seed)
    try:
        with Clients(("127.0.0.1", server.port)) as clients:
            disorder.run(8)
    finally:
        disorder.site.stop()
        server.stop()
        server.process = None  # whose finish() would complain of the crashes
    assert not re.search("runtime error:|AddressSanitizer: (heap|stack|global)", server.log_text())
    assert chaos.unexplained(clients, disorder) == []
    assert clients.answered > 100 and sum(disorder.counts.values()) > 3
