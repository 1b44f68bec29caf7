/*
 * The access log: see access_log.h.
 *
 * One write(2) for all lines of a pass of the loop costs a busy worker much less
 * than one a line. Several workers append to one file: the kernel keeps each write
 * to a regular file whole; to a pipe only up to PIPE_BUF, so there it is cut between lines.
 */
#include "worker/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/access_format.h"
#include "worker/green/green.h"

#define BUFFER_SIZE 65536
#define LINE_SIZE   16384

/* How long a reader of the log that takes nothing may hold up the worker. */
#define STALL_MS 1000

struct access_log {
	struct access_format *format; /* owned */
	char *path;                   /* owned; NULL: standard output */
	int fd;                       /* owned when there is a path */
	size_t write_max;             /* largest write that stays in one piece */
	bool failing;                 /* the last write failed: said once */
	size_t len;
	char buf[BUFFER_SIZE];
};

static int
file_open(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
}

static size_t
write_limit(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? BUFFER_SIZE : PIPE_BUF;
}

struct access_log *
access_log_open(const char *path, struct access_format *format)
{
	struct access_log *log = calloc(1, sizeof(*log));
	int saved;

	if (log == NULL)
		return NULL;
	log->fd = STDOUT_FILENO;
	if (strcmp(path, "-") != 0) {
		log->path = strdup(path);
		log->fd = log->path == NULL ? -1 : file_open(path);
	}
	if (log->fd == -1) {
		saved = errno;
		free(log->path);
		free(log);
		errno = saved;
		return NULL;
	}
	log->format = format;
	log->write_max = write_limit(log->fd);
	return log;
}

void
access_log_close(struct access_log *log)
{
	if (log == NULL)
		return;
	access_log_flush(log);
	if (log->path != NULL)
		close(log->fd);
	access_format_free(log->format);
	free(log->path);
	free(log);
}

char *const *
access_log_names(const struct access_log *log, size_t *n)
{
	*n = 0;
	return log == NULL ? NULL : access_format_names(log->format, n);
}

void
access_log_add(struct access_log *log, const struct app_exchange *exchange)
{
	if (log == NULL)
		return;
	if (BUFFER_SIZE - log->len < LINE_SIZE)
		access_log_flush(log);
	log->len +=
	    access_format_print(log->format, exchange, green_now(), log->buf + log->len, LINE_SIZE);
}

/* How much of p[0..n) goes into the next write: whole lines, if one fits. */
static size_t
write_size(const struct access_log *log, const char *p, size_t n)
{
	const char *eol;

	if (n <= log->write_max)
		return n;
	eol = memrchr(p, '\n', log->write_max);
	if (eol == NULL)
		eol = memchr(p, '\n', n);
	return eol == NULL ? n : (size_t)(eol - p) + 1;
}

/* Non-blocking standard output: wait, but not for ever. */
static bool
wait_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct timespec limit = {STALL_MS / 1000, STALL_MS % 1000 * 1000000L};

	return syscall(SYS_ppoll, &p, 1, &limit, NULL, 0) == 1;
}

/*
 * The system calls themselves, not libc's: those would park a green thread in the middle
 * of the buffer, and another one would write here meanwhile.
 */
static int
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		long w = syscall(SYS_write, fd, p, n);

		if (w > 0) {
			p += w;
			n -= (size_t)w;
		} else if (w == -1 && errno == EAGAIN) {
			if (!wait_writable(fd))
				return -1;
		} else if (w == -1 && errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

void
access_log_flush(struct access_log *log)
{
	const char *p, *end;
	int rc = 0;

	if (log == NULL || log->len == 0)
		return;
	for (p = log->buf, end = p + log->len; p < end && rc == 0;) {
		size_t n = write_size(log, p, (size_t)(end - p));

		rc = write_all(log->fd, p, n);
		p += n;
	}
	log->len = 0;
	if (rc == -1 && !log->failing)
		log_warn("access log: lines are lost");
	log->failing = rc == -1;
}

int
access_log_reopen(struct access_log *log)
{
	int fd;

	if (log == NULL || log->path == NULL)
		return 0;
	access_log_flush(log);
	fd = file_open(log->path);
	if (fd == -1)
		return -1;
	close(log->fd);
	log->fd = fd;
	log->write_max = write_limit(fd);
	return 0;
}
