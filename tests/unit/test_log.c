/* The error log: what a line looks like, levels, forged lines, reopening. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"

static char dir[] = "/tmp/test_log.XXXXXX";
static char path[64], moved[64];
static char text[3 * PIPE_BUF];

static int
setup(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(moved, sizeof(moved), "%s/log.1", dir);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(path);
	unlink(moved);
	return rmdir(dir);
}

static const char *
contents(const char *name)
{
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void
begin(enum log_level level)
{
	unlink(path);
	assert_int_equal(log_open(path, level), 0);
}

static void
assert_matches(const char *string, const char *pattern)
{
	regex_t re;

	assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&re, string, 0, NULL, 0) != 0)
		fail_msg("\"%s\" is not like \"%s\"", string, pattern);
	regfree(&re);
}

/* Standard error is the journal when it is the file that JOURNAL_STREAM names. */
static void
test_the_journal(void **state)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), saved = dup(STDERR_FILENO);
	char stream[64];
	struct stat st;

	(void)state;
	assert_int_equal(fstat(fd, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
	    (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	dup2(fd, STDERR_FILENO);
	assert_int_equal(log_open("-", LOG_LEVEL_INFO), 0);
	log_info("one");
	log_criticalx("two");
	log_text(LOG_LEVEL_ERROR, "three", "a\n\n b\n", 6);
	dup2(saved, STDERR_FILENO);
	assert_int_equal(log_open(NULL, LOG_LEVEL_INFO), 0);
	close(saved);
	close(fd);
	unsetenv("JOURNAL_STREAM");
	assert_matches(contents(path), "^<6>\\[.*\\] one\n<2>\\[.*\\] two\n"
				       "<3>\\[.*\\] three\n<3>a\n<3>\n<3> b\n$");
}

static void
test_a_line(void **state)
{
	(void)state;
	begin(LOG_LEVEL_INFO);
	log_info("Booting worker with pid: %d", 5);
	assert_matches(contents(path),
	    "^\\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} [+-][0-9]{4}\\] \\[[0-9]+\\] \\[INFO\\] "
	    "Booting worker with pid: 5\n$");
}

static void
test_verbs_and_levels(void **state)
{
	(void)state;
	begin(LOG_LEVEL_WARNING);
	log_debug("one");
	log_info("two");
	log_warnx("three");
	errno = ENOENT;
	log_error("four");
	assert_int_equal(errno, ENOENT);
	log_criticalx("five");
	assert_null(strstr(contents(path), "one"));
	assert_null(strstr(text, "two"));
	assert_non_null(strstr(text, "[WARNING] three\n"));
	assert_non_null(strstr(text, "[ERROR] four: No such file or directory\n"));
	assert_non_null(strstr(text, "[CRITICAL] five\n"));
	assert_true(log_enabled(LOG_LEVEL_ERROR));
	assert_false(log_enabled(LOG_LEVEL_INFO));
	assert_int_equal(log_level_parse("Debug"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("loud"), -1);
}

/* A client's bytes can neither end a line nor move a terminal's cursor. */
static void
test_nothing_is_forged(void **state)
{
	(void)state;
	begin(LOG_LEVEL_INFO);
	log_info("%s", "x\n[2026] [1] [INFO] y\r\x1b[2J\x7f\ttab \xc3\xa9");
	assert_non_null(
	    strstr(contents(path), "x\\x0a[2026] [1] [INFO] y\\x0d\\x1b[2J\\x7f\ttab \xc3\xa9\n"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void
test_long_lines_are_cut_and_raw_text_is_not(void **state)
{
	static char big[2 * PIPE_BUF];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	begin(LOG_LEVEL_INFO);
	log_info("%s", big);
	assert_int_equal(strlen(contents(path)), PIPE_BUF - 4 + 1);
	assert_int_equal(text[strlen(text) - 1], '\n');
	begin(LOG_LEVEL_INFO);
	log_raw(big, strlen(big));
	assert_int_equal(strlen(contents(path)), strlen(big));
}

static void
test_reopen(void **state)
{
	int fd;

	(void)state;
	begin(LOG_LEVEL_INFO);
	fd = log_fd();
	log_info("before");
	assert_int_equal(rename(path, moved), 0);
	log_info("between");
	assert_int_equal(log_reopen(), 0);
	log_info("after");
	assert_int_equal(log_fd(), fd); /* others were told the number */
	assert_non_null(strstr(contents(moved), "between"));
	assert_non_null(strstr(contents(path), "after"));
	assert_null(strstr(text, "between"));
}

static void
test_failure_keeps_the_log(void **state)
{
	(void)state;
	begin(LOG_LEVEL_INFO);
	assert_int_equal(log_open("/no/such/dir/log", LOG_LEVEL_DEBUG), -1);
	assert_int_equal(errno, ENOENT);
	log_debug("hidden");
	log_info("still here");
	assert_non_null(strstr(contents(path), "still here"));
	assert_null(strstr(text, "hidden"));
}

static void
test_fatal_ends_with_1(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	begin(LOG_LEVEL_INFO);
	fflush(NULL);
	if ((pid = fork()) == 0)
		fatalx("no more");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_non_null(strstr(contents(path), "[CRITICAL] no more\n"));
}

/* A reader that takes nothing does not hold up the process for ever. */
static void
test_full_pipe(void **state)
{
	char name[32];
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	while (write(fds[1], text, sizeof(text)) > 0)
		;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[1]);
	assert_int_equal(log_open(name, LOG_LEVEL_INFO), 0);
	assert_int_equal(fcntl(log_fd(), F_SETFL, O_NONBLOCK), 0);
	log_info("lost");
	close(fds[0]);
	close(fds[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_line),
	    cmocka_unit_test(test_the_journal),
	    cmocka_unit_test(test_verbs_and_levels),
	    cmocka_unit_test(test_nothing_is_forged),
	    cmocka_unit_test(test_long_lines_are_cut_and_raw_text_is_not),
	    cmocka_unit_test(test_reopen),
	    cmocka_unit_test(test_failure_keeps_the_log),
	    cmocka_unit_test(test_fatal_ends_with_1),
	    cmocka_unit_test(test_full_pipe),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
