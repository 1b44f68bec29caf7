/* For tests of the hooks: whether the worker goes on while a call waits. */
#ifndef TESTS_GREEN_BEAT_H
#define TESTS_GREEN_BEAT_H

#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/green_tasks.h"

/*
 * The beat: a task that counts 5 ms ticks while others wait. A call that blocks the
 * OS thread stops it; every case below must let it go on.
 */
static int beats;
static bool beating;

static inline void
beat(void *arg)
{
	(void)arg;
	while (beating) {
		beats++;
		green_sleep_until(green_deadline(5 * MS));
	}
}

static struct task beat_task;

struct beside {
	void (*fn)(void *);
	void *arg;
	int beats;
};

static inline void
beside_main(void *arg)
{
	struct beside *b = arg;
	int before = beats;

	b->fn(b->arg);
	b->beats = beats - before;
	beating = false;
}

/* fn(arg) must have waited for at least 40 ms in all, while the beat went on. */
static inline void
run_beside_beat(void (*fn)(void *), void *arg)
{
	struct beside b = {fn, arg, 0};
	struct task t;

	beating = true;
	beats = 0;
	task_start(&beat_task, beat, NULL);
	task_start(&t, beside_main, &b);
	run_all();
	if (b.beats < 2) /* some ten where the machine has time for them, one if the call blocks */
		fail_msg("the worker stood still: %d beats", b.beats);
}

static inline void
after_50ms(void)
{
	green_sleep_until(green_deadline(50 * MS));
}

/* A helper task that acts after 50 ms, for the one that waits. */
struct later {
	struct task task;
	void (*fn)(int);
	int fd;
};

static inline void
later_main(void *arg)
{
	struct later *l = arg;

	after_50ms();
	l->fn(l->fd);
}

static inline void
later(struct later *l, void (*fn)(int), int fd)
{
	l->fn = fn;
	l->fd = fd;
	task_start(&l->task, later_main, l);
}

static inline void
pair(int type, int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
}

static inline void
close_pair(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

#endif
