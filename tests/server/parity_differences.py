"""Where greenicorn differs from gunicorn 26.1 on purpose: (pattern of GROUP/CASE: ITEM, why)."""

DIFFERENCES = [
    (
        "command line/starts that fail: a log level that is not there, exit status",
        "gunicorn takes any word, and then logs at level info: a mistake in a setting is told here",
    ),
    (
        "log/start and stop: INFO Worker ready*",
        "says when a worker has loaded the application: from then on it takes connections",
    ),
    (
        "log/a worker that dies: SIGSEGV",
        "the crash is told with the request that was running, and the stacks",
    ),
    (
        "log/TTIN, TTOU, USR1, WINCH: INFO graceful stop of workers",
        "WINCH stops the workers also of a master that is no daemon, as systemd and containers run it; "
        "it is not followed when the master has a terminal, whose changes of size send it",
    ),
    (
        "environ/keys: cookies, HTTP_COOKIE",
        "several Cookie fields are joined as RFC 9113 8.2.3 says, with '; ': with ',' the second cookie's name is lost",
    ),
    (
        "access log/fifty requests: */environ/%c3%a9",
        "bytes other than printable ASCII are written as \\xHH: a line of the log is one line, whatever a client sends",
    ),
    (
        "access log/fifty requests: Referer: \\x0a",
        "the backslash is escaped too, so that what a client sends cannot be taken for an escape",
    ),
    (
        'access log/fifty requests: User-Agent: say "hi" * there',
        "the backslash is escaped too, so that what a client sends cannot be taken for an escape",
    ),
    (
        "access log/fifty requests: User-Agent: caf*",
        "bytes other than printable ASCII are written as \\xHH, as the client sent them",
    ),
    (
        "access log/fifty requests: User-Agent: tab*",
        "control characters are written as \\xHH",
    ),
    (
        "access log/fifty requests: /error",
        "gunicorn logs a request that raised without its path and without the size of the answer",
    ),
    (
        "access log/fifty requests: /file[?]",
        "the bytes of wsgi.file_wrapper are counted",
    ),
    (
        "requests/status: Expect: 100-continue",
        "100 is sent when the application reads the body: one that refuses the request spares its client the upload (RFC 9110 10.1.1)",
    ),
    ("requests/status: HTTP/2.0", "RFC 9110 15.6.6 names the status for it: 505"),
    ("requests/status: a long request line", "RFC 9112 3 names the status for it: 414"),
    ("requests/status: Host with a path", "RFC 9112 3.2: a Host field that is none is answered 400"),
    ("requests/status: no Host", "RFC 9112 3.2: a server MUST answer 400"),
    ("requests/status: NUL in the target", "no URI has one: what stands behind would read the target otherwise"),
    ("requests/status: a fragment", "no request target has one (RFC 9112 3.2)"),
    ("requests/status: a bad chunk size", "the client is told: 400, then the connection is closed"),
    ("requests/status: bare LF as line ends", "the client is told: 400, then the connection is closed"),
    (
        "requests/status: a response header with a line end",
        "the fault is the application's, not the client's: 500, with a traceback in the log",
    ),
    ("requests/status: an unknown Transfer-Encoding", "the phrase that belongs to 501"),
    (
        "requests/status: gzip, chunked",
        "gunicorn gives the application the compressed bytes as if they were the body; RFC 9112 6.1: 501",
    ),
    (
        "requests/status: identity",
        "no transfer coding any more (RFC 9112 7); a way to smuggle requests past a proxy that knows it",
    ),
    ("requests/the page of an error: Server", "each response says what server it is from"),
    (
        "requests/status: a path outside SCRIPT_NAME",
        "the phrase that belongs to 500",
    ),
    (
        "responses/heads and bodies: GET /own *",
        "Server and Date of the application are sent, as PEP 3333 has it: the server adds those that are not there",
    ),
    (
        "responses/heads and bodies: GET /status/*",
        "an empty response without a Content-Length has one, 0: no chunks, and the connection can be kept",
    ),
]
