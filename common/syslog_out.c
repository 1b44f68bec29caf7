/* Lines for syslog: see syslog_out.h. */
#include "common/syslog_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/outlet.h"
#include "common/settings.h"

#define SYSLOG_PORT 514
#define PREFIX_MAX  256
#define TELL_SECS   60
#define MESSAGE_MAX 32768 /* less than what a datagram can take anywhere */

static struct {
	struct outlet *outlet; /* owned; NULL: there is no syslog */
	char prefix[PREFIX_MAX];
	int facility;
	time_t told; /* when it was last said that some are lost; 0: never */
} out;

/* gunicorn's; RFC 5424 section 6.2.1 has their numbers. */
static const struct {
	const char *name;
	int number;
} facilities[] = {
    {"auth", LOG_AUTH},
    {"authpriv", LOG_AUTHPRIV},
    {"cron", LOG_CRON},
    {"daemon", LOG_DAEMON},
    {"ftp", LOG_FTP},
    {"kern", LOG_KERN},
    {"lpr", LOG_LPR},
    {"mail", LOG_MAIL},
    {"news", LOG_NEWS},
    {"security", LOG_AUTH},
    {"syslog", LOG_SYSLOG},
    {"user", LOG_USER},
    {"uucp", LOG_UUCP},
    {"local0", LOG_LOCAL0},
    {"local1", LOG_LOCAL1},
    {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3},
    {"local4", LOG_LOCAL4},
    {"local5", LOG_LOCAL5},
    {"local6", LOG_LOCAL6},
    {"local7", LOG_LOCAL7},
};

static const int priorities[] = {
    [LOG_LEVEL_DEBUG] = LOG_DEBUG,
    [LOG_LEVEL_INFO] = LOG_INFO,
    [LOG_LEVEL_WARNING] = LOG_WARNING,
    [LOG_LEVEL_ERROR] = LOG_ERR,
    [LOG_LEVEL_CRITICAL] = LOG_CRIT,
};

int
syslog_out_facility(const char *name)
{
	for (size_t i = 0; i < sizeof(facilities) / sizeof(facilities[0]); i++)
		if (strcasecmp(name, facilities[i].name) == 0)
			return facilities[i].number;
	return -1;
}

/* Seldom: this is a line as well, and lost perhaps. */
static void
loss_tell(void)
{
	struct timespec now = {0, 0};

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (out.told != 0 && now.tv_sec < out.told + TELL_SECS)
		return;
	out.told = now.tv_sec;
	log_warnx("syslog: lines are lost");
}

static void
message_send(int priority, const char *which, const char *text, size_t n)
{
	char message[MESSAGE_MAX];
	int head = snprintf(message, sizeof(message), "<%d>gunicorn.%s.%s: [%d] ",
	    out.facility | priority, out.prefix, which, (int)getpid());

	if (n > sizeof(message) - (size_t)head)
		n = sizeof(message) - (size_t)head;
	memcpy(message + head, text, n);
	if (!outlet_send(out.outlet, message, (size_t)head + n))
		loss_tell();
}

/* A text of several lines, a traceback, is one message if that can be told; else one a line. */
static void
text_send(int priority, const char *which, const char *text, size_t n)
{
	bool bounds = outlet_keeps_bounds(out.outlet);
	const char *end = text + n, *eol;

	while (end > text && end[-1] == '\n')
		end--;
	for (; text < end; text = eol + 1) {
		eol = bounds ? NULL : memchr(text, '\n', (size_t)(end - text));
		if (eol == NULL)
			eol = end;
		message_send(priority, which, text, (size_t)(eol - text));
	}
}

void
syslog_out_error(int level, const char *text, size_t n)
{
	if (out.outlet != NULL)
		text_send(priorities[level], "error", text, n);
}

/* logging's INFO, as gunicorn's access lines have it. */
void
syslog_out_access(const char *line, size_t n)
{
	if (out.outlet != NULL)
		text_send(LOG_INFO, "access", line, n);
}

bool
syslog_out_access_wanted(const struct settings *s)
{
	return s->syslog && !s->disable_redirect_access_to_syslog;
}

/* gunicorn.PREFIX: the name of the server's processes, without what would end it. */
static void
prefix_set(const struct settings *s)
{
	const char *name = s->syslog_prefix;

	if (name == NULL)
		name = s->proc_name != NULL ? s->proc_name : s->wsgi_app;
	snprintf(out.prefix, sizeof(out.prefix), "%s", name != NULL ? name : "");
	for (char *p = out.prefix; s->syslog_prefix == NULL && *p != '\0'; p++)
		if (*p == ':')
			*p = '.';
}

void
syslog_out_apply(const struct settings *s)
{
	char why[256];

	log_also(NULL);
	outlet_close(out.outlet);
	out.outlet = NULL;
	if (!s->syslog)
		return;
	prefix_set(s);
	out.facility = syslog_out_facility(s->syslog_facility);
	out.told = 0;
	out.outlet = outlet_open(s->syslog_addr, SYSLOG_PORT, why, sizeof(why));
	if (out.outlet != NULL)
		log_also(syslog_out_error);
	else
		log_warnx("%s: syslog_addr: %s: %s", settings_origin(s, "syslog_addr"),
		    s->syslog_addr, why);
}

void
syslog_out_after_fork(void)
{
	if (out.outlet != NULL)
		outlet_after_fork(out.outlet);
}

int
syslog_out_fd(void)
{
	return out.outlet != NULL ? outlet_fd(out.outlet) : -1;
}
