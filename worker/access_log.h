/*
 * The access log: a line for each answered request, in access_log_format.
 * Lines are gathered during a pass of the loop and leave together at its end.
 */
#ifndef WORKER_ACCESS_LOG_H
#define WORKER_ACCESS_LOG_H

#include <stddef.h>

#include "worker/app/app.h"

struct access_format;
struct access_log;

/*
 * path "-" is standard output, and NULL nowhere. also is told each line, too, without its "\n";
 * NULL: nobody. format is the log's from here on. NULL with errno.
 */
struct access_log *access_log_open(
    const char *path, struct access_format *format, void (*also)(const char *line, size_t n));

/* Write what is there, and close. NULL does nothing, here and below. */
void access_log_close(struct access_log *);

/* The environ keys that the backend is to look up for each request. */
char *const *access_log_names(const struct access_log *, size_t *n);

/* What it ACCESS_WANTS_… of each request. */
unsigned access_log_wants(const struct access_log *);

/* One answered request. */
void access_log_add(struct access_log *, const struct app_exchange *);

/* Write the lines out. Never parks a green thread. */
void access_log_flush(struct access_log *);

/* A line that somebody else has made, with its "\n". */
void access_log_write(struct access_log *, const char *line, size_t n);

/*
 * From now on tell to of each request, in that format, and write only what access_log_write brings.
 * Before the first request. 0, or -1 when memory is gone or the format is broken.
 */
int access_log_divert(
    struct access_log *, const char *format, void (*to)(const char *line, size_t n));

/* SIGUSR1: open the path again. 0, or -1 with errno and the old file kept. */
int access_log_reopen(struct access_log *);

#endif
