/* Lines of the error log from signal handlers: the same as the others'. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/siglog.h"

static char path[] = "/tmp/test_siglog.XXXXXX";
static time_t now;

/* Instead of libc's. */
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	*ts = (struct timespec){.tv_sec = now};
	return 0;
}

static int
setup(void **state)
{
	(void)state;
	return mkstemp(path) != -1 ? log_open(path, LOG_LEVEL_INFO) : -1;
}

static int
teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static const char *
written(void)
{
	static char text[2 * PIPE_BUF];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	assert_int_equal(truncate(path, 0), 0);
	return text;
}

/* Each day of 500 years at another time of day. */
static void
test_dates(void **state)
{
	char expected[64];
	struct siglog l;
	struct tm tm;

	(void)state;
	for (now = 0; now < 500LL * 366 * 86400; now += 86400 + 61) {
		siglog_begin(&l, LOG_LEVEL_CRITICAL);
		gmtime_r(&now, &tm);
		strftime(expected, sizeof(expected), "[%Y-%m-%d %H:%M:%S +0000] ", &tm);
		assert_memory_equal(l.text, expected, strlen(expected));
	}
}

static void
test_time_zones(void **state)
{
	static const char *const zones[][2] = {
	    {"UTC0", "[2026-02-28 23:59:59 +0000] "},
	    {"AAA-5:45", "[2026-03-01 05:44:59 +0545] "},
	    {"BBB3:30", "[2026-02-28 20:29:59 -0330] "},
	};
	struct siglog l;

	(void)state;
	now = 1772323199;
	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		setenv("TZ", zones[i][0], 1);
		tzset();
		siglog_prepare();
		siglog_begin(&l, LOG_LEVEL_INFO);
		assert_memory_equal(l.text, zones[i][1], strlen(zones[i][1]));
	}
	setenv("TZ", "UTC0", 1);
	tzset();
	siglog_prepare();
}

static void
test_a_line(void **state)
{
	char expected[256];
	struct siglog l;

	(void)state;
	now = 0;
	siglog_begin(&l, LOG_LEVEL_CRITICAL);
	siglog_add(&l, "a ");
	siglog_add_n(&l, "GET /\n\x7f\xc3\xa4 more", 9);
	siglog_add(&l, " ");
	siglog_add_number(&l, 0);
	siglog_add(&l, " ");
	siglog_add_number(&l, UINT64_MAX);
	siglog_add(&l, " ");
	siglog_add_hex(&l, 0xfedcba9876543210);
	siglog_end(&l);
	snprintf(expected, sizeof(expected),
	    "[1970-01-01 00:00:00 +0000] [%d] [CRITICAL] a GET /\\x0a\\x7f\xc3\xa4 0 "
	    "18446744073709551615 0xfedcba9876543210\n",
	    (int)getpid());
	assert_string_equal(written(), expected);
}

static void
test_a_long_line_is_cut(void **state)
{
	struct siglog l;
	const char *text;

	(void)state;
	siglog_begin(&l, LOG_LEVEL_CRITICAL);
	for (int i = 0; i < PIPE_BUF; i++)
		siglog_add_n(&l, "\n", 1);
	siglog_end(&l);
	text = written();
	assert_int_equal(strlen(text), PIPE_BUF);
	assert_int_equal(text[PIPE_BUF - 1], '\n');
	assert_null(memchr(text, '\n', PIPE_BUF - 1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_dates),
	    cmocka_unit_test(test_time_zones),
	    cmocka_unit_test(test_a_line),
	    cmocka_unit_test(test_a_long_line_is_cut),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
