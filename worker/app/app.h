/*
 * What runs a request. A backend is a row in app_backends[]: today Python
 * (worker/python); the functions are called on green threads and may block. handle, and only that,
 * may be called on a native thread instead (worker_class gthread).
 */
#ifndef APP_APP_H
#define APP_APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/http/body.h"
#include "worker/http/request.h"
#include "worker/http/response.h"

/* Who talks to whom: the CGI names in the comments. Strings are terminated, borrowed. */
struct app_peer {
	const char *remote_addr; /* REMOTE_ADDR; "" on a unix socket */
	const char *remote_port; /* REMOTE_PORT; "" on a unix socket */
	const char *server_name; /* SERVER_NAME; "" on a unix socket: taken from Host */
	const char *server_port; /* SERVER_PORT; likewise */
	const char *scheme;      /* wsgi.url_scheme */
};

/* One request with its response. */
struct app_exchange {
	struct http_request *request;   /* borrowed */
	struct http_body *body;         /* borrowed */
	struct http_response *response; /* borrowed */
	const struct app_peer *peer;    /* borrowed */
	struct http_str script_name;    /* SCRIPT_NAME: the setting's, or a trusted proxy's */
	int fd;                         /* the connection's socket, borrowed */
	int64_t started;                /* green_now() when a green thread began to answer */
	/* When its head began to arrive and was complete: 0 unless the access log wants them. */
	int64_t arrived, complete;
	/* Time that its green thread ran, once it is answered; if the access log wants it. */
	int64_t ran;
	/* The client's X-Request-ID or one of ours; empty unless the access log wants it. */
	struct http_str request_id;
	struct http_relay *relay; /* of http_handover, for the caller to end */
	/*
	 * environ keys that the access log prints (%({NAME}e)s), and room for as
	 * many values: the backend puts malloc'ed strings there (or leaves NULL), the caller frees.
	 */
	char *const *log_names;
	char **log_values;
	size_t nlog;
};

struct settings;
struct listener;
struct scoreboard_row;

/* What the application may want to be told (gunicorn's worker_int, worker_abort, worker_exit). */
enum app_hook { APP_HOOK_INT, APP_HOOK_ABORT, APP_HOOK_EXIT, APP_HOOKS };

/* The access log, for a backend that has it go another way. */
struct access_log;
struct app_access_log {
	struct access_log *log; /* borrowed; NULL: there is none */
	/* A line that somebody else has made, with its "\n". */
	void (*write)(struct access_log *, const char *line, size_t n);
	/* From now on tell to of each request, in that format, instead of writing. 0 or -1. */
	int (*divert)(
	    struct access_log *, const char *format, void (*to)(const char *line, size_t n));
};

struct app_config {
	const char *uri;         /* module:callable, module:factory(…), module */
	const char *chdir;       /* put first on sys.path; NULL: the current directory */
	const char *pythonpath;  /* comma-separated directories, or NULL */
	const char *virtualenv;  /* its directory, or NULL: VIRTUAL_ENV */
	const char *script_name; /* SCRIPT_NAME of every request, or "" */
	const char *software;    /* SERVER_SOFTWARE: "greenicorn/0.1.0" */
	bool multiprocess;       /* wsgi.multiprocess */
	bool multithread;        /* wsgi.multithread */
	int stack_fd;            /* where write_stack prints */
	/* To be called when the backend has set signal handlers of its own. */
	void (*signals_set)(void);
	/* For server hooks, and to be there until the end of the process. */
	const struct settings *settings;
	struct app_access_log access_log;
	const struct listener *listeners;
	size_t nlisteners;
	const struct scoreboard_row *row; /* this worker's */
	int memory;                       /* a mold's: contract.h; -1 */
	unsigned age;                     /* the how-manieth worker of the server it is */
	bool is_worker;                   /* it will serve: neither a mold nor --check-config */
	/* The application's code is another one: replace this worker. From any OS thread. */
	void (*changed)(const char *why);
};

struct app;

struct app_ops {
	const char *name;
	/* Load the application. 0 with *app, or an enum worker_exit after logging why. */
	int (*load)(const struct app_config *, struct app **app);
	/*
	 * In a mold: the thread that has loaded the application, which is the process's only one
	 * unless the application has started more (tasks counts all), forks a worker of that age.
	 * Around that, with what fork gave; in the child fork_end is followed by adopt, on the main
	 * green thread, in place of load.
	 */
	void (*fork_begin)(struct app *, size_t tasks, unsigned age);
	void (*fork_end)(struct app *, pid_t);
	int (*adopt)(struct app *, const struct app_config *);
	/* There, too: what the master says of the server, for hooks. 0, or -1: one of them failed.
	 */
	int (*heed)(struct app *, const char *words);
	/*
	 * A descriptor that becomes readable when the thread that loaded the application has
	 * something to do between load and unload (Python's signal handlers run on its main
	 * thread only), and what it then does there. -1: never.
	 */
	int (*attend_fd)(struct app *);
	void (*attend)(struct app *);
	/*
	 * That thread would sleep until then: run the application's own event loop of it instead,
	 * if there is one. nudge, called on the loop, ends that.
	 */
	bool (*idle)(struct app *);
	void (*nudge)(struct app *);
	/*
	 * Answer one request. Writes the whole response, or leaves it unbegun or unfinished: then
	 * the caller answers 500 or closes. Never fails otherwise.
	 */
	void (*handle)(struct app *, struct app_exchange *);
	/*
	 * On the same thread, when the connection needs it no more: do what the application has
	 * left to be done after the response.
	 */
	void (*leftovers)(struct app *);
	/*
	 * Have the green thread that has this turn let others run, as soon as it can. From any OS
	 * thread; does not wait.
	 */
	void (*preempt)(uint64_t turn);
	/*
	 * Print the calling thread's stack to stack_fd, if it has one, innermost call first, a line
	 * ("  File "…", line …") each. In a signal handler, which may have interrupted anything;
	 * it may fault.
	 */
	void (*write_stack)(void);
	/*
	 * Whether the application wants to be told; tell it. Between load and unload, which tells
	 * of the exit itself; told of it again, it is silent. APP_HOOK_ABORT on any OS thread, else
	 * on a green thread.
	 */
	bool (*has_hook)(enum app_hook);
	void (*hook)(enum app_hook);
	/* The green thread that calls it is about to end: give up what is bound to it. */
	void (*thread_exit)(void);
	/* Open the log files of the application's own logging again. On a green thread. */
	void (*reopen)(struct app *);
	/* No request runs any more: run exit handlers (atexit), free. On a green thread. */
	void (*unload)(struct app *);
};

extern const struct app_ops *const app_backends[]; /* ends with NULL */

#endif
