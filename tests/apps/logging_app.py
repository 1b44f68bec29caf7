"""Uses the server's loggers as applications of gunicorn do; LOGGING_CASE says what it changes at them."""

import json
import logging
import logging.config
import os
import sys
import threading

# Flask's documentation has this for gunicorn, with app.logger.
server = logging.getLogger("gunicorn.error")
logger = logging.getLogger("application")
logger.handlers = server.handlers
logger.setLevel(server.level)


class JsonFormatter(logging.Formatter):
    def format(self, record):
        entry = {"level": record.levelname, "message": record.getMessage(), "pid": record.process}
        if record.exc_info:
            entry["exception"] = repr(record.exc_info[1])
        return json.dumps(entry)


def not_health(record):
    return record.args["U"] != "/health" and record.args["s"] == "200" and record.args["D"] >= 0


case = os.environ.get("LOGGING_CASE")
if case == "filter":
    logging.getLogger("gunicorn.access").addFilter(not_health)
elif case == "formatter":
    for handler in server.handlers:
        handler.setFormatter(JsonFormatter())
elif case == "disable":
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
elif case == "level":
    server.setLevel(logging.ERROR)


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/log":
        logger.info("%s", query)
        logger.debug("not at this level")
        logging.getLogger("gunicorn.error").warning("server %s", query)
        logging.getLogger("greenicorn.part").error("part %s", query)
    elif path == "/fail":
        raise RuntimeError("as asked")
    elif path == "/print":
        print("out", query)
        print("err", query, file=sys.stderr)
    elif path == "/access":  # from an OS thread of the application's, and from a child
        access = logging.getLogger("gunicorn.access")
        thread = threading.Thread(target=access.info, args=["by a thread"])
        thread.start()
        thread.join()
        pid = os.fork()
        if pid == 0:
            access.info("by a child")
            server.error("by a child")
            os._exit(0)
        os.waitpid(pid, 0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done\n"]
