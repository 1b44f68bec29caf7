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
#include "worker/access_json.h"
#include "worker/green/green.h"

#define BUFFER_SIZE 98304
#define LINE_SIZE   ACCESS_JSON_MAX

/* How long a reader of the log that takes nothing may hold up the worker. */
#define STALL_SECS 1

struct access_log {
	struct access_format *format; /* owned */
	char *path;                   /* owned; NULL: standard output, or nowhere */
	int fd;                       /* owned when there is a path; -1: nowhere */
	void (*also)(const char *, size_t);
	bool diverted; /* also is told, and nothing written */
	bool regular;  /* a plain file: it takes everything, in one piece */
	bool failing;  /* the last write failed: said once */
	size_t len;
	char buf[BUFFER_SIZE];
};

/* Non-blocking: a fifo without a reader is an error, not a wait. Not for forked children. */
static int
file_open(const char *path)
{
	int fd =
	    open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);

	if (fd != -1 && green_fd_own(fd) == -1) {
		close(fd);
		errno = ENOMEM;
		fd = -1;
	}
	return fd;
}

static void
log_use(struct access_log *log, int fd)
{
	struct stat st;

	log->fd = fd;
	log->regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

struct access_log *
access_log_open(const char *path, struct access_format *format, void (*also)(const char *, size_t))
{
	struct access_log *log = calloc(1, sizeof(*log));
	int saved, fd = path != NULL ? STDOUT_FILENO : -1;

	if (log == NULL)
		return NULL;
	if (path != NULL && strcmp(path, "-") != 0) {
		log->path = strdup(path);
		fd = log->path == NULL ? -1 : file_open(path);
	}
	if (fd == -1 && path != NULL) {
		saved = errno;
		free(log->path);
		free(log);
		errno = saved;
		return NULL;
	}
	log->format = format;
	log->also = also;
	log_use(log, fd);
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

unsigned
access_log_wants(const struct access_log *log)
{
	return log == NULL ? 0 : access_format_wants(log->format);
}

void
access_log_add(struct access_log *log, const struct app_exchange *exchange)
{
	char *line;
	size_t n;

	if (log == NULL)
		return;
	if (BUFFER_SIZE - log->len < LINE_SIZE)
		access_log_flush(log);
	line = log->buf + log->len;
	n = access_format_print(log->format, exchange, green_now(), line, LINE_SIZE);
	if (log->also != NULL)
		log->also(line, n - 1);
	if (log->fd != -1 && !log->diverted)
		log->len += n;
}

void
access_log_write(struct access_log *log, const char *line, size_t n)
{
	if (log->fd == -1)
		return;
	if (BUFFER_SIZE - log->len < n)
		access_log_flush(log);
	if (n > BUFFER_SIZE)
		n = BUFFER_SIZE;
	memcpy(log->buf + log->len, line, n);
	log->len += n;
}

int
access_log_divert(struct access_log *log, const char *format, void (*to)(const char *, size_t))
{
	char why[256];
	struct access_format *f = access_format_new(format, why, sizeof(why));

	if (f == NULL)
		return -1;
	access_format_free(log->format);
	log->format = f;
	log->also = to;
	log->diverted = true;
	return 0;
}

/* How much from buf[at] on goes into the next write: for a pipe whole lines, if one fits. */
static size_t
write_size(const struct access_log *log, size_t at)
{
	const char *p = &log->buf[at], *eol;
	size_t n = log->len - at;

	if (log->regular || n <= PIPE_BUF)
		return n;
	eol = memrchr(p, '\n', PIPE_BUF);
	if (eol == NULL)
		eol = memchr(p, '\n', n);
	return eol == NULL ? n : (size_t)(eol - p) + 1;
}

/*
 * Wait for a slow reader, but not for ever; one that was given up before has to be
 * ready at once. A pipe that is ready takes PIPE_BUF bytes.
 */
static bool
wait_writable(const struct access_log *log)
{
	struct pollfd p = {.fd = log->fd, .events = POLLOUT};
	struct timespec limit = {log->failing ? 0 : STALL_SECS, 0};

	return log->regular || syscall(SYS_ppoll, &p, 1, &limit, NULL, 0) == 1;
}

/*
 * The system calls themselves, not libc's: those would park a green thread in the middle
 * of the buffer, and another one would write here meanwhile.
 */
static int
write_all(const struct access_log *log, const char *p, size_t n)
{
	while (n > 0) {
		long w;

		if (!wait_writable(log)) {
			errno = EAGAIN;
			return -1;
		}
		w = syscall(SYS_write, log->fd, p, n);
		if (w > 0) {
			p += w;
			n -= (size_t)w;
		} else if (w == -1 && errno != EINTR && errno != EAGAIN) {
			return -1;
		}
	}
	return 0;
}

void
access_log_flush(struct access_log *log)
{
	size_t at = 0, n;
	int rc = 0;

	if (log == NULL || log->len == 0)
		return;
	for (; at < log->len && rc == 0; at += n) {
		n = write_size(log, at);
		rc = write_all(log, &log->buf[at], n);
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
	log_use(log, fd);
	return 0;
}
