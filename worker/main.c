/*
 * greenicorn-worker: one process that serves. The master (greenicorn) starts it with
 * descriptors and names that common/contract.h describes; so can a test or
 * another supervisor.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "common/contract.h"
#include "common/fds.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/statsd.h"
#include "common/streams.h"
#include "common/syslog_out.h"
#include "worker/access_format.h"
#include "worker/access_log.h"
#include "worker/mold.h"
#include "worker/python/from_gunicorn.h"
#include "worker/title.h"
#include "worker/worker.h"

static const char usage[] =
    "usage: greenicorn-worker [--help | --version]\n"
    "\n"
    "This is one worker process of greenicorn, started by greenicorn(8):\n"
    "\n"
    "\tgreenicorn -w 4 module:application\n"
    "\n"
    "Another supervisor passes it, by sd_listen_fds(3)'s convention, descriptors\n"
    "named \"settings\" and \"listen\", and if it likes \"control\" and \"scoreboard\":\n"
    "see greenicorn-worker(8).\n";

static void
options(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("greenicorn-worker (version " GREENICORN_VERSION ")");
		exit(WORKER_EXIT_OK);
	}
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		exit(WORKER_EXIT_OK);
	}
	if (argc == 3 && strcmp(argv[1], "--from-gunicorn") == 0)
		exit(from_gunicorn(argv[2]));
	if (argc > 1) {
		fprintf(stderr, "greenicorn-worker: unknown argument %s\n%s", argv[1], usage);
		exit(WORKER_EXIT_FAILED);
	}
}

static void
take_descriptors(struct fds *fds)
{
	if (fds_take(fds) == -1)
		fatal("broken LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES");
	if (fds->n == 0) {
		fprintf(stderr, "greenicorn-worker: started without its descriptors\n%s", usage);
		exit(WORKER_EXIT_FAILED);
	}
}

static void
take_settings(struct settings *settings, struct fds *fds)
{
	struct settings_error error;
	int fd = fds_claim(fds, CONTRACT_FD_SETTINGS);

	if (fd == -1)
		fatalx("no descriptor named " CONTRACT_FD_SETTINGS);
	if (settings_init(settings, &error) == -1 || settings_read_fd(settings, fd, &error) == -1)
		fatalx("%s", error.text);
	close(fd);
}

static void
start_log(const struct settings *settings)
{
	int level = log_level_parse(settings->loglevel);

	if (level == -1)
		fatalx("loglevel: no such level: %s", settings->loglevel);
	if (settings->check_config) { /* what is wrong is for who has asked */
		if (log_open(NULL, LOG_LEVEL_WARNING) == -1)
			fatal("standard error");
		return;
	}
	if (log_open(settings->errorlog, (enum log_level)level) == -1)
		fatal("errorlog: %s", settings->errorlog);
	syslog_out_apply(settings);
	statsd_apply(settings);
	if (settings->capture_output && streams_capture() == -1)
		fatal("capture_output");
}

/* As gunicorn has it: any way for its lines to go will do. */
static bool
access_log_wanted(const struct settings *s)
{
	return s->accesslog != NULL || syslog_out_access_wanted(s) || s->logconfig != NULL ||
	       s->logconfig_dict != NULL || s->logconfig_json != NULL;
}

static struct access_log *
start_access_log(const struct settings *settings)
{
	struct access_format *format;
	struct access_log *log;
	char why[256];

	if (!access_log_wanted(settings))
		return NULL;
	format = access_format_new(settings->access_log_format, why, sizeof(why));
	if (format == NULL)
		fatalx("access_log_format: %s", why);
	if (settings->check_config) {
		access_format_free(format);
		return NULL;
	}
	log = access_log_open(settings->accesslog, format,
	    syslog_out_access_wanted(settings) ? syslog_out_access : NULL);
	if (log == NULL)
		fatal("accesslog: %s", settings->accesslog);
	return log;
}

