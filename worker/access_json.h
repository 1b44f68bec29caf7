/*
 * A line of the access log as one JSON object (access_log_format = "json"). The names are those of
 * OpenTelemetry's semantic conventions; what these do not have begins with "greenicorn.". It is
 * JSON whatever the client sends: control characters are escaped, what is not UTF-8 becomes U+FFFD,
 * and a text that is too long is cut.
 */
#ifndef WORKER_ACCESS_JSON_H
#define WORKER_ACCESS_JSON_H

#include "worker/access_print.h"

/* Room that is always enough. */
#define ACCESS_JSON_MAX 32768

void access_json_print(struct access_out *, const struct access_entry *);

#endif
