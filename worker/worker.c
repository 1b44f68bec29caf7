/*
 * The life of a worker. The application is loaded on a green thread, the main one, while
 * the loop already beats; it stays parked there until the end, when it unloads the
 * application: Python wants both on the same thread.
 *
 *	LOADING → SERVING → STOPPING → LEAVING
 *
 * Signals, the control socket, max_requests and timers ask for a state through
 * worker_stop and worker_leave; accepting_update makes the listeners follow it.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/statsd.h"
#include "common/syslog_out.h"
#include "worker/accept.h"
#include "common/streams.h"
#include "common/worker_class.h"
#include "worker/access_format.h"
#include "worker/access_log.h"
#include "worker/app/app.h"
#include "worker/conn.h"
#include "worker/crash.h"
#include "worker/crowd.h"
#include "worker/green/executor.h"
#include "worker/green/green.h"
#include "worker/forwarded.h"
#include "worker/in_flight.h"
#include "worker/recycle.h"
#include "worker/title.h"
#include "worker/watch.h"

#define NS_PER_SEC 1000000000LL

/* How long exit handlers, and worker_int before them, may take when the worker is to exit at once.
 */
#define QUICK_LEAVE_SECS 1

/* How long worker_exit may take when graceful_timeout is over: the master kills soon after it. */
#define LAST_WORD_USECS 300000

/* Beside the listeners, our descriptors are below this number when the application is loaded. */
#define DESCRIPTORS_AT_START 1024

enum worker_state { WORKER_LOADING, WORKER_SERVING, WORKER_STOPPING, WORKER_LEAVING };

struct worker {
	const struct worker_contract *contract;
	const struct app_ops *ops;
	struct app *app;
	struct event_base *base;
	struct conns *conns; /* NULL until the application is loaded */
	enum worker_state state;
	enum worker_kind kind;
	int exit_code;

	struct forwarded *forwarded; /* owned */
	struct acceptors *acceptors;
	bool retiring; /* the master was asked for a successor */
	int64_t serving_since;

	struct green *main_thread;
	struct green_job main_job;
	struct green_job int_job, exit_job; /* worker_int, worker_exit; the rest waits for them */
	bool quitting, last_word;           /* they have been begun */
	struct green_job reopen_job;
	unsigned reopens; /* how often SIGUSR1 came */
	bool reopening;   /* the job runs */
	struct event *heartbeat, *control, *limit;
};

/* ---- the scoreboard ---- */

static void
worker_beat(struct worker *w)
{
	struct scoreboard_row *row = w->contract->row;

	/* timeout is for the request, too, where there is one at a time: as in gunicorn */
	if (w->kind != WORKER_SYNC || executor_running() == 0)
		atomic_store(&row->heartbeat, scoreboard_now());
	if (w->conns == NULL)
		return;
	atomic_store(&row->served, conns_served(w->conns));
	worker_title_set("worker", atomic_load(&row->in_flight));
}

/* ---- the master ---- */

/* Whether the master has it. */
static bool
master_tell(const struct worker *w, const char *message)
{
	if (w->contract->control == -1)
		return false;
	if (send(w->contract->control, message, strlen(message), MSG_DONTWAIT | MSG_NOSIGNAL) != -1)
		return true;
	log_warn("cannot tell the master");
	return false;
}

static void worker_stop(struct worker *);

static void
main_thread_wake(struct worker *w)
{
	w->ops->nudge(w->app);
	green_wake(w->main_thread);
}

/*
 * This worker has done enough. It goes on until the master has a successor for it and says
 * so (SIGTERM); without a master it just stops.
 */
static void
worker_retire(struct worker *w, const char *why)
{
	if (w->retiring)
		return;
	w->retiring = true;
	log_info("%s", why);
	if (!master_tell(w, CONTRACT_MSG_RETIRE))
		worker_stop(w);
}

