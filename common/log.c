/* The error log: see log.h. One writer, log_vline, makes and writes every line. */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How long a reader of the log that takes nothing may hold up a process; then lines are lost. */
#define LOG_STALL_SECS 1

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "DEBUG",
    [LOG_LEVEL_INFO] = "INFO",
    [LOG_LEVEL_WARNING] = "WARNING",
    [LOG_LEVEL_ERROR] = "ERROR",
    [LOG_LEVEL_CRITICAL] = "CRITICAL",
};

static struct {
	char *path; /* owned; NULL: standard error */
	int fd;     /* owned when there is a path */
	int out;    /* where lines go: fd, or owned: see out_open */
	bool is_socket;
	enum log_level level;
	bool terminal; /* short lines with colours */
	bool journal;  /* lines begin with <N>, a priority of syslog(3): sd-daemon(3) */
	unsigned lost; /* lines, since the last one that could be written */
	void (*also)(int, const char *, size_t);
	bool (*take)(int, const char *, size_t);
	void (*give_back)(void);
	struct log_counts counts; /* of any OS thread: a lost one does no harm */
} the_log = {.fd = STDERR_FILENO, .out = STDERR_FILENO, .level = LOG_LEVEL_INFO};

static const char *const journal_priorities[] = {
    [LOG_LEVEL_DEBUG] = "<7>",
    [LOG_LEVEL_INFO] = "<6>",
    [LOG_LEVEL_WARNING] = "<4>",
    [LOG_LEVEL_ERROR] = "<3>",
    [LOG_LEVEL_CRITICAL] = "<2>",
};

/* systemd.exec(5), $JOURNAL_STREAM: the file that standard error was when systemd connected it. */
static bool
is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return text != NULL && sscanf(text, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* Somebody watches: not where colours are unwanted (no-color.org) or cannot be. */
static bool
is_terminal(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDERR_FILENO) && (no_color == NULL || *no_color == '\0') && term != NULL &&
	       strcmp(term, "dumb") != 0;
}

/*
 * A pipe or terminal once more, so that it does not block us when nobody reads: O_NONBLOCK on the
 * descriptor itself would be for all who share it. Where that is not allowed we ask poll(2) first,
 * and may block if another process fills a pipe at that moment.
 */
static void
out_open(void)
{
	char path[32];
	struct stat st;
	int fd;

	if (the_log.out != the_log.fd)
		close(the_log.out);
	the_log.out = the_log.fd;
	the_log.is_socket = false;
	if (fstat(the_log.fd, &st) == -1)
		return;
	the_log.is_socket = S_ISSOCK(st.st_mode);
	if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", the_log.fd);
	fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd != -1)
		the_log.out = fd;
}

static int
log_file_open(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
}

int
log_open(const char *path, enum log_level level)
{
	char *copy = NULL;
	int fd = STDERR_FILENO;

	if (path != NULL && strcmp(path, "-") != 0) {
		if ((copy = strdup(path)) == NULL)
			return -1;
		if ((fd = log_file_open(path)) == -1) {
			free(copy);
			return -1;
		}
	}
	if (the_log.out != the_log.fd)
		close(the_log.out);
	if (the_log.path != NULL)
		close(the_log.fd);
	free(the_log.path);
	the_log.path = copy;
	the_log.fd = the_log.out = fd;
	the_log.level = level;
	the_log.journal = copy == NULL && is_journal();
	the_log.terminal = copy == NULL && is_terminal();
	out_open();
	return 0;
}

void
log_also(void (*fn)(int, const char *, size_t))
{
	the_log.also = fn;
}

void
log_divert(bool (*take)(int, const char *, size_t), void (*give_back)(void))
{
	the_log.take = take;
	the_log.give_back = give_back;
}

void
log_divert_end(void)
{
	void (*give_back)(void) = the_log.give_back;

	the_log.take = NULL;
	the_log.give_back = NULL;
	if (give_back != NULL)
		give_back();
}

struct log_counts
log_counts(void)
{
	return the_log.counts;
}

/* The descriptor keeps its number: others (faulthandler) have been told it. */
int
log_reopen(void)
{
	int fd, rc;

	if (the_log.path == NULL)
		return 0;
	if ((fd = log_file_open(the_log.path)) == -1)
		return -1;
	rc = dup3(fd, the_log.fd, O_CLOEXEC) == -1 ? -1 : 0;
	close(fd);
	out_open();
	return rc;
}

