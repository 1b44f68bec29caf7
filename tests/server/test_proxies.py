"""What a proxy in front says of its client, and who is believed: forwarded_allow_ips and its like."""

import os

import pytest

from harness import Connection, wait_for

APP = "environ_app:app"
TRUSTING = {"forwarded_allow_ips": "127.0.0.0/8"}


def environ(server, *fields, path="/", status=200):
    with server.connect() as c:
        c.get(path, fields, close=True)
        response = c.response()
    assert response.status == status, response.body
    return dict(line.split("=", 1) for line in response.text.splitlines()) if status == 200 else None


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    (folder / "environ_app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return ['%s=%s\\n'.encode() % (k.encode(), str(v).encode('latin-1')) for k, v in environ.items()]\n"
    )
    return str(folder)


@pytest.fixture
def start(serve, app):
    return lambda **settings: serve(APP, chdir=app, **settings)


def scheme(server, *fields):
    return environ(server, *fields)["wsgi.url_scheme"]


def test_the_scheme(start):
    server = start()
    for name, https, http in (
        ("X-Forwarded-Proto", "https", "http"),
        ("x-forwarded-protocol", "ssl", "https"),
        ("X-FORWARDED-SSL", "on", "off"),
    ):
        assert scheme(server, (name, https)) == "https"
        assert scheme(server, (name, http)) == "http"
    assert scheme(server, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "on")) == "https"
    assert scheme(server) == "http"