static void
on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	char why[128];

	(void)fd;
	(void)what;
	worker_beat(w);
	crowd_watch();
	acceptors_look(w->acceptors);
	/* C libraries may have left Python's main thread something to do (Py_AddPendingCall) */
	if (w->state == WORKER_SERVING)
		main_thread_wake(w);
	if (w->state == WORKER_SERVING &&
	    recycle_due(&w->contract->settings, green_now() - w->serving_since, why, sizeof(why)))
		worker_retire(w, why);
	/* what holds its locks for ever is replaced; those in the deadlock are lost either way */
	if (watch_deadlocks() && w->state == WORKER_SERVING)
		worker_retire(w, "Autorestarting worker: requests are in a deadlock.");
}

/* ---- accepting ---- */

/* While a sync worker serves, what comes is for others, or waits in the kernel. */
static void
accepting_update(struct worker *w)
{
	acceptors_open(w->acceptors,
	    w->state == WORKER_SERVING &&
		conns_count(w->conns) < (size_t)w->contract->settings.worker_connections &&
		(w->kind != WORKER_SYNC || conns_in_flight(w->conns) == 0));
}

static void
on_in_flight(void *arg)
{
	struct worker *w = arg;

	worker_beat(w);
	accepting_update(w);
}

static void
connections_changed(struct worker *w)
{
	atomic_store_explicit(
	    &w->contract->row->connections, (uint32_t)conns_count(w->conns), memory_order_relaxed);
	accepting_update(w);
}

static void
on_connection(int fd, const struct listener *listener, const struct address *peer, void *arg)
{
	struct worker *w = arg;

	conns_add(w->conns, fd, listener, peer);
	connections_changed(w);
}

/* ---- stopping ---- */

/* The process ends here, with green threads in the middle of something. */
static _Noreturn void
worker_exit_now(struct worker *w)
{
	log_divert_end();
	access_log_flush(w->contract->access_log);
	log_info("Worker exiting (pid: %d)", (int)getpid());
	statsd_flush();
	_exit(w->exit_code);
}

static void
last_word_green(void *arg)
{
	struct worker *w = arg;

	w->ops->hook(APP_HOOK_EXIT);
	worker_exit_now(w);
}

/* The same, after the application's worker_exit if there is time for it. */
static void
worker_cut(struct worker *w, struct timeval limit)
{
	if (w->conns == NULL || w->last_word || !w->ops->has_hook(APP_HOOK_EXIT))
		worker_exit_now(w);
	w->last_word = true;
	evtimer_add(w->limit, &limit);
	w->exit_job = (struct green_job){.fn = last_word_green, .arg = w};
	green_run(&w->exit_job);
}

/* Nothing is being served any more: the main green thread goes on. */
static void
worker_leave(struct worker *w)
{
	w->state = WORKER_LEAVING;
	accepting_update(w);
	main_thread_wake(w);
}

static void
leave_when_empty(struct worker *w)
{
	if (w->state == WORKER_STOPPING && w->conns != NULL && conns_count(w->conns) == 0)
		worker_leave(w);
}

static void
on_connection_closed(void *arg)
{
	struct worker *w = arg;

	connections_changed(w);
	leave_when_empty(w);
}

/* The time to stop is over. */
static void
on_limit(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	if (!w->last_word) {
		log_warnx("Worker graceful timeout (pid:%d)", (int)getpid());
		if (w->conns != NULL)
			conns_log_cut(w->conns);
	}
	worker_cut(w, (struct timeval){0, LAST_WORD_USECS});
}

/* Stop accepting, answer what is in flight, then leave. */
static void
worker_stop(struct worker *w)
{
	struct timeval limit = {w->contract->settings.graceful_timeout, 0};

	if (w->state >= WORKER_STOPPING)
		return;
	atomic_store(&w->contract->row->state, SCOREBOARD_STOPPING);
	acceptors_finish(w->acceptors);
	w->state = WORKER_STOPPING;
	evtimer_add(w->limit, &limit);
	if (w->conns == NULL)
		return; /* the application is still being loaded: main_green will see */
	conns_drain(w->conns);
	leave_when_empty(w);
}

/* Do not wait for anybody: in-flight requests are lost, exit handlers have a second. */
static void
worker_quit_now(struct worker *w)
{
	struct timeval limit = {QUICK_LEAVE_SECS, 0};

	if (w->conns == NULL || conns_in_flight(w->conns) > 0) {
		worker_cut(w, limit);
		return;
	}
	worker_stop(w);
	evtimer_add(w->limit, &limit);
	conns_abandon(w->conns);
}