void
log_stderr_replaced(void)
{
	if (the_log.path != NULL)
		return;
	the_log.terminal = is_terminal();
	out_open();
}

bool
log_is_terminal(void)
{
	return the_log.terminal;
}

int
log_fd(void)
{
	return the_log.fd;
}

int
log_out_fd(void)
{
	return the_log.out;
}

int
log_level_parse(const char *name)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
		if (strcasecmp(name, level_names[i]) == 0)
			return (int)i;
	return -1;
}

const char *
log_level_name(enum log_level level)
{
	return level_names[level];
}

bool
log_enabled(enum log_level level)
{
	return level >= the_log.level;
}

void
log_level_set(enum log_level level)
{
	the_log.level = level;
}

/* Wait for a slow reader for a while; one that was given up before has to be ready at once. */
static bool
out_ready(void)
{
	struct pollfd pfd = {.fd = the_log.out, .events = POLLOUT};
	struct timespec limit = {the_log.lost > 0 ? 0 : LOG_STALL_SECS, 0};

	return syscall(SYS_ppoll, &pfd, 1, &limit, NULL, 0) != 0;
}

/*
 * All of it, or false. The system calls themselves, not libc's: in a worker those would let
 * other green threads run in the middle of a line.
 */
static bool
out_write(const char *p, size_t n)
{
	long w;

	while (n > 0) {
		if (!out_ready())
			return false;
		if (the_log.is_socket)
			w = syscall(
			    SYS_sendto, the_log.out, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		else
			w = syscall(SYS_write, the_log.out, p, n);
		if (w > 0) {
			p += w;
			n -= (size_t)w;
		} else if (w == -1 && errno != EINTR && errno != EAGAIN) {
			return false;
		}
	}
	return true;
}

/* A full disk, a reader that has stopped: what cannot be written is counted, and nobody waits. */
static void
log_write(const char *p, size_t n)
{
	unsigned lost = the_log.lost;

	if (!out_write(p, n)) {
		the_log.lost++;
		return;
	}
	the_log.lost = 0;
	if (lost > 0)
		log_warnx("%u lines of the log could not be written before this one", lost);
}

void
log_raw(const char *text, size_t n)
{
	int saved_errno = errno;

	log_write(text, n);
	errno = saved_errno;
}

static size_t
log_prefix(char *buf, size_t size, enum log_level level)
{
	static const char *const colours[] = {
	    [LOG_LEVEL_DEBUG] = "2",
	    [LOG_LEVEL_INFO] = "32",
	    [LOG_LEVEL_WARNING] = "33",
	    [LOG_LEVEL_ERROR] = "31",
	    [LOG_LEVEL_CRITICAL] = "1;31",
	};
	time_t now = time(NULL);
	struct tm tm;
	char stamp[40];

	localtime_r(&now, &tm);
	if (the_log.terminal) {
		strftime(stamp, sizeof(stamp), "%H:%M:%S", &tm);
		return (size_t)snprintf(buf, size, "\x1b[2m[%s] [%d]\x1b[0m [\x1b[%sm%s\x1b[0m] ",
		    stamp, (int)getpid(), colours[level], level_names[level]);
	}
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S %z", &tm);
	return (size_t)snprintf(buf, size, "%s[%s] [%d] [%s] ",
	    the_log.journal ? journal_priorities[level] : "", stamp, (int)getpid(),
	    level_names[level]);
}

/*
 * Copy text as one line: a control character, which a client may have sent,
 * becomes \xNN, so that nobody can forge a line. Returns the end of the copy.
 */
static char *
log_sanitise(char *dst, const char *end, const char *text)
{
	static const char hex[] = "0123456789abcdef";

	for (; *text != '\0' && dst + 4 <= end; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			*dst++ = '\\';
			*dst++ = 'x';
			*dst++ = hex[c >> 4];
			*dst++ = hex[c & 15];
		} else {
			*dst++ = *text;
		}
	}
	return dst;
}

static bool
is_taken(enum log_level level, const char *text, size_t n)
{
	return the_log.take != NULL && the_log.take(level, text, n);
}

void
log_vline(enum log_level level, bool with_errno, const char *format, va_list ap)
{
	int saved_errno = errno;
	char line[PIPE_BUF], text[PIPE_BUF], *p, *message;
	const char *end = line + sizeof(line) - 1;

	the_log.counts.lines[level]++;
	if (!log_enabled(level))
		return;
	p = message = line + log_prefix(line, sizeof(line), level);
	vsnprintf(text, sizeof(text), format, ap);
	p = log_sanitise(p, end, text);
	if (with_errno) {
		p = log_sanitise(p, end, ": ");
		p = log_sanitise(p, end, strerror(saved_errno));
	}
	if (!is_taken(level, message, (size_t)(p - message))) {
		*p++ = '\n';
		log_write(line, (size_t)(p - line));
		if (the_log.also != NULL)
			the_log.also(level, message, (size_t)(p - message) - 1);
	}
	errno = saved_errno;
}

