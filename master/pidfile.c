/* The pid file: see pidfile.h. */
#include "master/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"

/* The number in the file; 0 when there is no file, or something else in it. */
static pid_t
pidfile_read(const char *path)
{
	char text[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n;
	long pid;

	if (fd == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

pid_t
pidfile_holder(const char *path)
{
	pid_t pid = pidfile_read(path);

	if (pid == 0 || pid == getpid() || (kill(pid, 0) == -1 && errno == ESRCH))
		return 0;
	return pid;
}

static int
pid_write(int fd)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (write(fd, text, (size_t)n) != n)
		return -1;
	return fchmod(fd, 0644);
}

/* Through a temporary file beside it: nobody reads half a number. */
int
pidfile_write(struct pidfile *p, const char *path)
{
	char *temporary = xasprintf("%s.XXXXXX", path);
	int fd = mkostemp(temporary, O_CLOEXEC), saved_errno;

	if (fd == -1 || pid_write(fd) == -1 || rename(temporary, path) == -1) {
		saved_errno = errno;
		if (fd != -1) {
			unlink(temporary);
			close(fd);
		}
		free(temporary);
		errno = saved_errno;
		return -1;
	}
	free(temporary);
	*p = (struct pidfile){.path = xstrdup(path), .fd = fd};
	return 0;
}

static void
pidfile_forget(struct pidfile *p)
{
	if (p->path == NULL)
		return;
	close(p->fd);
	free(p->path);
	*p = (struct pidfile){.fd = -1};
}

/*
 * Having given up root, we may not be allowed to remove a file from a directory
 * of root's, such as /run: an empty one says as much.
 */
void
pidfile_remove(struct pidfile *p)
{
	if (p->path == NULL)
		return;
	if (pidfile_read(p->path) == getpid() && unlink(p->path) == -1)
		(void)!ftruncate(p->fd, 0);
	pidfile_forget(p);
}

/* The new one first: where there was a file there always is one. */
int
pidfile_inherit(struct pidfile *p, const char *path, pid_t dead)
{
	struct pidfile old = *p;
	bool same = path != NULL && old.path != NULL && strcmp(path, old.path) == 0;
	pid_t holder;

	if (same && pidfile_read(path) == getpid())
		return 0;
	if (path == NULL) {
		pidfile_remove(p);
		return 0;
	}
	holder = pidfile_holder(path);
	if (holder != 0 && holder != dead) {
		errno = EEXIST;
		return -1;
	}
	if (pidfile_write(p, path) == -1)
		return -1;
	if (same)
		pidfile_forget(&old);
	else
		pidfile_remove(&old);
	return 0;
}

int
pidfile_move(struct pidfile *p, const char *path)
{
	return pidfile_inherit(p, path, 0);
}
