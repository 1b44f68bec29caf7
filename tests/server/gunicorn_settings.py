"""gunicorn's settings beside greenicorn's: what docs/gunicorn.md says of each, and test_gunicorn_settings.py checks.

    PYTHON gunicorn_settings.py record    with a PYTHON that has gunicorn: renew the recording
    gunicorn_settings.py --write          renew the tables in docs/gunicorn.md

The recording (names, flags, defaults and kinds) is of 26.1, with http2_cleartext, which came after it.
GREENICORN_BUILD says where settings-doc was built.
"""

import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RECORDING = os.path.join(HERE, "gunicorn-26.1-settings.json")
DOCUMENT = os.path.join(ROOT, "docs", "gunicorn.md")
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"

# What is accepted and works, but is not the same. A setting whose default, kind or flag differs must be here.
DIFFERENCES = {
    "config": "the file is libconfig's, by default `./greenicorn.conf`; `--from-gunicorn FILE.py` makes it from gunicorn's",
    "bind": "no `fd://N`: inherited sockets come as systemd passes them, from descriptor 3 on: `sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec greenicorn shop.wsgi'`",
    "reuse_port": "lets other servers have the address, too; the workers of one server share a socket, so that none of its connections is lost when a worker goes",
    "backlog": "from 1 to 65535",
    "workers": "from 1 to 1024; 0 is an error",
    "worker_class": "`gevent`, the default, means green threads, without monkey patching; `sync` and `gthread` are what they say; others are errors",
    "worker_connections": "for a worker, not for each of its addresses",
    "keepalive": "75 s, longer than the 60 s of most proxies, which is what 502s come from; idle connections cost little, and are the first to go at a stop. It is for the silence between two requests only",
    "limit_request_line": "0 is 1 MiB; more than 8190 is taken as it is; 414 instead of 400",
    "limit_request_fields": "more than 32768, gunicorn's own limit, is an error",
    "limit_request_field_size": "0 is 1 MiB (gunicorn: 8190, though it says unlimited)",
    "check_config": "the application is loaded in a worker, as it would be",
    "print_config": "the output is a configuration file, with where each value came from",
    "preload_app": "a reload loads the application anew",
    "sendfile": "on unless it is turned off",
    "daemon": "the command ends when a worker serves, with an exit code that says so",
    "permit_obsolete_folding": "not for Host, Connection, Content-Length, Transfer-Encoding, Content-Type and Expect",
    "permit_unconventional_http_version": "the request counts as HTTP/1.1, or 1.0, in `SERVER_PROTOCOL` too",
    "casefold_http_method": "the response to `head` still has a body: it is framed for the client, who did not say HEAD",
    "umask": "always octal; gunicorn takes `22` for a decimal number",
    "loglevel": "an unknown level is an error",
    "syslog_facility": "an unknown facility is an error",
    "access_log_format": "more atoms, and `json`; control characters are escaped",
    "capture_output": "workers' output only",
    "logger_class": "its `setup` is run in the workers; other methods are not called",
    "logconfig": "for the workers' lines; the master's go to `errorlog`",
    "logconfig_dict": "as logconfig; its own handlers stay beside yours",
    "logconfig_json": "as logconfig_dict",
    "syslog_addr": "`unix://` finds out the kind of socket; lines in streams end in a line feed",
    "statsd_host": "a worker's metrics share packets",
    "user": "the master becomes that user, too, once the sockets are bound",
    "group": "the master, too",
}

LATER = [
    {
        "name": "http2_cleartext",
        "section": "HTTP/2",
        "cli": ["--http2-cleartext"],
        "kind": "choice",
        "default": "off",
        "switch": False,
    }
]

KINDS = {
    "validate_bool": "boolean",
    "validate_pos_int": "number",
    "validate_http2_frame_size": "number",
    "validate_dict": "dictionary",
    "validate_list_string": "list",
    "validate_list_of_files_or_patterns": "list",
    "validate_string_to_addr_list": "list",
    "validate_string_to_list": "list",
    "validate_http_protocols": "list",
    "validate_asgi_lifespan": "choice",
    "validate_asgi_loop": "choice",
    "validate_header_map_behaviour": "choice",
    "validate_http_parser": "choice",
    "validate_proxy_protocol": "choice",
    "validate_reload_engine": "choice",
    "validate_user": "account",
    "validate_group": "account",
    "_validate_callable": "hook",
    "validate_post_request": "hook",
}


# ---- recording, with gunicorn's own Python ----