/* The end of a copy with prefix in front of each line. */
static char *
lines_copy(char *dst, const char *prefix, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || text[i - 1] == '\n')
			dst = stpcpy(dst, prefix);
		*dst++ = text[i];
	}
	return dst;
}

/* Tell whoever wants to know of a line with a text below it; whether it has been taken. */
static bool
text_tell(enum log_level level, const char *line, size_t line_n, const char *text, size_t n)
{
	char *all;
	bool taken;

	if (the_log.take == NULL && the_log.also == NULL)
		return false;
	if ((all = malloc(line_n + n)) == NULL)
		return false;
	memcpy(all, line, line_n);
	memcpy(all + line_n, text, n);
	taken = is_taken(level, all, line_n + n);
	if (!taken && the_log.also != NULL)
		the_log.also(level, all, line_n + n);
	free(all);
	return taken;
}

/* The journal makes an entry of each line: a traceback's have the priority of the first. */
void
log_text(enum log_level level, const char *line, const char *text, size_t n)
{
	const char *priority = the_log.journal ? journal_priorities[level] : "";
	int saved_errno = errno;
	char head[PIPE_BUF], *p, *all, *message;
	size_t head_n;

	the_log.counts.texts++;
	if (!log_enabled(level))
		return;
	p = message = head + log_prefix(head, sizeof(head), level);
	p = log_sanitise(p, head + sizeof(head) - 1, line);
	*p++ = '\n';
	head_n = (size_t)(p - head);
	if (text_tell(level, message, (size_t)(p - message), text, n)) {
		errno = saved_errno;
		return;
	}
	if ((all = malloc(head_n + n * (1 + strlen(priority)))) != NULL) {
		memcpy(all, head, head_n);
		p = lines_copy(all + head_n, priority, text, n);
		log_write(all, (size_t)(p - all));
		free(all);
	} else {
		log_write(head, head_n);
		log_write(text, n);
	}
	errno = saved_errno;
}

LOG_PRINTF(2, 3)
static void
log_at(enum log_level level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vline(level, false, format, ap);
	va_end(ap);
}

void
log_line(enum log_level level, const char *text, size_t n)
{
	const char *eol = memchr(text, '\n', n);
	size_t first = eol != NULL ? (size_t)(eol - text) : n;
	char line[PIPE_BUF];

	snprintf(line, sizeof(line), "%.*s", (int)first, text);
	if (eol == NULL)
		log_at(level, "%s", line);
	else
		log_text(level, line, eol + 1, n - first - 1);
}

void
log_formatted(enum log_level level, const char *text, size_t n)
{
	int saved_errno = errno;
	char *all = the_log.journal ? malloc(n * 4) : NULL; /* "<3>" before each line, at most */

	if (all != NULL)
		log_write(all, (size_t)(lines_copy(all, journal_priorities[level], text, n) - all));
	else
		log_write(text, n);
	free(all);
	errno = saved_errno;
}

#define LOG_VERB(name, level, with_errno)                 \
	void name(const char *format, ...)                \
	{                                                 \
		va_list ap;                               \
                                                          \
		va_start(ap, format);                     \
		log_vline(level, with_errno, format, ap); \
		va_end(ap);                               \
	}

LOG_VERB(log_debug, LOG_LEVEL_DEBUG, false)
LOG_VERB(log_info, LOG_LEVEL_INFO, false)
LOG_VERB(log_warn, LOG_LEVEL_WARNING, true)
LOG_VERB(log_warnx, LOG_LEVEL_WARNING, false)
LOG_VERB(log_error, LOG_LEVEL_ERROR, true)
LOG_VERB(log_errorx, LOG_LEVEL_ERROR, false)
LOG_VERB(log_criticalx, LOG_LEVEL_CRITICAL, false)

void
fatal(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vline(LOG_LEVEL_CRITICAL, true, format, ap);
	va_end(ap);
	exit(1);
}

void
fatalx(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vline(LOG_LEVEL_CRITICAL, false, format, ap);
	va_end(ap);
	exit(1);
}
