/* Lines of the error log from signal handlers: see siglog.h. */
#include "common/siglog.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECS_PER_DAY 86400

static const char digits[] = "0123456789abcdef";

/* Of local time, when we were started: a line says which one it is in. */
static long gmtoff;

void
siglog_prepare(void)
{
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm) != NULL)
		gmtoff = tm.tm_gmtoff;
}

static void
add_char(struct siglog *l, char c)
{
	if (l->n < sizeof(l->text) - 1) /* the line's end has its place */
		l->text[l->n++] = c;
}

void
siglog_add_n(struct siglog *l, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c != 0x7f) {
			add_char(l, s[i]);
			continue;
		}
		add_char(l, '\\');
		add_char(l, 'x');
		add_char(l, digits[c >> 4]);
		add_char(l, digits[c & 15]);
	}
}

void
siglog_add(struct siglog *l, const char *s)
{
	for (; *s != '\0'; s++)
		add_char(l, *s);
}

static void
add_number(struct siglog *l, uint64_t number, unsigned base, int width)
{
	char text[20];
	int n = 0;

	do
		text[n++] = digits[number % base];
	while ((number /= base) > 0);
	while (n < width)
		text[n++] = '0';
	while (n > 0)
		add_char(l, text[--n]);
}

void
siglog_add_number(struct siglog *l, uint64_t number)
{
	add_number(l, number, 10, 1);
}

void
siglog_add_hex(struct siglog *l, uint64_t number)
{
	siglog_add(l, "0x");
	add_number(l, number, 16, 1);
}

/*
 * The Gregorian date of a day since 1970, by arithmetic: years of 146097 / 400 days that begin in
 * March, so that a leap day is a year's last; months of 153 / 5 days.
 */
static void
add_date(struct siglog *l, int64_t day)
{
	int64_t z = day + 719468, era = z / 146097, of_era = z % 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153; /* from March */
	bool next = month >= 10;

	add_number(l, (uint64_t)(year + era * 400 + next), 10, 4);
	add_char(l, '-');
	add_number(l, (uint64_t)(next ? month - 9 : month + 3), 10, 2);
	add_char(l, '-');
	add_number(l, (uint64_t)(of_year - (153 * month + 2) / 5 + 1), 10, 2);
}

static void
add_time(struct siglog *l)
{
	struct timespec now = {0, 0};
	uint64_t offset = (uint64_t)(gmtoff < 0 ? -gmtoff : gmtoff), secs;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += gmtoff;
	secs = (uint64_t)(now.tv_sec % SECS_PER_DAY);
	add_date(l, now.tv_sec / SECS_PER_DAY);
	add_char(l, ' ');
	add_number(l, secs / 3600, 10, 2);
	add_char(l, ':');
	add_number(l, secs / 60 % 60, 10, 2);
	add_char(l, ':');
	add_number(l, secs % 60, 10, 2);
	siglog_add(l, gmtoff < 0 ? " -" : " +");
	add_number(l, offset / 3600, 10, 2);
	add_number(l, offset / 60 % 60, 10, 2);
}

void
siglog_begin(struct siglog *l, enum log_level level)
{
	l->n = 0;
	add_char(l, '[');
	add_time(l);
	siglog_add(l, "] [");
	siglog_add_number(l, (uint64_t)getpid());
	siglog_add(l, "] [");
	siglog_add(l, log_level_name(level));
	siglog_add(l, "] ");
}

/* By syscall(2): in a worker write(2) parks a green thread, which is nothing for a handler. */
void
siglog_end(struct siglog *l)
{
	int saved_errno = errno;

	l->text[l->n++] = '\n';
	while (syscall(SYS_write, log_out_fd(), l->text, l->n) == -1 && errno == EINTR)
		;
	errno = saved_errno;
}