static void
quit_green(void *arg)
{
	struct worker *w = arg;

	w->ops->hook(APP_HOOK_INT);
	worker_quit_now(w);
}

/* The same, after the application's worker_int, which may see what is in flight. */
static void
worker_quit(struct worker *w)
{
	struct timeval limit = {QUICK_LEAVE_SECS, 0};

	if (w->conns == NULL || w->state == WORKER_LEAVING || !w->ops->has_hook(APP_HOOK_INT)) {
		worker_quit_now(w);
	} else if (!w->quitting) {
		w->quitting = true;
		evtimer_add(w->limit, &limit);
		w->int_job = (struct green_job){.fn = quit_green, .arg = w};
		green_run(&w->int_job);
	}
}

static void
on_used_up(void *arg)
{
	worker_retire(arg, "Autorestarting worker after current request.");
}

/* ---- the application's code has changed ---- */

/* Asked for by a thread of the application's interpreter, once. */
static struct {
	struct worker *worker;
	struct green_job job;
	char why[PATH_MAX];
} reloading;

/*
 * Who saves a file wants to see it in the next response: this worker takes no more connections, and
 * what comes waits in the kernel for its successor, which the master starts meanwhile.
 */
static void
reloading_begin(void *arg)
{
	struct worker *w = arg;

	if (w->state != WORKER_SERVING)
		return; /* worker_serve looks */
	worker_retire(w, reloading.why);
	worker_stop(w);
}

static void
reloading_ask(const char *why)
{
	snprintf(reloading.why, sizeof(reloading.why), "%s", why);
	reloading.job = (struct green_job){.fn = reloading_begin, .arg = reloading.worker};
	green_run(&reloading.job);
}

/* ---- signals ---- */

void
worker_reopen_files(const struct worker_contract *contract)
{
	if (log_reopen() == -1)
		log_warn("cannot reopen the error log");
	if (contract->settings.capture_output && streams_capture() == -1)
		log_warn("capture_output");
	if (access_log_reopen(contract->access_log) == -1)
		log_warn("cannot reopen %s", contract->settings.accesslog);
}

/* The application's, as often as it has been asked for meanwhile. */
static void
reopen_green(void *arg)
{
	struct worker *w = arg;
	unsigned done;

	do {
		done = w->reopens;
		w->ops->reopen(w->app);
	} while (done != w->reopens);
	w->reopening = false;
}

static void
worker_reopen(struct worker *w)
{
	worker_reopen_files(w->contract);
	w->reopens++;
	if (w->conns == NULL || w->state == WORKER_LEAVING || w->reopening)
		return;
	w->reopening = true;
	w->reopen_job = (struct green_job){.fn = reopen_green, .arg = w};
	green_run(&w->reopen_job);
}

static const struct {
	int number;
	void (*act)(struct worker *);
} signals[] = {
    {SIGTERM, worker_stop},
    {SIGINT, worker_quit},
    {SIGQUIT, worker_quit},
    {SIGUSR1, worker_reopen},
};

#define NSIGNALS (sizeof(signals) / sizeof(signals[0]))

static struct {
	struct event *events[NSIGNALS]; /* owned */
	struct sigaction ours[NSIGNALS];
} caught;

static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	for (size_t i = 0; i < NSIGNALS; i++)
		if (signals[i].number == fd)
			signals[i].act(arg);
}

/* ---- what a child that the application forks does not get ---- */

/*
 * Before the application is loaded, all that is open and close-on-exec is ours: listeners,
 * control socket, scoreboard, access log, the event loop's own. What a supervisor left open
 * for the application is not close-on-exec; the error log a child may need.
 */
static int
descriptors_own(const struct worker *w)
{
	int end = (int)w->contract->nlisteners + DESCRIPTORS_AT_START;

	for (int fd = CONTRACT_FDS_START; fd < end; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags == -1 || (flags & FD_CLOEXEC) == 0 || fd == log_fd() ||
		    fd == log_out_fd() || fd == syslog_out_fd())
			continue;
		if (green_fd_own(fd) == -1)
			return -1;
	}
	return 0;
}