def record():
    os.environ.clear()  # defaults may come from it
    os.chdir("/")
    from gunicorn import __version__, config

    settings = []
    for s in config.KNOWN_SETTINGS:
        kind = KINDS.get(getattr(s.validator, "__name__", ""), "string")
        by_process = kind in ("account", "hook") or s.name in ("chdir", "config", "control_socket")
        default = None if by_process or callable(s.default) else s.default
        if s.name in ("logger_class", "ssl_version"):
            default = str(default) if s.name == "logger_class" else None
        cli = s.cli or []
        switch = s.action in ("store_true", "store_false", "store_const")
        settings.append({"name": s.name, "section": s.section, "cli": cli, "kind": kind, "default": default, "switch": switch})
    assert __version__ == "26.1.0", __version__
    with open(RECORDING, "w") as f:
        f.write("[\n%s\n]\n" % ",\n".join(json.dumps(s) for s in settings + LATER))
    print("%d settings of gunicorn %s" % (len(settings), __version__))


# ---- comparing ----


def recorded():
    with open(RECORDING) as f:
        return json.load(f)


def ours():
    """The rows of settings.def by name."""
    program = os.path.join(os.environ.get("GREENICORN_BUILD", os.path.join(ROOT, "build")), "common", "settings-doc")
    return {row["name"]: row for row in json.loads(subprocess.check_output([program, "json"]))}


def flags(row):
    """As gunicorn has them in its list."""
    letter = ["-" + row["letter"]] if row["letter"] else []
    return letter + ["--" + name for name in (row["flag"], row["alias"]) if name]


def default(row):
    """What a row's text of a configuration file means, as Python has it."""
    text = row["default"]
    if text is None:
        return None
    if text.startswith("{"):
        return dict(re.findall(r'([\w-]+) = "(.*?)";', text))
    if text in ("true", "false"):
        return text == "true"
    value = json.loads(text)
    return int(value, 8) if row["kind"] == "mode" else value


SAME_KINDS = {
    "number": ("number", "seconds", "duration", "size", "mode"),
    "string": ("string", "level", "choice"),
    "choice": ("choice",),
    "hook": ("function",),
}


def compare(theirs, row):
    """In what a row is not gunicorn's: some of "flags", "kind", "default"."""
    differing = []
    if flags(row) != theirs["cli"] or (theirs["cli"] and theirs["switch"] == (row["argument"] is not None)):
        differing.append("flags")
    if row["kind"] not in SAME_KINDS.get(theirs["kind"], (theirs["kind"],)):
        differing.append("kind")
    if (default(row) or None) != (theirs["default"] or None):
        differing.append("default")
    return differing


# ---- the tables ----


def verdict(row):
    if row["effect"] == "refused":
        return "refused: " + row["why"]
    if row["effect"] == "nothing":
        return "accepted, does nothing: " + row["why"]
    if row["name"] in DIFFERENCES:
        return "different: " + DIFFERENCES[row["name"]]
    return "same"


def cell(text):
    return text.replace("|", "\\|")


def code(text):
    return "`%s`" % cell(text) if text else ""


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def report():
    """The lines for docs/gunicorn.md."""
    rows, theirs = ours(), recorded()
    verdicts = [verdict(rows[s["name"]]).split(":")[0] for s in theirs]
    counts = "%d of gunicorn's %d settings are the same, %d are different, %d are accepted and do nothing, %d are refused." % (
        *(verdicts.count(v) for v in ("same",)), len(theirs),
        *(verdicts.count(v) for v in ("different", "accepted, does nothing", "refused")),
    )  # fmt: skip
    lines = [counts, ""]
    for section in dict.fromkeys(s["section"] for s in theirs):
        lines += ["### " + section, ""]
        names = [s["name"] for s in theirs if s["section"] == section]
        lines += table(
            ("setting", "flag", "default", "here"),
            [
                (code(n), ", ".join(map(code, flags(rows[n]))), code(rows[n]["default"]), cell(verdict(rows[n])))
                for n in names
            ],
        )
    lines += ["### Only greenicorn's", ""]
    own = [row for name, row in rows.items() if name not in {s["name"] for s in theirs}]
    lines += table(
        ("setting", "flag", "default", "what it does"),
        [(code(r["name"]), ", ".join(map(code, flags(r))), code(r["default"]), cell(r["help"])) for r in own],
    )
    return "\n".join(lines)


def document(text):
    """The document with the tables of now."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "%s lacks the marks" % DOCUMENT
    return before + begin + report() + end + after


def main(args):
    if args == ["record"]:
        return record()
    with open(DOCUMENT) as f:
        text = document(f.read())
    if args == ["--write"]:
        with open(DOCUMENT, "w") as f:
            f.write(text)
    else:
        sys.stdout.write(report())


if __name__ == "__main__":
    main(sys.argv[1:])
