/* The scoreboard: shared between two mappings, and safe from those that share it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scoreboard.h"

static void
test_rows_are_cache_lines(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct scoreboard_row), 64);
}

static void
test_both_see_the_same(void **state)
{
	struct scoreboard master, worker;

	(void)state;
	assert_int_equal(scoreboard_create(&master, 100), 0);
	assert_int_equal(scoreboard_attach(&worker, dup(master.fd)), 0);
	assert_int_equal(worker.nrows, 100);
	assert_int_equal(atomic_load(&worker.rows[99].heartbeat), 0);
	atomic_store(&worker.rows[99].heartbeat, 42);
	assert_int_equal(atomic_load(&master.rows[99].heartbeat), 42);
	assert_int_equal(scoreboard_used(&worker), 0);
	scoreboard_use(&master, 98);
	scoreboard_use(&master, 3);
	assert_int_equal(scoreboard_used(&worker), 99);
	scoreboard_use(&worker, 1000); /* one that is broken must not lead others astray */
	assert_int_equal(scoreboard_used(&master), 100);
	scoreboard_close(&worker);
	scoreboard_close(&master);
	assert_null(master.rows);
}

/* A worker must not be able to make the master's reads fail. */
static void
test_cannot_be_cut_short(void **state)
{
	struct scoreboard sb;

	(void)state;
	assert_int_equal(scoreboard_create(&sb, 4), 0);
	assert_int_equal(ftruncate(sb.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	scoreboard_close(&sb);
}

static void
test_attach_refuses_what_is_too_small(void **state)
{
	struct scoreboard sb;
	int fd = memfd_create("empty", 0);

	(void)state;
	assert_int_equal(scoreboard_attach(&sb, fd), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(scoreboard_attach(&sb, -1), -1);
	assert_int_equal(errno, EBADF);
}

static void
test_clock_runs(void **state)
{
	uint64_t before = scoreboard_now();

	(void)state;
	usleep(1000);
	assert_true(scoreboard_now() >= before + 1000000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows_are_cache_lines),
	    cmocka_unit_test(test_both_see_the_same),
	    cmocka_unit_test(test_cannot_be_cut_short),
	    cmocka_unit_test(test_attach_refuses_what_is_too_small),
	    cmocka_unit_test(test_clock_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
