/*
 * The error log and the access log by syslog as well, as gunicorn's (syslog, syslog_addr, …):
 *
 *	<11>gunicorn.PREFIX.error: [4711] Error handling request GET /
 *
 * One for the process, like the log. What cannot be sent at once is lost.
 */
#ifndef COMMON_SYSLOG_OUT_H
#define COMMON_SYSLOG_OUT_H

#include <stdbool.h>
#include <stddef.h>

struct settings;

/*
 * As the settings have it, instead of what was: what goes to the error log goes there, too, from
 * here on, or no longer. An address that cannot be found is a line in the log, and then there is
 * none.
 */
void syslog_out_apply(const struct settings *);

/* Whether a line of the access log is to go there as well. */
bool syslog_out_access_wanted(const struct settings *);

/* One, without its "\n". */
void syslog_out_access(const char *line, size_t n);

/* One of the error log, as log_also has them. */
void syslog_out_error(int level, const char *text, size_t n);

/* In a worker that the mold has forked. */
void syslog_out_after_fork(void);

/* What a child that the application forks needs as well; -1. */
int syslog_out_fd(void);

/* The facility's number; -1 when there is none of that name. */
int syslog_out_facility(const char *name);

#endif
