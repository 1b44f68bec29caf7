/*
 * greenicorn: reads the configuration, binds, gives up privileges, and runs the
 * master, which starts greenicorn-worker processes. No Python in here, no threads.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fds.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/privs.h"
#include "common/statsd.h"
#include "common/syslog_out.h"
#include "common/title.h"
#include "common/worker_class.h"
#include "master/check.h"
#include "master/daemon.h"
#include "master/logfile.h"
#include "master/master.h"
#include "master/notify.h"
#include "master/options.h"
#include "master/pidfile.h"

/* How often to try an address that is in use, a second apart: gunicorn's. */
#define BIND_TRIES 5

/*
 * The worker's executable: beside our own, where the build puts it, or where it was
 * installed. The variable is for tests.
 */
static char *
worker_find(void)
{
	static const char *const beside[] = {"greenicorn-worker", "../worker/greenicorn-worker"};
	const char *named = getenv("GREENICORN_WORKER");
	char self[PATH_MAX], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (named != NULL)
		return xstrdup(named);
	self[n > 0 ? n : 0] = '\0';
	if ((slash = strrchr(self, '/')) != NULL) {
		*slash = '\0';
		for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
			path = xasprintf("%s/%s", self, beside[i]);
			if (access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return xstrdup(GREENICORN_BINDIR "/greenicorn-worker");
}

/* The configuration, or the end with one line that says what is wrong with it. */
static void
settings_load(struct settings *s, const struct options *o)
{
	struct settings_error error;

	if (options_load(o, s, &error) == -1) {
		fprintf(stderr, "Error: %s\n", error.text);
		exit(1);
	}
}

/* --print-config, --check-config, which the first implies as in gunicorn: the exit status. */
static int
config_tell(struct settings *s, const char *worker)
{
	struct settings_error error;
	int rc = 0;

	if (s->print_config && settings_show(s, stdout) == -1)
		rc = 1;
	if (rc == 0 && s->wsgi_app != NULL &&
	    (settings_set(s, "check_config", "true", "command line", &error) == -1 ||
		check_application(s, worker) != 0))
		rc = 1;
	settings_fini(s);
	return rc;
}

/* The worker's program knows Python: it becomes what runs gunicorn's file. */
static int
from_gunicorn(const char *worker, const char *file)
{
	execl(worker, worker, "--from-gunicorn", file, (char *)NULL);
	fatal("cannot run %s", worker);
}

static void
directory_enter(const struct settings *s)
{
	if (s->chdir != NULL && chdir(s->chdir) == -1)
		fatal("%s: chdir: cannot enter %s", settings_origin(s, "chdir"), s->chdir);
}

static void
log_begin(const struct settings *s)
{
	enum log_level level = (enum log_level)log_level_parse(s->loglevel);

	if (log_open(s->errorlog, level) == -1)
		fatal("%s: errorlog: cannot open %s", settings_origin(s, "errorlog"), s->errorlog);
	syslog_out_apply(s);
	statsd_apply(s);
	log_info("Starting greenicorn " GREENICORN_VERSION);
}

/* Settings of gunicorn that do nothing here: whoever brings them is told so. */
static void
log_unused(const struct settings *s)
{
	char why[512];

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (row->effect == SETTING_NOTHING && !settings_is_default(s, row))
			log_warnx("%s: %s does nothing here: %s", settings_origin(s, row->name),
			    row->name, row->why);
	}
	if (s->preload_app && s->reload)
		log_warnx("%s: preload_app is off: with reload each worker loads the application",
		    settings_origin(s, "preload_app"));
	if (s->threads > 1 && worker_class_kind(s, why, sizeof(why)) == WORKER_GREEN)
		log_warnx("%s: threads does nothing here: each request has a green thread; "
			  "worker_class = \"gthread\" has native ones",
		    settings_origin(s, "threads"));
}

/* gunicorn would have read it: to pass over it in silence would be a surprise. */
static void
log_gunicorn_file(const struct options *o)
{
	char *path = xasprintf("%s/gunicorn.conf.py", o->cwd);

	if (o->config == NULL && access(path, F_OK) == 0)
		log_warnx("gunicorn.conf.py is not read: greenicorn --from-gunicorn "
			  "gunicorn.conf.py > greenicorn.conf makes a file of it that is");
	free(path);
}

static void
pidfile_check(const struct settings *s, const char *path)
{
	pid_t holder = path != NULL ? pidfile_holder(path) : 0;

	if (holder != 0)
		fatalx("%s: pidfile: Already running on PID %d (or pid file '%s' is stale)",
		    settings_origin(s, "pidfile"), (int)holder, path);
}

static void
pidfile_begin(struct pidfile *p, const struct settings *s, const char *path)
{
	*p = (struct pidfile){.fd = -1};
	if (path != NULL && pidfile_write(p, path) == -1)
		fatal("%s: pidfile: cannot write %s", settings_origin(s, "pidfile"), path);
}

static struct privs
privs_begin(const struct settings *s)
{
	struct privs privs;
	bool bad_group;
	char why[256];

	if (privs_resolve(&privs, s->user, s->group, s->initgroups, &bad_group, why, sizeof(why)) ==
	    -1)
		fatalx("%s: %s: %s", settings_origin(s, bad_group ? "group" : "user"),
		    bad_group ? "group" : "user", why);
	return privs;
}

/* Everything that needs root has been done. */
static void
privileges_drop(const struct settings *s, const struct privs *privs)
{
	if (logfile_give(s->errorlog, privs) == -1)
		log_warn("%s: errorlog: cannot give %s to the user", settings_origin(s, "errorlog"),
		    s->errorlog);
	if (logfile_give(s->accesslog, privs) == -1)
		log_warn("%s: accesslog: cannot give %s to the user",
		    settings_origin(s, "accesslog"), s->accesslog);
	if (privs_differ(privs) && privs_drop(privs) == -1)
		fatal("cannot become uid %d, gid %d", (int)privs->uid, (int)privs->gid);
	if (geteuid() == 0 && s->refuse_root)
		fatalx("%s: refuse_root: the application would run as root: set user",
		    settings_origin(s, "refuse_root"));
	if (geteuid() == 0)
		log_warnx("running as root: set user, so that the application does not");
}

static void
log_listening(const struct generation *g)
{
	char *addresses = generation_addresses(g, log_is_terminal());

	log_info("Listening at: %s (%d)", addresses, (int)getpid());
	log_info("Using worker: %s", worker_class_name(&g->settings));
	free(addresses);
}

/* The sockets that systemd, or whoever speaks its protocol, opened for us. */
static void
inherited_take(struct fds *inherited)
{
	if (fds_take(inherited) == -1)
		fatal("LISTEN_FDS: cannot take the sockets");
}

static void
master_title(const struct settings *s, bool second)
{
	char *title = xasprintf("greenicorn: master [%s%s]",
	    s->proc_name ? s->proc_name : s->wsgi_app, second ? ".2" : "");

	title_set(title);
	free(title);
}

/* Not where somebody supervises us already: a service manager, or another master. */
static void
daemon_begin(struct settings *s, const struct upgrade *upgrade)
{
	if (!s->daemon || upgrade->predecessor != 0)
		return;
	if (getenv("NOTIFY_SOCKET") == NULL) {
		daemon_detach(s);
		return;
	}
	log_warnx("%s: daemon: not under systemd, which has to see the server",
	    settings_origin(s, "daemon"));
	s->daemon = false;
}

/* From the first sockets to the end of the last worker; the exit code. */
static int
serve(struct settings *settings, struct fds *inherited, const struct master_config *config,
    const struct upgrade *upgrade, const char *pidfile_path)
{
	struct generation *first =
	    generation_new(settings, NULL, inherited, &config->privs, BIND_TRIES);
	struct pidfile pidfile;

	fds_close(inherited);
	if (first == NULL)
		return 1;
	if (master_block_signals() == -1)
		fatal("cannot block signals");
	pidfile_begin(&pidfile, &first->settings, pidfile_path);
	privileges_drop(&first->settings, &config->privs);
	log_listening(first);
	return master_run(config, first, &pidfile, upgrade);
}

int
main(int argc, char **argv)
{
	struct options options;
	struct settings settings;
	struct fds inherited;
	struct upgrade upgrade;
	struct master_config config = {.options = &options};
	char *worker, *pidfile;
	int rc;

	upgrade_remember(argv);
	title_init(argc, argv);
	options_parse(&options, argc, argv);
	config.worker = worker = worker_find();
	if (options.from_gunicorn != NULL)
		return from_gunicorn(worker, options.from_gunicorn);
	settings_load(&settings, &options);
	if (settings.print_config || settings.check_config) {
		rc = config_tell(&settings, worker);
		options_free(&options);
		free(worker);
		return rc;
	}
	config.privs = privs_begin(&settings);
	inherited_take(&inherited);
	upgrade_begin(&upgrade, &inherited);
	daemon_begin(&settings, &upgrade);
	notify_init();
	master_title(&settings, upgrade.predecessor != 0);
	directory_enter(&settings);
	log_begin(&settings);
	log_unused(&settings);
	log_gunicorn_file(&options);
	pidfile = upgrade_pidfile(&upgrade, &settings);
	pidfile_check(&settings, pidfile);
	if (access(worker, X_OK) == -1)
		fatal("cannot run %s", worker);
	rc = serve(&settings, &inherited, &config, &upgrade, pidfile);
	options_free(&options);
	free(pidfile);
	free(worker);
	return rc;
}
