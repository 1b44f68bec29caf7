/* Building and ending generations: see generation.h. */
#include "master/generation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/contract.h"
#include "common/log.h"
#include "common/mem.h"
#include "master/hooks.h"

static unsigned last_number; /* no two generations of a process have the same */

static bool
address_same(const struct address *a, const struct address *b)
{
	return a->len == b->len && memcmp(&a->any, &b->any, a->len) == 0;
}

/* In that generation, or in those that it has not replaced for good. */
static const struct binding *
binding_find(const struct generation *g, const struct address *a)
{
	for (; g != NULL; g = g->prior)
		for (size_t i = 0; i < g->nbindings; i++)
			if (address_same(&g->bindings[i].wanted, a))
				return &g->bindings[i];
	return NULL;
}

/* Keep a socket of the generation before: only its backlog may have changed. */
static int
binding_keep(struct binding *b, const struct binding *old, int backlog)
{
	*b = *old;
	if ((b->listener.fd = fcntl(old->listener.fd, F_DUPFD_CLOEXEC, 0)) == -1)
		return -1;
	return listen(b->listener.fd, backlog);
}

/*
 * A socket that an earlier master bound: the one that started us, or one whose sockets
 * systemd has kept. Whether there is one of that address; systemd keeps a unix socket over
 * a restart, too, before which we have removed its file.
 */
static bool
binding_take_bound(struct binding *b, struct fds *inherited, const struct settings *s)
{
	char text[ADDRESS_TEXT_SIZE];

	address_format(&b->wanted, text, sizeof(text));
	for (size_t i = 0; inherited != NULL && i < inherited->n; i++) {
		struct fd_named *it = &inherited->items[i];

		if (it->fd == -1 || strcmp(it->name, CONTRACT_FD_BOUND) != 0 ||
		    listener_adopt(&b->listener, it->fd) == -1 ||
		    strcmp(b->listener.text, text) != 0)
			continue;
		if (listener_own(&b->listener) == -1)
			return false;
		it->fd = -1;
		return listen(b->listener.fd, s->backlog) == 0;
	}
	return false;
}

/* The first server may have to wait for the one before it to let go of the address. */
static int
binding_open(struct binding *b, const struct settings *s, const struct privs *privs, int tries,
    const char *text)
{
	bool chown = privs_differ(privs);
	struct listener_options options = {.backlog = s->backlog,
	    .reuse_port = s->reuse_port,
	    .umask = (mode_t)s->umask,
	    .uid = chown ? privs->uid : (uid_t)-1,
	    .gid = chown ? privs->gid : (gid_t)-1};

	for (;;) {
		if (listener_open(&b->listener, &b->wanted, &options) == 0)
			return 0;
		if (errno != EADDRINUSE || --tries <= 0)
			return -1;
		log_errorx("Connection in use: %s", text);
		log_errorx("Retrying in 1 second.");
		sleep(1);
	}
}

static void
log_cannot_listen(const struct settings *s, const char *text)
{
	const char *hint = "";

	if (errno == EACCES && geteuid() != 0)
		hint = " (not as this user: start as root, or take the socket from systemd)";
	if (errno == ENOTSOCK)
		hint = " (the path is another kind of file)";
	log_errorx("%s: bind: cannot listen on %s: %s%s", settings_origin(s, "bind"), text,
	    strerror(errno), hint);
}

static int
generation_bind(struct generation *g, const struct generation *old, struct fds *inherited,
    const struct privs *privs, int tries)
{
	const struct strlist *bind = &g->settings.bind;
	const struct binding *same;
	struct binding *b;
	char why[256];
	int rc;

	g->bindings = xcalloc(bind->n, sizeof(*g->bindings));
	for (size_t i = 0; i < bind->n; i++) {
		b = &g->bindings[i];
		if (address_parse(&b->wanted, bind->items[i], why, sizeof(why)) == -1) {
			log_errorx("%s: bind: %s", settings_origin(&g->settings, "bind"), why);
			return -1;
		}
		same = binding_find(old, &b->wanted);
		if (same != NULL)
			rc = binding_keep(b, same, g->settings.backlog);
		else if (binding_take_bound(b, inherited, &g->settings))
			rc = 0;
		else
			rc = binding_open(b, &g->settings, privs, tries, bind->items[i]);
		if (rc == -1) {
			log_cannot_listen(&g->settings, bind->items[i]);
			return -1;
		}
		g->nbindings++;
	}
	return 0;
}

/* From a socket unit of systemd, that is: not one that an earlier master bound. */
static bool
is_activated(const struct fd_named *it)
{
	return it->fd != -1 && strcmp(it->name, CONTRACT_FD_BOUND) != 0;
}

static bool
has_activated(const struct fds *inherited)
{
	for (size_t i = 0; inherited != NULL && i < inherited->n; i++)
		if (is_activated(&inherited->items[i]))
			return true;
	return false;
}

