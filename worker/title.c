/*
 * The worker's name in ps(1): "greenicorn: worker [hello:app]". The master has given it, as the
 * only argument; a mold is called so as well, and each worker that it forks.
 */
#include <string.h>

#include "worker/worker.h"

static struct {
	char *text; /* borrowed: argv[0]; NULL: not the master's */
	size_t n;
} title;

#define TITLE_PREFIX "greenicorn: "
#define TITLE_ROLE_N 6 /* "worker", "mold  " */

void
worker_take_title(int argc, char **argv)
{
	if (argc != 1 || strncmp(argv[0], TITLE_PREFIX, strlen(TITLE_PREFIX)) != 0)
		return;
	title.text = argv[0];
	title.n = strlen(argv[0]);
}

void
worker_set_title(const char *role)
{
	size_t n = strlen(role), at = strlen(TITLE_PREFIX);

	if (title.n < at + TITLE_ROLE_N || n > TITLE_ROLE_N)
		return;
	memset(title.text + at, ' ', TITLE_ROLE_N);
	memcpy(title.text + at, role, n);
}