/*
 * A child that the application forks has the same handlers, and the same pipe behind them:
 * its SIGTERM would stop the worker. It starts without them (what the application has set
 * itself stays); a signal that comes before that waits.
 */
static __thread sigset_t mask_before_fork;

static void
signals_before_fork(void)
{
	sigset_t ours;

	sigemptyset(&ours);
	for (size_t i = 0; i < NSIGNALS; i++)
		sigaddset(&ours, signals[i].number);
	pthread_sigmask(SIG_BLOCK, &ours, &mask_before_fork);
}

static void
signals_after_fork(void)
{
	pthread_sigmask(SIG_SETMASK, &mask_before_fork, NULL);
}

static void
signals_in_child(void)
{
	struct sigaction now;

	for (size_t i = 0; i < NSIGNALS; i++)
		if (caught.events[i] != NULL && sigaction(signals[i].number, NULL, &now) == 0 &&
		    now.sa_handler == caught.ours[i].sa_handler)
			(void)signal(signals[i].number, SIG_DFL);
	signals_after_fork();
}

static int
signals_catch(struct worker *w)
{
	for (size_t i = 0; i < NSIGNALS; i++) {
		caught.events[i] = evsignal_new(w->base, signals[i].number, on_signal, w);
		if (caught.events[i] == NULL || evsignal_add(caught.events[i], NULL) == -1 ||
		    sigaction(signals[i].number, NULL, &caught.ours[i]) == -1)
			return -1;
	}
	errno = pthread_atfork(signals_before_fork, signals_after_fork, signals_in_child);
	return errno == 0 ? 0 : -1;
}

static void
signals_release(void)
{
	for (size_t i = 0; i < NSIGNALS; i++) {
		if (caught.events[i] != NULL)
			event_free(caught.events[i]);
		caught.events[i] = NULL;
	}
}

/* It has nothing to say yet but that it is gone. */
static void
on_control(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	char message[64];
	ssize_t n = recv((int)fd, message, sizeof(message), MSG_DONTWAIT);

	(void)what;
	if (n > 0 || (n == -1 && (errno == EAGAIN || errno == EINTR)))
		return;
	event_del(w->control);
	log_info("The master is gone, stopping (pid: %d)", (int)getpid());
	worker_stop(w);
}

/* ---- the main green thread ---- */

/* In front of the backend's own. */
static void
on_signals_set(void)
{
	watch_signals();
	crash_watch();
}

/* The master has checked it. */
static enum worker_kind
worker_kind(const struct settings *settings)
{
	char why[512];
	int kind = worker_class_kind(settings, why, sizeof(why));

	if (kind == -1)
		fatalx("worker_class: %s", why);
	return (enum worker_kind)kind;
}

struct app_config
worker_app_config(const struct worker_contract *contract)
{
	const struct settings *settings = &contract->settings;

	return (struct app_config){
	    .uri = settings->wsgi_app,
	    .pythonpath = settings->pythonpath,
	    .virtualenv = settings->virtualenv,
	    .script_name = settings->script_name != NULL ? settings->script_name : "",
	    .software = "greenicorn/" GREENICORN_VERSION,
	    .multiprocess = settings->workers > 1,
	    .settings = settings,
	    .access_log = {contract->access_log, access_log_write, access_log_divert},
	    .listeners = contract->listeners,
	    .nlisteners = contract->nlisteners,
	    .row = contract->row,
	    .memory = contract->memory,
	    .age = contract->age,
	    .multithread = worker_kind(settings) != WORKER_SYNC,
	};
}

static int
worker_load(struct worker *w)
{
	struct app_config config = worker_app_config(w->contract);

	config.stack_fd = watch_stack_fd();
	config.signals_set = on_signals_set;
	config.changed = reloading_ask;
	config.is_worker = !w->contract->settings.check_config;
	if (w->app != NULL)
		return w->ops->adopt(w->app, &config);
	return w->ops->load(&config, &w->app);
}