def test_fields_that_contradict_each_other(start):
    server = start()
    environ(server, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off"), status=400)
    environ(server, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http"), status=400)
    server.wait_log("Invalid request from ip=127.0.0.1: Contradictory scheme headers")


def test_fields_of_ones_own(start):
    server = start(args=["--forwarded-allow-ips", "*"])
    server.stop()
    with open(server.config, "a") as f:
        f.write('secure_scheme_headers = { X-TLS = "yes"; };\n')
    config = open(server.config).read()
    server.write_config = lambda **_: open(server.config, "w").write(config)
    server.start()
    assert scheme(server, ("x-tls", "yes"), ("X-Forwarded-Proto", "http")) == "https"
    assert scheme(server, ("x-tls", "no")) == "http"
    assert scheme(server, ("X-Forwarded-Proto", "https")) == "http"


def test_who_is_not_believed(start):
    for allowed in ("10.0.0.0/8,::1", ""):
        server = start(forwarded_allow_ips=allowed, forwarded_for="x-forwarded-for")
        keys = environ(
            server, ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.1"), ("SCRIPT_NAME", "/shop"), path="/shop/a"
        )
        assert keys["wsgi.url_scheme"] == "http" and keys["REMOTE_ADDR"] == "127.0.0.1"
        assert (keys["SCRIPT_NAME"], keys["PATH_INFO"]) == ("", "/shop/a")
        assert "HTTP_SCRIPT_NAME" not in keys and keys["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
        # contradictions of those are nothing to us
        assert scheme(server, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")) == "http"


def test_the_variable(start):
    server = start(env={"FORWARDED_ALLOW_IPS": "10.0.0.1"})
    assert scheme(server, ("X-Forwarded-Proto", "https")) == "http"
    server = start(env={"FORWARDED_ALLOW_IPS": "*"})
    assert scheme(server, ("X-Forwarded-Proto", "https")) == "https"


def test_a_unix_socket_is_believed(start, tmp_path):
    path = str(tmp_path / "socket")
    start(bind="unix:" + path, forwarded_allow_ips="", forwarded_for="x-forwarded-for")
    with Connection(path) as c:
        c.get("/", [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.1")], close=True)
        text = c.response().text
    assert "wsgi.url_scheme=https\n" in text and "REMOTE_ADDR=192.0.2.1\n" in text


def test_script_name_of_a_proxy(start):
    server = start()
    for name in ("SCRIPT_NAME", "Script_Name"):
        for given in ("/shop", "/shop/"):
            keys = environ(server, (name, given), path="/shop/a%20b")
            assert (keys["SCRIPT_NAME"], keys["PATH_INFO"], keys["RAW_URI"]) == ("/shop", "/a b", "/shop/a%20b")
    environ(server, ("SCRIPT_NAME", "/shop"), path="/other", status=500)
    server.wait_log("does not start with SCRIPT_NAME '/shop'")
    server = start(script_name="/mine", accesslog="-", access_log_format="%(U)s")
    assert environ(server, ("SCRIPT_NAME", "/mine/shop"), path="/mine/shop/a")["PATH_INFO"] == "/a"
    assert environ(server, path="/mine/shop/a")["PATH_INFO"] == "/shop/a"
    wait_for(lambda: server.stdout_text().split() == ["/a", "/shop/a"], 10)


def test_names_with_underscores(start):
    server = start()
    keys = environ(server, ("X_One", "evil"), ("X-One", "good"), ("Path_Info", "/etc"), ("X__", "1"))
    assert keys["HTTP_X_ONE"] == "good" and keys["HTTP_PATH_INFO"] == "/etc" and keys["PATH_INFO"] == "/"
    assert not [key for key in keys if key.startswith("HTTP_X__")]
    server = start(forwarder_headers="X_One,SHOP_ID")
    keys = environ(server, ("x_one", "1"), ("Shop_Id", "2"), ("Script_Name", "/x"))
    assert (keys["HTTP_X_ONE"], keys["HTTP_SHOP_ID"], keys["SCRIPT_NAME"]) == ("1", "2", "")
    server = start(header_map="refuse")
    environ(server, ("X_One", "1"), status=400)
    environ(server, ("X-One", "1"))
    server = start(header_map="dangerous", forwarded_allow_ips="")
    assert environ(server, ("X_One", "1"), ("X-One", "2"))["HTTP_X_ONE"] == "1,2"


@pytest.mark.parametrize(
    "value, addr, port",
    [
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1:4711", "192.0.2.1", "4711"),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]:80", "2001:db8::1", "80"),
        ("9.9.9.9, 192.0.2.1, 127.0.0.3", "192.0.2.1", None),
        ("127.0.0.2, 127.0.0.3", "127.0.0.2", None),
        ("9.9.9.9, unknown, 127.0.0.3", "127.0.0.3", None),
        ("9.9.9.9,", "127.0.0.1", "PORT"),
        ("", "127.0.0.1", "PORT"),
        ("unknown", "127.0.0.1", "PORT"),
        ("192.0.2.1:http", "192.0.2.1", None),
        ("1.2.3.4.5", "127.0.0.1", "PORT"),
        ("x" * 3000, "127.0.0.1", "PORT"),
    ],
)
def test_the_client_by_x_forwarded_for(client_of, value, addr, port):
    keys = environ(client_of("x-forwarded-for"), ("X-Forwarded-For", value))
    assert keys["REMOTE_ADDR"] == addr
    assert keys.get("REMOTE_PORT") == port or (port == "PORT" and keys["REMOTE_PORT"].isdigit())


@pytest.mark.parametrize(
    "value, addr",
    [
        ("for=192.0.2.1;proto=https", "192.0.2.1"),
        ('proto=http; FOR="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=9.9.9.9, for=192.0.2.1;by=127.0.0.1, for=127.0.0.3", "192.0.2.1"),
        ("for=_hidden", "127.0.0.1"),
        ("for=9.9.9.9, for=unknown, for=127.0.0.3", "127.0.0.3"),
        ("by=192.0.2.1", "127.0.0.1"),
        ('for="192.0.2.1', "127.0.0.1"),
        (";;=;for", "127.0.0.1"),
        # What is in quotes may be the client's Host: nothing in there ends an element or a pair.
        ('for=192.0.2.1;host="a,for=9.9.9.9;b"', "192.0.2.1"),
        ('host="a;for=9.9.9.9;b";for=192.0.2.1', "192.0.2.1"),
        (r'host="a\";for=9.9.9.9;\"b,for=9.9.9.9;c";for=192.0.2.1', "192.0.2.1"),
        ('for="9.9.9.9, for=192.0.2.1;host="a,b"', "192.0.2.1"),  # it cannot hide what its proxy has added
        ('for="\\, for=192.0.2.1', "192.0.2.1"),
    ],
)
def test_the_client_by_forwarded(client_of, value, addr):
    assert environ(client_of("forwarded"), ("Forwarded", value))["REMOTE_ADDR"] == addr


@pytest.fixture(scope="module")
def client_of(tmp_path_factory, app):
    import harness

    servers = {}

    def get(source):
        if source not in servers:
            folder = tmp_path_factory.mktemp(source)
            servers[source] = harness.Server(folder, APP, chdir=app, forwarded_for=source, **TRUSTING)
        return servers[source]

    yield get
    for server in servers.values():
        server.finish()


def test_two_lines_are_one_list(client_of):
    server = client_of("x-forwarded-for")
    fields = [("X-Forwarded-For", "9.9.9.9, 192.0.2.1"), ("X-Forwarded-For", "127.0.0.2")]
    assert environ(server, *fields)["REMOTE_ADDR"] == "192.0.2.1"


def test_with_a_star_only_the_peer_is_believed(start):
    """Nobody knows who else is a proxy: a client could send the rest."""
    server = start(forwarded_allow_ips="*", forwarded_for="x-forwarded-for", accesslog="-", access_log_format="%(h)s")
    assert environ(server, ("X-Forwarded-For", "9.9.9.9, 192.0.2.1"))["REMOTE_ADDR"] == "192.0.2.1"
    wait_for(lambda: server.stdout_text() == "192.0.2.1\n", 10)


def test_off_by_default(start):
    assert environ(start(), ("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"))["REMOTE_ADDR"] == "127.0.0.1"


def test_bad_networks(start, tmp_path):
    server = start(wait=False, forwarded_allow_ips="10.0.0.1/8")
    assert server.process.wait(20) == 1
    assert 'forwarded_allow_ips: "10.0.0.1/8" has host bits set' in server.log_text()
    server.process = None
    assert os.path.exists(server.config)