/* Accepted sockets inherit what is set here: once, instead of for each connection. */
static void
listener_prepare(const struct listener *l)
{
	int flags = fcntl(l->fd, F_GETFL), on = 1;

	if (flags == -1 || fcntl(l->fd, F_SETFL, flags | O_NONBLOCK) == -1)
		fatal("%s", l->text);
	if (l->address.any.sa.sa_family != AF_UNIX &&
	    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		log_warn("%s: TCP_NODELAY", l->text);
}

static void
take_listeners(struct worker_contract *contract, struct fds *fds)
{
	int fd;

	while ((fd = fds_claim(fds, CONTRACT_FD_LISTEN)) != -1) {
		struct listener *l;

		contract->listeners = xreallocarray(
		    contract->listeners, contract->nlisteners + 1, sizeof(*contract->listeners));
		l = &contract->listeners[contract->nlisteners++];
		if (listener_adopt(l, fd) == -1)
			fatal("descriptor %d named " CONTRACT_FD_LISTEN, fd);
		listener_prepare(l);
	}
	if (contract->nlisteners == 0 && !contract->settings.check_config)
		fatalx("no descriptor named " CONTRACT_FD_LISTEN);
}

/* Our row and our requests; without a scoreboard some that nobody reads. */
static void
take_scoreboard(struct worker_contract *contract, struct scoreboard *scoreboard, struct fds *fds)
{
	static struct scoreboard_row row;
	static struct scoreboard_request requests[SCOREBOARD_REQUESTS];
	int fd = fds_claim(fds, CONTRACT_FD_SCOREBOARD);
	const char *text = getenv(CONTRACT_ENV_SLOT);
	char *end = NULL;
	unsigned long slot = 0;

	contract->scoreboard = scoreboard;
	contract->row = &row;
	contract->requests = requests;
	if (fd == -1)
		return;
	if (scoreboard_attach(scoreboard, fd) == -1)
		fatal("descriptor named " CONTRACT_FD_SCOREBOARD);
	if (text != NULL)
		slot = strtoul(text, &end, 10);
	if ((text != NULL && (end == text || *end != '\0')) || slot >= scoreboard->nrows)
		fatalx("broken " CONTRACT_ENV_SLOT "=%s: the scoreboard has %zu rows",
		    text != NULL ? text : "", scoreboard->nrows);
	contract->row = &scoreboard->rows[slot];
	contract->requests = scoreboard_requests(scoreboard, slot);
}

/* For the hooks; 1 when nobody says so. */
static unsigned
take_age(void)
{
	const char *text = getenv(CONTRACT_ENV_AGE);

	return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;
}

static void
prepare_process(const struct settings *settings)
{
	struct rlimit limit;

	/* A client that is gone is an error of send(2), a full log one of write(2). */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		fatal("SIGPIPE");
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (settings->chdir != NULL && chdir(settings->chdir) == -1)
		fatal("chdir: %s", settings->chdir);
	if (unsetenv(CONTRACT_ENV_SLOT) == -1 || unsetenv(CONTRACT_ENV_MOLD) == -1 ||
	    unsetenv(CONTRACT_ENV_AGE) == -1 || settings_export(settings) == -1)
		fatal("raw_env");
}

int
main(int argc, char **argv)
{
	struct worker_contract contract = {0};
	struct scoreboard scoreboard = {0};
	struct app *app = NULL;
	struct fds fds;
	bool mold = getenv(CONTRACT_ENV_MOLD) != NULL;
	int code;

	options(argc, argv);
	worker_title_init(argc, argv);
	take_descriptors(&fds);
	take_settings(&contract.settings, &fds);
	start_log(&contract.settings);
	contract.access_log = start_access_log(&contract.settings);
	take_listeners(&contract, &fds);
	contract.control = fds_claim(&fds, CONTRACT_FD_CONTROL);
	contract.memory = fds_claim(&fds, CONTRACT_FD_MEMORY);
	take_scoreboard(&contract, &scoreboard, &fds);
	contract.age = take_age();
	fds_close(&fds);
	prepare_process(&contract.settings);

	code = 0;
	if (mold)
		code = mold_run(&contract, &app);
	if (!mold || app != NULL)
		code = worker_run(&contract, app);

	access_log_close(contract.access_log);
	for (size_t i = 0; i < contract.nlisteners; i++)
		listener_close(&contract.listeners[i]);
	free(contract.listeners);
	if (scoreboard.rows != NULL)
		scoreboard_close(&scoreboard);
	settings_fini(&contract.settings);
	return code;
}
