/*
 * A line of the error log from a signal handler: log.h's verbs use snprintf and localtime, which
 * may not be called there. What a line is made of is added piece by piece; it leaves in one write.
 */
#ifndef COMMON_SIGLOG_H
#define COMMON_SIGLOG_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "common/log.h"

struct siglog {
	char text[PIPE_BUF];
	size_t n;
};

/* Outside of handlers, once: what the time of day is where we are. */
void siglog_prepare(void);

/* From here on async-signal-safe. What does not fit is left out. */
void siglog_begin(struct siglog *, enum log_level);
void siglog_add(struct siglog *, const char *);
/* n bytes that a client may have sent: control characters become \xNN. */
void siglog_add_n(struct siglog *, const char *, size_t n);
void siglog_add_number(struct siglog *, uint64_t);
void siglog_add_hex(struct siglog *, uint64_t);
void siglog_end(struct siglog *);

#endif
