/*
 * A generation: settings, listening sockets and a number, which a HUP replaces
 * as a whole. The new one is built beside the old one; when anything fails, the old one
 * has not changed.
 */
#ifndef MASTER_GENERATION_H
#define MASTER_GENERATION_H

#include <stdbool.h>
#include <stddef.h>

#include "common/fds.h"
#include "common/listener.h"
#include "common/privs.h"
#include "common/settings.h"
#include "master/mold.h"

/* A listening socket, and the address that was asked for. */
struct binding {
	struct address wanted;
	struct listener listener;
};

struct generation {
	/* Borrowed: the one that stays until this one is proven. Its sockets are not to be lost. */
	const struct generation *prior;
	unsigned number;
	bool proven;        /* one of its workers has been ready */
	size_t workers;     /* wanted: the setting, and what TTIN and TTOU made of it */
	int workers_before; /* of the generation before */
	bool hooks;         /* it has some that its mold calls */
	bool has_mold;      /* for that, or with preload_app */
	int memory_fd;      /* owned: a memfd for those, the same for all generations; -1 */
	bool introduced;    /* its first mold has been told to call them */
	struct settings settings;
	struct binding *bindings; /* owned */
	size_t nbindings;
	int settings_fd;  /* owned: a memfd with the settings, for the workers */
	char *title;      /* owned: the workers' name in ps(1) */
	char *mold_title; /* owned: its mold's */
	struct mold mold; /* if has_mold: what the workers are forked from */
};

/*
 * Make one of these settings, which are owned from here on (and freed in failure).
 * The sockets are those inherited, if there are any, else those of `old`, which becomes
 * its prior, where the address is the same, else new ones, tried `tries` times a second apart while
 * the address is in use. NULL after logging why.
 */
struct generation *generation_new(struct settings *, const struct generation *old,
    struct fds *inherited, const struct privs *, int tries);

/*
 * Close its sockets and free it; unix sockets are removed unless `heir`, or the one
 * before that, has them too. No heir: NULL.
 */
void generation_free(struct generation *, const struct generation *heir);

/* Close the sockets and remove unix sockets' files: nobody shall connect any more. */
void generation_close_sockets(struct generation *, const struct generation *heir);

/* Whether its sockets are systemd's (or NULL: no). */
bool generation_is_inherited(const struct generation *);

/* The settings in a sealed memfd, for workers: one shall not change another's. -1 with errno. */
int generation_pack(const struct settings *);

/*
 * "http://127.0.0.1:8000,unix:/run/x.sock", to click: http://127.0.0.1 where it says 0.0.0.0; the
 * caller frees it.
 */
char *generation_addresses(const struct generation *, bool to_click);

#endif
