/* Taking and passing descriptors: see fds.h. */
#include "common/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "common/contract.h"
#include "common/mem.h"

/* No sender passes more; beyond it the environment is broken. */
#define FDS_MAX 4096

/* A number from 1 to max in a variable; 0 when it is not set, -1 when it is something else. */
static long
env_number(const char *name, long max)
{
	const char *text = getenv(name);
	char *end;
	long n;

	if (text == NULL)
		return 0;
	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n < 1 || n > max)
		return -1;
	return n;
}

static void
env_forget(void)
{
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

/* Without names, all are "unknown": sd_listen_fds_with_names(3). */
static void
fds_name(struct fds *fds, long n, const char *names)
{
	char *copy = xstrdup(names != NULL ? names : ""), *rest = copy, *name;

	for (int i = 0; i < n; i++) {
		name = rest != NULL ? strsep(&rest, ":") : NULL;
		fds_add(fds, CONTRACT_FDS_START + i, name != NULL && *name ? name : "unknown");
	}
	free(copy);
}

int
fds_take(struct fds *fds)
{
	long pid = env_number("LISTEN_PID", INT_MAX), n = env_number("LISTEN_FDS", FDS_MAX);

	*fds = (struct fds){0};
	if (pid == 0 || n == 0 || (pid > 0 && pid != getpid())) {
		env_forget();
		return 0;
	}
	if (pid == -1 || n == -1) {
		env_forget();
		errno = EINVAL;
		return -1;
	}
	for (int i = 0; i < n; i++)
		if (fcntl(CONTRACT_FDS_START + i, F_SETFD, FD_CLOEXEC) == -1) {
			env_forget();
			return -1;
		}
	fds_name(fds, n, getenv("LISTEN_FDNAMES"));
	env_forget();
	return 0;
}

int
fds_claim(struct fds *fds, const char *name)
{
	for (size_t i = 0; i < fds->n; i++) {
		int fd = fds->items[i].fd;

		if (fd != -1 && strcmp(fds->items[i].name, name) == 0) {
			fds->items[i].fd = -1;
			return fd;
		}
	}
	return -1;
}

void
fds_close(struct fds *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		if (fds->items[i].fd != -1)
			close(fds->items[i].fd);
	fds_free(fds);
}

void
fds_add(struct fds *fds, int fd, const char *name)
{
	fds->items = xreallocarray(fds->items, fds->n + 1, sizeof(*fds->items));
	fds->items[fds->n++] = (struct fd_named){.fd = fd, .name = xstrdup(name)};
}

void
fds_free(struct fds *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		free(fds->items[i].name);
	free(fds->items);
	*fds = (struct fds){0};
}

static int
env_describe(const struct fds *fds)
{
	char number[16], *names = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&names, &size);
	int rc;

	if (out == NULL)
		return -1;
	for (size_t i = 0; i < fds->n; i++)
		fprintf(out, "%s%s", i ? ":" : "", fds->items[i].name);
	if (fclose(out) == EOF) {
		free(names);
		return -1;
	}
	rc = setenv("LISTEN_FDNAMES", names, 1);
	free(names);
	snprintf(number, sizeof(number), "%zu", fds->n);
	if (rc == -1 || setenv("LISTEN_FDS", number, 1) == -1)
		return -1;
	snprintf(number, sizeof(number), "%d", (int)getpid());
	return setenv("LISTEN_PID", number, 1);
}

/*
 * First out of the way of the target numbers, then down to them: no descriptor is
 * overwritten before it was copied. dup2 leaves the copy open across exec.
 */
int
fds_pass(const struct fds *fds)
{
	int top = CONTRACT_FDS_START + (int)fds->n, *high;

	high = xcalloc(fds->n, sizeof(*high));
	for (size_t i = 0; i < fds->n; i++)
		if ((high[i] = fcntl(fds->items[i].fd, F_DUPFD_CLOEXEC, top)) == -1)
			goto fail;
	for (size_t i = 0; i < fds->n; i++)
		if (dup2(high[i], CONTRACT_FDS_START + (int)i) == -1)
			goto fail;
	/* Before Linux 5.11 there is no such call; ours are close-on-exec anyway. */
	(void)close_range((unsigned)top, ~0u, CLOSE_RANGE_CLOEXEC);
	free(high);
	return env_describe(fds);
fail:
	free(high);
	return -1;
}