static int
worker_open(struct worker *w)
{
	const struct settings *settings = &w->contract->settings;
	struct conns_config config = {
	    .exchange =
		{
		    .limits =
			{
			    .line = (size_t)settings->limit_request_line,
			    .fields = (size_t)settings->limit_request_fields,
			    .field_size = (size_t)settings->limit_request_field_size,
			    .require_host = settings->require_host,
			    .any_method = settings->permit_unconventional_http_method,
			    .any_version = settings->permit_unconventional_http_version,
			    .folding = settings->permit_obsolete_folding,
			},
		    .body_timeout = settings->body_timeout * NS_PER_SEC,
		    .send_timeout = settings->send_timeout * NS_PER_SEC,
		    .server = "greenicorn",
		    .sendfile = settings->sendfile,
		    .fold_methods = settings->casefold_http_method,
		    .ops = w->ops,
		    .app = w->app,
		    .access_log = w->contract->access_log,
		    .wants = access_log_wants(w->contract->access_log),
		    .kind = w->kind,
		},
	    .forwarded = w->forwarded,
	    .script_name = settings->script_name != NULL ? settings->script_name : "",
	    .keepalive = w->kind == WORKER_SYNC ? 0 : settings->keepalive * NS_PER_SEC,
	    .header_timeout = settings->header_timeout * NS_PER_SEC,
	    .max_requests = recycle_requests(settings),
	    .used_up = on_used_up,
	    .closed = on_connection_closed,
	    .in_flight = w->kind == WORKER_SYNC ? on_in_flight : NULL,
	    .arg = w,
	};

	w->conns = conns_new(w->base, &config);
	if (w->conns == NULL) {
		log_error("cannot start serving");
		return -1;
	}
	return 0;
}

void
worker_leave_streams(const struct settings *s)
{
	if (s->daemon && streams_detach(s->enable_stdio_inheritance || s->capture_output) == -1)
		log_warn("cannot leave the standard streams");
}

static void
worker_serve(struct worker *w)
{
	if (w->state == WORKER_STOPPING) {
		worker_leave(w); /* told to stop while loading */
		return;
	}
	w->state = WORKER_SERVING;
	w->serving_since = green_now();
	worker_beat(w);
	atomic_store(&w->contract->row->state, SCOREBOARD_READY);
	accepting_update(w);
	log_info("Worker ready (pid: %d)", (int)getpid());
	worker_leave_streams(&w->contract->settings);
	(void)master_tell(w, CONTRACT_MSG_READY);
	if (reloading.why[0] != '\0')
		reloading_begin(w);
}

/* The application's main thread has something to do. */
static void
on_attend(int fd, int events, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)events;
	green_wake(w->main_thread);
}

/* Until the worker leaves, be the thread that the application thinks of as the main one. */
static void
worker_attend(struct worker *w)
{
	int fd = w->ops->attend_fd(w->app);

	if (fd != -1 && green_fd_watch(fd, on_attend, w) == -1)
		log_warn("cannot watch for the application's signals");
	while (w->state != WORKER_LEAVING) {
		if (!w->ops->idle(w->app))
			(void)green_park(GREEN_NEVER);
		if (w->kind == WORKER_SYNC)
			executor_work();
		w->ops->attend(w->app);
	}
	if (fd != -1)
		(void)green_fd_watch(fd, NULL, NULL);
}

static void
main_green(void *arg)
{
	struct worker *w = arg;

	w->main_thread = green_self();
	watch_main();
	w->exit_code = worker_load(w);
	if (w->exit_code == 0 && w->contract->settings.check_config) {
		w->ops->unload(w->app);
	} else if (w->exit_code == 0) {
		if (worker_open(w) == 0)
			worker_serve(w);
		else
			w->exit_code = WORKER_EXIT_FAILED;
		if (w->exit_code == 0) {
			watch_serving(true);
			worker_attend(w);
			watch_serving(false);
		}
		w->ops->unload(w->app);
	}
	green_loop_stop();
}

/* ---- start and end ---- */

static int
events_new(struct worker *w)
{
	struct timeval second = {1, 0};

	w->heartbeat = event_new(w->base, -1, EV_PERSIST, on_heartbeat, w);
	w->limit = evtimer_new(w->base, on_limit, w);
	if (w->heartbeat == NULL || w->limit == NULL || event_add(w->heartbeat, &second) == -1)
		return -1;
	if (w->contract->control != -1) {
		w->control =
		    event_new(w->base, w->contract->control, EV_READ | EV_PERSIST, on_control, w);
		if (w->control == NULL || event_add(w->control, NULL) == -1)
			return -1;
	}
	return 0;
}