/* Sockets from systemd replace the setting bind, and stay for all generations. */
static int
generation_adopt(struct generation *g, struct fds *inherited)
{
	struct binding *b;

	g->bindings = xcalloc(inherited->n, sizeof(*g->bindings));
	for (size_t i = 0; i < inherited->n; i++) {
		b = &g->bindings[g->nbindings];
		if (!is_activated(&inherited->items[i]))
			continue;
		if (listener_adopt(&b->listener, inherited->items[i].fd) == -1) {
			log_error("LISTEN_FDS: cannot listen on descriptor %d (%s)",
			    inherited->items[i].fd, inherited->items[i].name);
			return -1;
		}
		inherited->items[i].fd = -1;
		b->wanted = b->listener.address;
		g->nbindings++;
	}
	return 0;
}

static int
generation_inherit(struct generation *g, const struct generation *old)
{
	g->bindings = xcalloc(old->nbindings, sizeof(*g->bindings));
	for (size_t i = 0; i < old->nbindings; i++) {
		if (binding_keep(&g->bindings[i], &old->bindings[i], g->settings.backlog) == -1) {
			log_error("cannot keep %s", old->bindings[i].listener.text);
			return -1;
		}
		g->nbindings++;
	}
	return 0;
}

int
generation_pack(const struct settings *s)
{
	int fd = memfd_create("greenicorn-settings", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd == -1)
		return -1;
	if (settings_write_fd(s, fd) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ==
		-1) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Where a mold's hooks leave what the next one's shall have. -1 with errno. */
static int
memory_open(const struct generation *old)
{
	if (old != NULL && old->memory_fd != -1)
		return fcntl(old->memory_fd, F_DUPFD_CLOEXEC, 0);
	return memfd_create("greenicorn-hooks", MFD_CLOEXEC);
}

bool
generation_is_inherited(const struct generation *g)
{
	return g != NULL && g->nbindings > 0 && g->bindings[0].listener.inherited;
}

struct generation *
generation_new(struct settings *s, const struct generation *old, struct fds *inherited,
    const struct privs *privs, int tries)
{
	struct generation *g = xcalloc(1, sizeof(*g));
	int rc;

	g->prior = old;
	g->number = ++last_number;
	g->settings = *s;
	g->workers = (size_t)s->workers;
	g->hooks = hooks_set(s);
	g->has_mold = g->hooks || settings_preloads(s);
	g->settings_fd = g->memory_fd = -1;
	g->mold = MOLD_NONE;
	g->title = xasprintf("greenicorn: worker [%s]", s->proc_name ? s->proc_name : s->wsgi_app);
	g->mold_title =
	    xasprintf("greenicorn: mold [%s]", s->proc_name ? s->proc_name : s->wsgi_app);
	if (has_activated(inherited))
		rc = generation_adopt(g, inherited);
	else if (generation_is_inherited(old))
		rc = generation_inherit(g, old);
	else
		rc = generation_bind(g, old, inherited, privs, tries);
	if (rc == 0 && (g->settings_fd = generation_pack(s)) == -1) {
		log_error("cannot write the settings for the workers");
		rc = -1;
	}
	if (rc == 0 && g->hooks && (g->memory_fd = memory_open(old)) == -1) {
		log_error("cannot make memory for the hooks");
		rc = -1;
	}
	if (rc == 0)
		return g;
	generation_free(g, old);
	return NULL;
}

void
generation_close_sockets(struct generation *g, const struct generation *heir)
{
	for (size_t i = 0; i < g->nbindings; i++) {
		if (binding_find(heir, &g->bindings[i].wanted) == NULL)
			listener_unlink(&g->bindings[i].listener);
		listener_close(&g->bindings[i].listener);
	}
}

void
generation_free(struct generation *g, const struct generation *heir)
{
	if (g == NULL)
		return;
	generation_close_sockets(g, heir);
	free(g->bindings);
	if (g->settings_fd != -1)
		close(g->settings_fd);
	if (g->memory_fd != -1)
		close(g->memory_fd);
	settings_fini(&g->settings);
	mold_stop(&g->mold);
	free(g->title);
	free(g->mold_title);
	free(g);
}

/* What listens on all addresses cannot be opened in a browser by that name. */
static char *
address_to_click(const char *text)
{
	static const struct {
		const char *any, *one;
	} names[] = {{"http://0.0.0.0:", "http://127.0.0.1:"}, {"http://[::]:", "http://[::1]:"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i].any);

		if (strncmp(text, names[i].any, n) == 0)
			return xasprintf("%s%s (and all other addresses)", names[i].one, text + n);
	}
	return xstrdup(text);
}

char *
generation_addresses(const struct generation *g, bool to_click)
{
	char *text = xstrdup(""), *longer, *address;

	for (size_t i = 0; i < g->nbindings; i++) {
		const char *given = g->bindings[i].listener.text;

		address = to_click ? address_to_click(given) : xstrdup(given);
		longer = xasprintf("%s%s%s", text, i ? "," : "", address);
		free(address);
		free(text);
		text = longer;
	}
	return text;
}
