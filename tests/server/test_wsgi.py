"""PEP 3333, rule by rule, on the real server: tests/apps/wsgi_cases.py has the application's half."""

import http.client
import json
import socket
import threading
import time

import pytest

import harness
from harness import wait_for


@pytest.fixture(scope="module")
def module_server(tmp_path_factory):
    """module_server(app, **settings): one server for all tests of this file that name the app."""
    servers = {}

    def start(app, **settings):
        if app not in servers:
            folder = tmp_path_factory.mktemp("wsgi")
            servers[app] = harness.Server(folder, app, accesslog=str(folder / "access.log"), **settings)
        return servers[app]

    yield start
    for server in servers.values():
        server.finish()


@pytest.fixture(scope="module")
def cases(module_server):
    return module_server("wsgi_cases:app", access_log_format="%(s)s %({remote_user}e)s %({App.Number}e)s %({nope}e)s")


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        assert self.status == 200, self.body
        return json.loads(self.body)


def request(server, target, body=None, method=None, headers=(), chunked=False):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.putrequest(method or ("GET" if body is None else "POST"), target, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if chunked:
            for at in range(0, len(body), 1000):
                part = body[at : at + 1000]
                connection.send(b"%x\r\n%s\r\n" % (len(part), part))
            connection.send(b"0\r\n\r\n")
        elif body:
            connection.send(body)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def raw(server, data, end=True):
    """All that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        s.sendall(data)
        if end:
            s.shutdown(socket.SHUT_WR)
        answer = b""
        while part := s.recv(65536):
            answer += part
        return answer


def events(server):
    return request(server, "/events").json()


def wait_log(server, text):
    wait_for(lambda: text in server.log_text(), what="in the log: " + text)


# environ


def test_environ_has_every_key(cases):
    environ = request(cases, "/environ?a=b%20c", headers=[("User-Agent", "test")]).json()
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/environ"
    assert environ["QUERY_STRING"] == "a=b%20c"
    assert environ["RAW_URI"] == "/environ?a=b%20c"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(cases.port)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert 0 < int(environ["REMOTE_PORT"]) < 65536
    assert environ["SERVER_SOFTWARE"].startswith("greenicorn/")
    assert environ["HTTP_HOST"] == "127.0.0.1:%d" % cases.port
    assert environ["HTTP_USER_AGENT"] == "test"
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert "CONTENT_TYPE" not in environ and "CONTENT_LENGTH" not in environ


def test_environ_types(cases):
    types = request(cases, "/environ_types").json()
    assert types["exact dict"] is True
    assert types["not native"] == []


def test_one_requests_environ_is_not_the_next_ones(cases):
    request(cases, "/environ_types")
    assert "added.by.application" not in request(cases, "/environ").json()


def test_content_headers_have_no_prefix(cases):
    environ = request(cases, "/environ", b"12345", headers=[("Content-Type", "text/x")]).json()
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["CONTENT_TYPE"] == "text/x"
    assert environ["REQUEST_METHOD"] == "POST"
    assert "HTTP_CONTENT_LENGTH" not in environ and "HTTP_CONTENT_TYPE" not in environ


def test_chunked_body_has_no_content_length(cases):
    environ = request(cases, "/environ", b"12345", chunked=True).json()
    assert "CONTENT_LENGTH" not in environ
    assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_method(cases, method):
    assert request(cases, "/environ", method=method).json()["REQUEST_METHOD"] == method


@pytest.mark.parametrize(
    "target, path, query",
    [
        ("/environ", "/environ", ""),
        ("/environ?", "/environ", ""),
        ("/%65nviron?x=%65", "/environ", "x=%65"),
        ("/environ??a=?", "/environ", "?a=?"),
    ],
)
def test_path_and_query(cases, target, path, query):
    environ = request(cases, target).json()
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["RAW_URI"]) == (path, query, target)


@pytest.mark.parametrize(
    "target, path",
    [
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/%e2%98%83", "/\xe2\x98\x83"),
        ("/a%2fb%2Fc", "/a/b/c"),
        ("/100%", "/100%"),
        ("/%zz%4", "/%zz%4"),
        ("/%2541", "/%41"),
        ("/" + "%41" * 600, "/" + "A" * 600),
    ],
)
def test_path_is_decoded_once_as_latin1(module_server, target, path):
    server = module_server("wsgi_path:app")
    assert request(server, target).json() == path


def test_repeated_headers_are_joined(cases):
    headers = [("X-A", "1"), ("x-a", "2"), ("X-a", "3"), ("Cookie", "a=1"), ("Cookie", "b=2"), ("X-One", "a"), ("X-One", "a")]
    environ = request(cases, "/environ", headers=headers).json()
    assert environ["HTTP_X_A"] == "1,2,3"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_ONE"] == "a,a"


def test_names_with_underscores_are_dropped(cases):
    headers = [("X_Forwarded_For", "evil"), ("Content_Length", "7"), ("X-Forwarded-For", "good"), ("_", "x")]
    environ = request(cases, "/environ", headers=headers).json()
    assert environ["HTTP_X_FORWARDED_FOR"] == "good"
    assert "CONTENT_LENGTH" not in environ and "HTTP_CONTENT_LENGTH" not in environ and "HTTP__" not in environ


def test_odd_header_names_and_values(cases):
    headers = [("X-" + "n" * 300, "long"), ("x!#$%&'*+.^`|~9", "token"), ("X-Latin", "caf\xe9"), ("X-Empty", "")]
    environ = request(cases, "/environ", headers=headers).json()
    assert environ["HTTP_X_" + "N" * 300] == "long"
    assert environ["HTTP_X!#$%&'*+.^`|~9"] == "token"
    assert environ["HTTP_X_LATIN"] == "caf\xe9"
    assert environ["HTTP_X_EMPTY"] == ""


def test_more_names_than_are_kept(cases):
    for batch in range(40):
        headers = [("X-Name-%d-%d" % (batch, i), str(i)) for i in range(40)]
        environ = request(cases, "/environ", headers=headers).json()
        assert all(environ["HTTP_X_NAME_%d_%d" % (batch, i)] == str(i) for i in range(40))


def test_absolute_form_names_the_host(cases):
    answer = raw(cases, b"GET http://other.example/environ?q HTTP/1.1\r\nHost: ignored\r\nConnection: close\r\n\r\n")
    environ = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert environ["HTTP_HOST"] == "other.example"
    assert environ["PATH_INFO"] == "/environ"
    assert environ["QUERY_STRING"] == "q"


def test_http_1_0(cases):
    answer = raw(cases, b"GET /environ HTTP/1.0\r\n\r\n")
    environ = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in environ


def test_environ_in_the_access_log(cases):
    request(cases, "/log_environ")
    log = cases.settings["accesslog"]
    wait_for(lambda: "200 grace 42 -\n" in open(log).read(), what="grace in the access log")


# wsgi.input

BODY = b"hello\nworld\nx"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    "calls, results",
    [
        ("read", ["hello\nworld\nx"]),
        ("read,-1;read", ["hello\nworld\nx", ""]),
        ("read,None", ["hello\nworld\nx"]),
        ("read,3;readline;readline,2;read;read;readline;readlines", ["hel", "lo\n", "wo", "rld\nx", "", "", []]),
        ("read,0;readline,0;read,100", ["", "", "hello\nworld\nx"]),
        ("readlines", [["hello\n", "world\n", "x"]]),
        ("readlines,3;readlines", [["hello\n"], ["world\n", "x"]]),
        ("readlines,0", [["hello\n", "world\n", "x"]]),
        ("readline,-1;readline,100;readline,None;readline", ["hello\n", "world\n", "x", ""]),
        ("readable;writable;seekable;isatty", [True, False, False, False]),
        ("close;close;read", [None, None, "ValueError: I/O operation on closed file"]),
    ],
)
def test_input_methods(cases, chunked, calls, results):
    assert request(cases, "/read?" + calls, BODY, chunked=chunked).json() == results


@pytest.mark.parametrize("call", ["read,1,2", "readline,1,2", "readlines,1,2"])
def test_input_arguments(cases, call):
    assert request(cases, "/read?" + call, BODY).json()[0].startswith("TypeError")


def test_input_without_a_body(cases):
    assert request(cases, "/read?read;readline;readlines;read,5").json() == ["", "", [], ""]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_input_as_a_file(cases, chunked):
    assert request(cases, "/iterate", BODY, chunked=chunked).json() == ["hello\n", "world\n", "x"]
    assert request(cases, "/readinto", BODY, chunked=chunked).json() == BODY.decode()
    text = "snow \u2603\nman".encode()
    assert request(cases, "/text_wrapper", text, chunked=chunked).json() == ["snow \u2603\n", "man"]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1000003])
@pytest.mark.parametrize("path", ["/echo", "/echo_stream"])
def test_echo(cases, path, size, chunked):
    body = bytes(i * 7 & 255 for i in range(256)) * (size // 256 + 1)
    assert request(cases, path, body[:size], chunked=chunked).body == body[:size]


def test_a_line_over_many_reads(cases):
    body = b"a" * 300000 + b"\n" + b"b" * 300000
    assert request(cases, "/iterate", body).json() == ["a" * 300000 + "\n", "b" * 300000]


def test_the_next_request_does_not_see_an_unread_body(cases):
    body = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(
        cases,
        b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        + b"GET /tuple_one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"tuple")


def test_a_body_cut_short(cases):
    events(cases)
    answer = raw(cases, b"POST /input_error HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
    assert any("before the end of the request body" in event for event in events(cases))
    assert "Traceback" not in cases.log_text().split("POST /input_error")[-1]


def test_a_body_with_broken_chunks(cases):
    events(cases)
    answer = raw(cases, b"POST /input_error HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", end=False)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert any("not framed" in event for event in events(cases))
    wait_log(cases, "Invalid request from ip=127.0.0.1")


def test_nothing_works_after_the_request(cases):
    assert request(cases, "/keep_input", BODY).body == b"kept"
    assert request(cases, "/use_kept").json() == ["ValueError"] * 7 + [True]


def test_a_thread_that_reads_on_after_the_request(cases):
    with socket.create_connection(("127.0.0.1", cases.port), timeout=20) as s:
        s.sendall(b"POST /thread_reads HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert s.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert request(cases, "/join_reader").json() is False
    assert [event for event in events(cases) if event.startswith("reader")]


# wsgi.errors


def test_errors_go_to_the_error_log(cases):
    assert request(cases, "/errors").status == 200
    wait_log(cases, "bytes are refused")
    assert "one line for the error log\nsnow \u2603 surrogate \\udc80 two three\n" in cases.log_text()


# start_response and write


@pytest.mark.parametrize("status", ["200 OK", "299 Something Odd", "404 Not Found", "599 x"])
def test_status(cases, status):
    answer = request(cases, "/status?" + status.replace(" ", "+"))
    assert "%d %s" % (answer.status, answer.reason) == status
    assert answer.body == b"body"


def test_write(cases):
    assert request(cases, "/write").body == b"first second third"


@pytest.mark.parametrize(
    "case, body",
    [
        ("start_keywords", b"keywords"),
        ("start_in_generator", b"late start"),
        ("headers_generator", b"ok"),
        ("bad_start_recovers", b"recovered"),
    ],
)
def test_unusual_calls_of_start_response(cases, case, body):
    answer = request(cases, "/" + case)
    assert (answer.status, answer.body) == (200, body)


def test_start_response_again_replaces_all(cases):
    answer = request(cases, "/start_again")
    assert (answer.status, answer.body) == (503, b"replaced")
    assert answer.headers["X-Second"] == "2"
    assert "X-First" not in answer.headers


def test_start_response_again_after_the_head(cases):
    answer = raw(cases, b"GET /start_too_late HTTP/1.1\r\nHost: x\r\n\r\n", end=False)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"sent " in answer and not answer.endswith(b"0\r\n\r\n")
    wait_log(cases, "ValueError: after the head")


@pytest.mark.parametrize(
    "case, error",
    [
        ("start_twice", "AssertionError: Response headers already set!"),
        ("no_start", "AssertionError: the application did not call start_response()"),
        ("no_start_generator", "AssertionError: the application did not call start_response()"),
        ("no_start_empty", "AssertionError: the application did not call start_response()"),
        ("write_str", "TypeError: write() takes bytes, not str"),
        ("item_str", "TypeError: the application's iterable must give bytes, not str"),
        ("item_str_list", "TypeError: the application's iterable must give bytes, not str"),
        ("returns_bytes", "TypeError: the application must return an iterable of bytes, not bytes itself"),
        ("returns_none", "TypeError: 'NoneType' object is not iterable"),
        ("raises_after_start", "ValueError: after start_response"),
        ("raises_first_in_generator", "ValueError: before anything was sent"),
        ("reader_raises", "ConnectionResetError: [Errno 104] a database is gone"),
        ("file_closed", "ValueError: read of closed file"),
    ],
)
def test_mistakes_are_a_500_with_a_traceback(cases, case, error):
    answer = request(cases, "/" + case)
    assert answer.status == 500
    assert answer.headers["Connection"] == "close"
    assert "X-Not" not in answer.headers
    wait_log(cases, "[ERROR] Error handling request GET /%s\n" % case)
    wait_log(cases, "\n%s" % error)


@pytest.mark.parametrize(
    "case",
    "status int,status bytes,status short,status crlf,status wide,headers none,headers int,header three,header int,"
    "name bytes,name space,name colon,name empty,value int,value bytes,value none,value lf,value cr,value nul,value wide,"
    "length word,length negative".split(","),
)
def test_what_start_response_refuses(cases, case):
    target = "/bad_start?" + case.replace(" ", "+")
    answer = request(cases, target)
    assert answer.status == 500
    assert b"Evil" not in answer.body and "X-Evil" not in answer.headers
    wait_log(cases, "Error handling request GET " + target)


def test_hop_by_hop_fields_are_left_out(cases):
    for _ in range(2):
        with cases.connect() as c:
            c.get("/hop")
            response = c.response()
            assert (response.status, response.body) == (200, b"ok")
            assert response.header("Keep-Alive") is None and response.header("Transfer-Encoding") is None
            c.get("/hop")
            assert c.response().status == 200
    assert cases.log_text().count("the application's Keep-Alive fields are left out") == 1


def test_latin1_in_the_head(cases):
    answer = raw(cases, b"GET /latin1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 D\xe9j\xe0\r\n")
    assert b"\r\nX-Latin: caf\xe9\r\n" in answer


# iterables


@pytest.mark.parametrize(
    "case, length, body",
    [
        ("empty_list", "0", b""),
        ("one_empty", "0", b""),
        ("tuple_one", "5", b"tuple"),
        ("several", None, b"abc"),
        ("generator", None, b"chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n"),
        ("length_long", "4", b"four"),
    ],
)
def test_bodies(cases, case, length, body):
    answer = request(cases, "/" + case)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["Content-Length"] == length
    assert (answer.headers["Transfer-Encoding"] == "chunked") == (length is None)


def test_only_empty_strings(cases):
    answer = request(cases, "/generator_only_empty")
    assert (answer.status, answer.body, answer.headers["X-Empty"]) == (200, b"", "yes")


@pytest.mark.parametrize("case", ["tuple_one", "several", "generator", "write", "file"])
def test_head_has_no_body(cases, case):
    answer = raw(cases, b"HEAD /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % case.encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_head_has_the_applications_length(cases):
    answer = raw(cases, b"HEAD /length_long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 4\r\n" in answer and answer.endswith(b"\r\n\r\n")


def test_a_body_shorter_than_announced_ends_the_connection(cases):
    answer = raw(cases, b"GET /length_short HTTP/1.1\r\nHost: x\r\n\r\n", end=False)
    assert b"Content-Length: 10\r\n" in answer and answer.endswith(b"five!")


def test_each_string_leaves_before_the_next_is_asked_for(cases):
    with socket.create_connection(("127.0.0.1", cases.port), timeout=20) as s:
        s.sendall(b"GET /paced HTTP/1.1\r\nHost: x\r\n\r\n")
        start, seen, times = time.monotonic(), b"", []
        for wanted in (b"part0", b"part1", b"part2"):
            while wanted not in seen:
                seen += s.recv(65536)
            times.append(time.monotonic() - start)
    assert times[1] - times[0] > 0.15 and times[2] - times[1] > 0.15


@pytest.mark.parametrize("case", ["closing", "closing_fails", "close_raises", "length_long", "item_str"])
def test_close_is_called(cases, case):
    events(cases)
    raw(cases, b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % case.encode(), end=False)
    assert events(cases) == ["closed " + case]


def test_an_exception_after_the_head_cuts_the_connection(cases):
    for case in ("raises_in_generator", "exits_in_generator"):
        answer = raw(cases, b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % case.encode(), end=False)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"some " in answer and not answer.endswith(b"0\r\n\r\n")
    wait_log(cases, "ValueError: after the head has left")
    wait_log(cases, "SystemExit: 1")


@pytest.mark.parametrize(
    "case, event", [("endless", "closed endless"), ("endless_write", "write raised ")], ids=["iterable", "write"]
)
def test_a_client_that_goes_away(cases, case, event):
    events(cases)
    with socket.create_connection(("127.0.0.1", cases.port), timeout=20) as s:
        s.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % case.encode())
        assert s.recv(10000)
    seen = []
    wait_for(lambda: seen.extend(events(cases)) or any(e.startswith(event) for e in seen), what=event)
    assert "Error handling request GET /" + case + "\n" not in cases.log_text()


# wsgi.file_wrapper


def file_text(start=0):
    return b"".join(b"%07d\n" % i for i in range(25000))[start:]


@pytest.mark.parametrize("start", [0, 12, 199999])
def test_file_from_where_it_stands(cases, start):
    answer = request(cases, "/file?%d" % start)
    assert answer.body == file_text(start)
    assert answer.headers["Content-Length"] == str(200000 - start)


def test_file_at_its_end(cases):
    assert request(cases, "/file?200000").body == b""


@pytest.mark.parametrize(
    "case, body",
    [
        ("file_length", file_text()[:16]),
        ("file_closes", file_text()),
        ("file_no_fileno", b"n" * 20000),
        ("file_gzip", b"plain text " * 1000),
        ("file_pipe", b"through a pipe"),
        ("file_iterated", file_text()[:16]),
    ],
)
def test_file_wrapper(cases, case, body):
    answer = request(cases, "/" + case)
    assert (answer.status, answer.body) == (200, body)


def test_file_without_a_size(cases):
    assert b"\nThreads:" in request(cases, "/file_proc").body


def test_file_is_closed(cases):
    events(cases)
    request(cases, "/file_closes")
    request(cases, "/file_no_fileno")
    assert events(cases) == ["closed file", "closed no_fileno"]


# exceptions


@pytest.mark.parametrize(
    "name, text",
    [
        ("Exception", "Exception: plain"),
        ("SystemExit", "SystemExit: 7"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("GeneratorExit", "GeneratorExit"),
        ("MemoryError", "MemoryError"),
        ("StopIteration", "StopIteration: odd"),
        ("RecursionError", "RecursionError: maximum recursion depth exceeded"),
        ("Surrogate", "ValueError: \\udcff and ? and \u2603"),
        ("Unprintable", "Unprintable: <exception str() failed>"),
    ],
)
def test_no_exception_ends_the_worker(cases, name, text):
    before = request(cases, "/modules").json()["pid"]
    answer = request(cases, "/raises?" + name)
    assert (answer.status, answer.headers["Connection"]) == (500, "close")
    wait_log(cases, "Error handling request GET /raises?%s\nTraceback" % name)
    wait_log(cases, text)
    assert request(cases, "/modules").json()["pid"] == before
    assert request(cases, "/exc_info").json() == ["None"] * 3


def test_a_500_does_not_tell_what_happened(cases):
    answer = request(cases, "/raises?Exception")
    assert b"plain" not in answer.body and b"Traceback" not in answer.body


# threads, contexts


def test_each_request_has_a_fresh_context(cases):
    for name in "abc":
        assert request(cases, "/context?" + name).json() == ["unset", name, 28]
    many = in_parallel(lambda i: request(cases, "/context?%d" % i).json(), 20)
    assert many == [["unset", str(i), 28] for i in range(20)]


def test_a_context_that_was_left_entered(cases):
    assert request(cases, "/context_left").json() == "leaked"
    assert request(cases, "/context?after").json() == ["unset", "after", 28]


def test_current_thread(cases):
    thread = request(cases, "/thread").json()
    assert thread["same"] is True and thread["main"] is False


def in_parallel(function, n):
    results = [None] * n

    def run(i):
        results[i] = function(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_requests_that_wait_overlap(cases):
    start = time.monotonic()
    assert in_parallel(lambda i: request(cases, "/sleep?0.5").json(), 20) == [True] * 20
    assert time.monotonic() - start < 3


def test_requests_can_wait_for_each_other(cases):
    got = []
    waiting = threading.Thread(target=lambda: got.append(request(cases, "/queue_get").json()))
    waiting.start()
    request(cases, "/queue_put?message")
    waiting.join(20)
    assert got == ["message"]


def test_dummy_threads_do_not_pile_up(cases):
    in_parallel(lambda i: request(cases, "/sleep?0.3"), 100)
    in_parallel(lambda i: request(cases, "/thread"), 100)
    # Pooled threads keep theirs; those that ended must not: at most 64 idle ones stay.
    wait_for(lambda: request(cases, "/thread").json()["active"] <= 70, what="fewer entries in threading._active")


def test_objects_do_not_pile_up(cases):
    def burst():
        for path in ("/environ", "/generator", "/raises?Exception", "/closing", "/file"):
            for _ in range(20):
                request(cases, path)
        events(cases)
        return request(cases, "/collect").json()

    burst()
    before = burst()
    assert burst() - before < 50
