/* For tests of the green threads: tasks on green threads, and a loop until all have ended. */
#ifndef TESTS_GREEN_TASKS_H
#define TESTS_GREEN_TASKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>

#include "worker/green/green.h"

#define MS 1000000LL

static struct event_base *base;
static int pending; /* jobs of a test that have not ended */

static int
setup(void **state)
{
	struct green_config config = {.stack_size = 512 * 1024, .max_idle = 4};

	(void)state;
	base = green_event_base_new();
	assert_non_null(base);
	assert_int_equal(green_init(base, &config), 0);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	green_fini();
	event_base_free(base);
	return 0;
}

/* A failed assertion on a green thread cannot longjmp to cmocka's frame: let it abort. */
__attribute__((constructor)) static void
abort_on_failure(void)
{
	setenv("CMOCKA_TEST_ABORT", "1", 1);
}

/* A job whose end is counted: the loop stops after the last. */
struct task {
	struct green_job job;
	void (*fn)(void *);
	void *arg;
};

static void
task_main(void *arg)
{
	struct task *t = arg;

	t->fn(t->arg);
	if (--pending == 0)
		green_loop_stop();
}

static void
task_start(struct task *t, void (*fn)(void *), void *arg)
{
	*t = (struct task){.job = {.fn = task_main, .arg = t}, .fn = fn, .arg = arg};
	pending++;
	green_run(&t->job);
}

static void
on_too_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	green_loop_stop();
}

/* Run the loop until all tasks have ended; a hang is a failure after 20 s. */
static void
run_all(void)
{
	struct timeval limit = {20, 0};
	struct event *ev = evtimer_new(base, on_too_late, NULL);

	evtimer_add(ev, &limit);
	assert_int_equal(green_loop(), 0);
	event_free(ev);
	assert_int_equal(pending, 0);
}

#endif