static void
on_thread_exit(void *arg)
{
	struct worker *w = arg;

	w->ops->thread_exit();
}

static void
on_pass(void *arg)
{
	struct worker *w = arg;

	access_log_flush(w->contract->access_log);
	statsd_flush();
}

static void
watchdog_start(struct worker *w)
{
	const struct settings *settings = &w->contract->settings;
	bool green = w->kind == WORKER_GREEN; /* else there is nobody to let run */
	struct watch_config config = {
	    .ops = w->ops,
	    .preempt = green ? (int64_t)(settings->preempt * (double)NS_PER_SEC) : 0,
	    .blocking_threshold =
		green ? (int64_t)(settings->blocking_threshold * (double)NS_PER_SEC) : 0,
	    .blocked = &w->contract->row->blocked,
	};

	watch_start(&config);
}

/* Somebody waits for the main thread to make a call. */
static void
on_call(void *arg)
{
	main_thread_wake(arg);
}

static void
executor_open(struct worker *w)
{
	const struct settings *settings = &w->contract->settings;
	unsigned threads = settings->threads > 1 ? (unsigned)settings->threads : 1;
	struct executor_config config = {
	    .threads = w->kind == WORKER_GTHREAD ? threads : 0,
	    .stack_size = (size_t)settings->stack_size,
	    .waiting = on_call,
	    .arg = w,
	};

	if (w->kind != WORKER_GREEN && executor_start(&config) == -1)
		fatal("cannot start a thread");
}

static void
worker_init(struct worker *w, const struct worker_contract *contract)
{
	struct green_config config = {
	    .stack_size = (size_t)contract->settings.stack_size,
	    .at_exit = on_thread_exit,
	    .arg = w,
	};

	char why[512];

	reloading.worker = w;
	w->contract = contract;
	w->ops = app_backends[0];
	w->state = WORKER_LOADING;
	w->kind = worker_kind(&contract->settings);
	w->base = green_event_base_new();
	if (w->base == NULL || green_init(w->base, &config) == -1)
		fatal("cannot start the event loop");
	if (contract->access_log != NULL || statsd_wanted())
		green_on_pass(on_pass, w);
	if (access_log_wants(contract->access_log) & ACCESS_WANTS_RUN_TIME)
		green_account();
	executor_open(w);
	w->forwarded = forwarded_new(&contract->settings, why, sizeof(why));
	if (w->forwarded == NULL)
		fatalx("forwarded_allow_ips: %s", why);
	watchdog_start(w);
	w->acceptors = acceptors_new(w->base, contract, on_connection, w);
	if (w->acceptors == NULL || events_new(w) == -1 || signals_catch(w) == -1 ||
	    descriptors_own(w) == -1)
		fatal("cannot watch for events");
}

static void
event_drop(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

static void
worker_fini(struct worker *w)
{
	watch_stop();
	executor_stop();
	green_fini();
	signals_release();
	conns_free(w->conns);
	forwarded_free(w->forwarded);
	acceptors_free(w->acceptors);
	event_drop(w->heartbeat);
	event_drop(w->limit);
	event_drop(w->control);
	event_base_free(w->base);
}

int
worker_run(const struct worker_contract *contract, struct app *app)
{
	struct worker w = {.app = app};

	scoreboard_keep(contract->scoreboard);
	in_flight_init(contract->row, contract->requests);
	statsd_begin();
	worker_init(&w, contract);
	atomic_store(&contract->row->pid, (uint32_t)getpid());
	atomic_store(&contract->row->state, SCOREBOARD_STARTING);
	worker_beat(&w);
	w.main_job = (struct green_job){.fn = main_green, .arg = &w};
	green_run(&w.main_job);
	if (green_loop() == -1)
		fatalx("the event loop failed");
	access_log_flush(contract->access_log);
	worker_fini(&w);
	log_info("Worker exiting (pid: %d)", (int)getpid());
	statsd_flush();
	return w.exit_code;
}
