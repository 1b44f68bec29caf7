/*
 * The error log: four verbs, one writer. A line is gunicorn's:
 *
 *	[2026-08-18 12:00:00 +0000] [4711] [INFO] Booting worker with pid: 4711
 *
 * on a terminal without the date, and in colours.
 *
 * log_warn and log_fatal come in two forms as in err(3): with strerror(errno),
 * or with an x without it. errno is kept. Lines up to PIPE_BUF leave in one
 * write(2), so those of several processes do not mix. A full disk or a reader that has
 * stopped costs lines, counted in the first that can be written again, and one second
 * at most.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_CRITICAL
};

#define LOG_PRINTF(f, a) __attribute__((__format__(__printf__, f, a)))

/*
 * Log to the file at path (copied), or to standard error when path is NULL or
 * "-". Before log_open, lines go to standard error. 0, or -1 with errno and
 * the log as it was.
 */
int log_open(const char *path, enum log_level);

/*
 * Have fn told as well what is written, but for log_raw's: text is what follows a line's prefix,
 * several lines perhaps. It may log itself, if it does not do so each time. NULL: nobody.
 */
void log_also(void (*fn)(int level, const char *text, size_t n));

/*
 * Have take decide about each line instead: what it takes, true, goes nowhere else; text is as for
 * log_also. Before the end give_back gets what it has not dealt with logged after all, by log_line.
 */
void log_divert(bool (*take)(int level, const char *text, size_t n), void (*give_back)(void));
void log_divert_end(void);

/* How many lines there have been at a level, and how many with a text below them. */
struct log_counts {
	unsigned long lines[LOG_LEVEL_CRITICAL + 1], texts;
};
struct log_counts log_counts(void);

/* Open the same path again (SIGUSR1). 0, or -1 with errno and the old file kept. */
int log_reopen(void);

/* Standard error is another file now. */
void log_stderr_replaced(void);

/* Whether lines go to a terminal, and so are short and coloured. */
bool log_is_terminal(void);

/* The log's descriptor: for faulthandler, and for a child to inherit. */
int log_fd(void);

/* Where lines are written: the same, or ours alone, which does not block. */
int log_out_fd(void);

/* "debug", "INFO", …; -1 when there is no such level. */
int log_level_parse(const char *);
const char *log_level_name(enum log_level);
bool log_enabled(enum log_level);
void log_level_set(enum log_level);

void log_debug(const char *, ...) LOG_PRINTF(1, 2);
void log_info(const char *, ...) LOG_PRINTF(1, 2);
void log_warn(const char *, ...) LOG_PRINTF(1, 2); /* with errno */
void log_warnx(const char *, ...) LOG_PRINTF(1, 2);
void log_error(const char *, ...) LOG_PRINTF(1, 2); /* with errno */
void log_errorx(const char *, ...) LOG_PRINTF(1, 2);
void log_criticalx(const char *, ...) LOG_PRINTF(1, 2);

/* One line at a level, from a va_list; with_errno adds ": strerror(errno)". */
void log_vline(enum log_level, bool with_errno, const char *, va_list) LOG_PRINTF(3, 0);

/* A line at a level and below it, in the same write, n bytes of text as they are: a traceback. */
void log_text(enum log_level, const char *line, const char *text, size_t n);

/* A line that has been through log_divert. */
void log_line(enum log_level, const char *text, size_t n);

/* Lines that somebody else has made, prefix and "\n" and all. */
void log_formatted(enum log_level, const char *text, size_t n);

/* Text as it is, of any length (a traceback, wsgi.errors): no prefix, no level. */
void log_raw(const char *, size_t);

/* End the process with status 1 after a line at CRITICAL: boot and broken invariants only. */
_Noreturn void fatal(const char *, ...) LOG_PRINTF(1, 2); /* with errno */
_Noreturn void fatalx(const char *, ...) LOG_PRINTF(1, 2);

#endif
