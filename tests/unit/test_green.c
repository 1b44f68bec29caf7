/* The green-thread runtime by itself: spawn, park, wake, time, descriptors, identity. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "tests/unit/green_tasks.h"

/* ---- the cases ---- */

static void
count_up(void *arg)
{
	int *n = arg;

	for (int i = 0; i < 10; i++) {
		++*n;
		green_yield();
	}
}

static void
test_spawn_and_yield(void **state)
{
	struct task t[20];
	int n[20] = {0};

	(void)state;
	for (int i = 0; i < 20; i++)
		task_start(&t[i], count_up, &n[i]);
	run_all();
	for (int i = 0; i < 20; i++)
		assert_int_equal(n[i], 10);
}

static char order[16];

static void
say(const char *name)
{
	strcat(order, name);
}

/* Its turn was too long: the rest waits for who can run. */
static void
too_long(void *arg)
{
	say(arg);
	green_turn_defer(green_turn());
	green_yield();
	say(arg);
	green_yield();
	say(arg);
}

static void
three_turns(void *arg)
{
	for (int i = 0; i < 3; i++) {
		say(arg);
		green_yield();
	}
}

static void
sleep_a_little(void *arg)
{
	(void)arg;
	green_sleep_until(green_now() + 50 * MS);
}

static void
test_a_turn_that_was_too_long_is_followed_by_others(void **state)
{
	struct task t[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		task_start(&t[i], sleep_a_little, NULL); /* there have to be three threads */
	run_all();
	order[0] = '\0';
	task_start(&t[0], too_long, (void *)"A");
	task_start(&t[1], three_turns, (void *)"b");
	task_start(&t[2], three_turns, (void *)"c");
	run_all();
	/* A at the end of the first pass, and of the second, in which the others come to their end
	 */
	assert_string_equal(order, "AbcAbcbcA");
}

static void
sleep_100ms(void *arg)
{
	int64_t *took = arg, start = green_now();

	green_sleep_until(green_deadline(100 * MS));
	*took = green_now() - start;
}

static void
test_sleeps_overlap_and_are_never_early(void **state)
{
	struct task t[200];
	int64_t took[200], start = green_now();

	(void)state;
	for (int i = 0; i < 200; i++)
		task_start(&t[i], sleep_100ms, &took[i]);
	run_all();
	for (int i = 0; i < 200; i++)
		assert_true(took[i] >= 100 * MS);
	assert_true(green_now() - start < 5000 * MS); /* one by one: 20 s */
}

struct mailbox {
	struct green *green;
	volatile int full;
	int seen;
	int rc;
};

static void
wait_for_mail(void *arg)
{
	struct mailbox *m = arg;

	m->green = green_self();
	while (!m->full)
		m->rc = green_park(GREEN_NEVER);
	m->seen = m->full;
}

static void
post_mail(void *arg)
{
	struct mailbox *m = arg;

	m->full = 1;
	green_wake(m->green);
}

static void
test_park_and_wake(void **state)
{
	struct task a, b;
	struct mailbox m = {0};

	(void)state;
	task_start(&a, wait_for_mail, &m);
	task_start(&b, post_mail, &m);
	run_all();
	assert_int_equal(m.seen, 1);
	assert_int_equal(m.rc, 0);
}

static void *
post_from_thread(void *arg)
{
	usleep(20000);
	post_mail(arg);
	return NULL;
}

static void
start_poster(void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, post_from_thread, arg), 0);
	pthread_detach(thread);
}

static void
test_wake_from_another_thread(void **state)
{
	struct task a[50], b[50];
	struct mailbox m[50] = {0};

	(void)state;
	for (int i = 0; i < 50; i++) {
		task_start(&a[i], wait_for_mail, &m[i]);
		task_start(&b[i], start_poster, &m[i]);
	}
	run_all();
	for (int i = 0; i < 50; i++)
		assert_int_equal(m[i].seen, 1);
}

static void
wake_before_park(void *arg)
{
	int *rc = arg;

	green_wake(green_self());
	*rc = green_park(green_deadline(10000 * MS));
}

static void
test_early_wake_is_not_lost(void **state)
{
	struct task t;
	int rc = -2;
	int64_t start = green_now();

	(void)state;
	task_start(&t, wake_before_park, &rc);
	run_all();
	assert_int_equal(rc, 0);
	assert_true(green_now() - start < 5000 * MS);
}

static void
park_30ms(void *arg)
{
	int *err = arg;

	errno = 0;
	*err = green_park(green_deadline(30 * MS)) == -1 ? errno : 0;
}

static void
test_park_deadline(void **state)
{
	struct task t;
	int err = 0;

	(void)state;
	task_start(&t, park_30ms, &err);
	run_all();
	assert_int_equal(err, ETIMEDOUT);
}

/* ---- identity ---- */

static __thread int tls_value = 7;
static pthread_key_t key;

struct who {
	pthread_t self;
	int initial, after, err;
	void *specific;
	char *local, *stack;
	size_t stack_size;
};

static void
check_identity(void *arg)
{
	struct who *w = arg;
	pthread_attr_t attr;
	char here;

	w->local = &here;
	w->self = pthread_self();
	w->initial = tls_value;
	tls_value = (int)(intptr_t)w;
	assert_int_equal(pthread_setspecific(key, w), 0);
	errno = (int)((intptr_t)w & 0xffff);
	for (int i = 0; i < 5; i++)
		green_yield();
	w->err = errno;
	green_sleep_until(green_deadline(100 * MS)); /* so that all are alive at once */
	w->after = tls_value;
	w->specific = pthread_getspecific(key);
	tls_value = 7;
	assert_int_equal(pthread_getattr_np(pthread_self(), &attr), 0);
	pthread_attr_getstack(&attr, (void **)&w->stack, &w->stack_size);
	pthread_attr_destroy(&attr);
}

static void
test_each_has_its_own_identity(void **state)
{
	struct task t[30];
	struct who w[30];

	(void)state;
	assert_int_equal(pthread_key_create(&key, NULL), 0);
	for (int i = 0; i < 30; i++)
		task_start(&t[i], check_identity, &w[i]);
	run_all();
	for (int i = 0; i < 30; i++) {
		assert_int_equal(w[i].initial, 7);
		assert_int_equal(w[i].after, (int)(intptr_t)&w[i]);
		assert_int_equal(w[i].err, (int)((intptr_t)&w[i] & 0xffff));
		assert_ptr_equal(w[i].specific, &w[i]);
		assert_true(w[i].local > w[i].stack && w[i].local < w[i].stack + w[i].stack_size);
		for (int j = 0; j < i; j++)
			assert_false(pthread_equal(w[i].self, w[j].self));
	}
	assert_true(pthread_equal(pthread_self(), pthread_self()));
	pthread_key_delete(key);
}

static int exits;

static void
count_exit(void *arg)
{
	(void)arg;
	exits++;
	assert_non_null(green_self());
}

static void
nothing(void *arg)
{
	(void)arg;
}

static void
test_pool_reuses_and_ends_threads(void **state)
{
	struct green_config config = {.stack_size = 256 * 1024, .at_exit = count_exit};
	struct green_stats stats;
	struct task t;

	(void)state;
	teardown(NULL);
	base = green_event_base_new();
	assert_int_equal(green_init(base, &config), 0);
	exits = 0;
	for (int i = 0; i < 100; i++) {
		task_start(&t, nothing, NULL);
		run_all();
	}
	green_get_stats(&stats);
	assert_int_equal(stats.threads, 1);
	assert_int_equal(stats.queued, 0);
	green_fini();
	assert_int_equal(exits, 1);
	green_init(base, NULL);
}

static void
test_pool_shrinks(void **state)
{
	struct task t[100];
	int64_t took[100], until = green_deadline(15000 * MS);
	struct green_stats stats;

	(void)state;
	for (int i = 0; i < 100; i++)
		task_start(&t[i], sleep_100ms, &took[i]);
	run_all();
	green_get_stats(&stats);
	assert_true(stats.threads >= 50);
	while (stats.threads > 10 && green_now() < until) {
		task_start(&t[0], sleep_100ms, &took[0]);
		run_all();
		green_get_stats(&stats);
	}
	assert_true(stats.threads <= 10);
}

/* ---- signals that cannot be blocked ---- */

static int
deep_value(int depth)
{
	volatile char frame[300];

	memset((char *)frame, depth, sizeof(frame));
	if (depth > 0)
		return deep_value(depth - 1) + frame[depth] - depth;
	green_sleep_until(green_deadline(50 * MS));
	return frame[0];
}

static void
sleep_deep_inside(void *arg)
{
	int *sum = arg;

	for (int i = 0; i < 4; i++)
		*sum += deep_value(i * 30);
}

static void
set_group_often(void *arg)
{
	int *failures = arg;

	for (int i = 0; i < 20; i++) {
		*failures += setgid(getgid()) != 0;
		green_sleep_until(green_deadline(10 * MS));
	}
}

/* setgid(2) in a process of threads runs a handler on each, also where a green thread lives. */
static void
test_what_must_run_on_all_threads_leaves_green_ones_alone(void **state)
{
	struct task t[41];
	int sum[40] = {0}, failures = 0;

	(void)state;
	for (int i = 0; i < 40; i++)
		task_start(&t[i], sleep_deep_inside, &sum[i]);
	task_start(&t[40], set_group_often, &failures);
	run_all();
	assert_int_equal(failures, 0);
	for (int i = 0; i < 40; i++)
		assert_int_equal(sum[i], 0);
}

/* ---- many, beyond a limit on tasks ---- */

/* In a child, as a user for whom RLIMIT_NPROC counts, and who has no other process. */
static int
run_60_with_20_tasks(void)
{
	struct rlimit low = {20, 20};
	struct green_stats stats;
	struct task t[60];
	int64_t took[60];

	if (geteuid() == 0 && (setgid(64991) == -1 || setuid(64991) == -1))
		return 2;
	if (setrlimit(RLIMIT_NPROC, &low) == -1 || setup(NULL) != 0)
		return 3;
	for (int i = 0; i < 60; i++)
		task_start(&t[i], sleep_100ms, &took[i]);
	run_all();
	for (int i = 0; i < 60; i++)
		if (took[i] < 100 * MS)
			return 4;
	green_get_stats(&stats);
	return stats.threads < 20 && stats.queued == 0 ? 0 : 5;
}

static void
test_jobs_queue_when_no_thread_can_be_made(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip(); /* the user's other processes would count, too */
	pid = fork();
	if (pid == 0)
		_exit(run_60_with_20_tasks());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- descriptors ---- */

struct pipe_end {
	int fd;
	int rc, err;
	char byte;
};

static void
read_when_ready(void *arg)
{
	struct pipe_end *p = arg;

	errno = 0;
	p->rc = green_fd_wait(p->fd, GREEN_READ, green_deadline(5000 * MS));
	p->err = errno;
	if (p->rc == 0)
		assert_int_equal(read(p->fd, &p->byte, 1), 1);
}

static void
write_later(void *arg)
{
	int *fd = arg;

	green_sleep_until(green_deadline(20 * MS));
	assert_int_equal(write(*fd, "x", 1), 1);
}

static void
test_fd_wait(void **state)
{
	struct task a, b;
	struct pipe_end p;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	for (int round = 0; round < 3; round++) {
		p = (struct pipe_end){.fd = fds[0]};
		task_start(&a, read_when_ready, &p);
		task_start(&b, write_later, &fds[1]);
		run_all();
		assert_int_equal(p.rc, 0);
		assert_int_equal(p.byte, 'x');
	}
	green_fd_close(fds[0]);
	green_fd_close(fds[1]);
}

static void
wait_20ms(void *arg)
{
	struct pipe_end *p = arg;

	errno = 0;
	p->rc = green_fd_wait(p->fd, GREEN_READ, green_deadline(20 * MS));
	p->err = errno;
}

static void
test_fd_wait_times_out(void **state)
{
	struct task a;
	struct pipe_end p;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	p = (struct pipe_end){.fd = fds[0]};
	task_start(&a, wait_20ms, &p);
	run_all();
	assert_int_equal(p.rc, -1);
	assert_int_equal(p.err, ETIMEDOUT);
	green_fd_close(fds[0]);
	green_fd_close(fds[1]);
}

static void
close_later(void *arg)
{
	int *fd = arg;

	green_sleep_until(green_deadline(20 * MS));
	green_fd_close(*fd);
}

static void
test_close_ends_a_wait(void **state)
{
	struct task a, b;
	struct pipe_end p;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	p = (struct pipe_end){.fd = fds[0]};
	task_start(&a, read_when_ready, &p);
	task_start(&b, close_later, &fds[0]);
	run_all();
	assert_int_equal(p.rc, -1);
	assert_int_equal(p.err, EBADF);
	green_fd_close(fds[1]);
}

static void
test_regular_file_is_always_ready(void **state)
{
	struct task a;
	struct pipe_end p = {.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)};

	(void)state;
	task_start(&a, wait_20ms, &p);
	run_all();
	assert_int_equal(p.err, EPERM);
	close(p.fd);
}

static int edges;

static void
on_edge(int fd, int events, void *arg)
{
	char c;

	(void)arg;
	if ((events & GREEN_READ) && read(fd, &c, 1) == 1)
		edges++;
}

static void
write_five(void *arg)
{
	int *fd = arg;

	for (int i = 0; i < 5; i++) {
		assert_int_equal(write(*fd, "x", 1), 1);
		green_sleep_until(green_deadline(5 * MS));
	}
}

static void
test_watch(void **state)
{
	struct task a;
	int fds[2];

	(void)state;
	edges = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(green_fd_watch(fds[0], on_edge, NULL), 0);
	task_start(&a, write_five, &fds[1]);
	run_all();
	assert_int_equal(edges, 5);
	green_fd_close(fds[0]);
	green_fd_close(fds[1]);
}

/* What epoll_ctl(2) has been asked to watch it for; 0: nothing. */
static unsigned
epoll_events(int fd)
{
	char path[64], line[128];
	unsigned events = 0, found;
	int number;
	FILE *f;

	for (int set = 0; set < 64; set++) {
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", set);
		f = fopen(path, "r");
		while (f != NULL && fgets(line, sizeof(line), f) != NULL)
			if (sscanf(line, "tfd: %d events: %x", &number, &found) == 2 &&
			    number == fd)
				events = found;
		if (f != NULL)
			fclose(f);
	}
	return events;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	int *times = arg;
	char byte;

	assert_int_equal(what, EV_READ);
	assert_int_equal(read(fd, &byte, 1), 1);
	++*times;
	green_loop_stop();
}

/* libevent goes on as if its own registration were still there. */
static void
test_queue_up(void **state)
{
	int fds[2], times = 0;
	struct event *event;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	event = event_new(base, fds[0], EV_READ | EV_PERSIST, on_readable, &times);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(event_add(event, NULL), 0);
		assert_int_equal(epoll_events(fds[0]) & EPOLLEXCLUSIVE, 0);
		assert_int_equal(green_fd_queue_up(fds[0]), 0);
		assert_int_equal(
		    epoll_events(fds[0]) & (EPOLLEXCLUSIVE | EPOLLIN), EPOLLEXCLUSIVE | EPOLLIN);
		assert_int_equal(write(fds[1], "ab", 2), 2);
		run_all();
		assert_int_equal(green_fd_queue_up(fds[0]), 0); /* what waits is seen again */
		run_all();
		assert_int_equal(times, 2 * (i + 1));
		assert_int_equal(event_del(event), 0);
		assert_int_equal(epoll_events(fds[0]), 0);
	}
	event_free(event);
	close(fds[0]);
	close(fds[1]);
}

/* ---- offload ---- */

struct errand {
	pthread_t on;
	int err;
};

static void
run_errand(void *arg)
{
	struct errand *e = arg;

	e->on = pthread_self();
	usleep(50000);
	errno = ENOENT;
}

static void
send_on_errand(void *arg)
{
	struct errand *e = arg;

	assert_int_equal(green_offload(run_errand, e), 0);
	e->err = errno;
	assert_false(pthread_equal(e->on, pthread_self()));
}

static void
test_offload(void **state)
{
	struct task t[20];
	struct errand e[20];
	int64_t start = green_now();

	(void)state;
	for (int i = 0; i < 20; i++)
		task_start(&t[i], send_on_errand, &e[i]);
	run_all();
	for (int i = 0; i < 20; i++)
		assert_int_equal(e[i].err, ENOENT);
	assert_true(green_now() - start < 800 * MS); /* one by one: 1 s */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    CASE(test_spawn_and_yield),
	    CASE(test_a_turn_that_was_too_long_is_followed_by_others),
	    CASE(test_sleeps_overlap_and_are_never_early),
	    CASE(test_park_and_wake),
	    CASE(test_wake_from_another_thread),
	    CASE(test_early_wake_is_not_lost),
	    CASE(test_park_deadline),
	    CASE(test_each_has_its_own_identity),
	    CASE(test_pool_reuses_and_ends_threads),
	    CASE(test_pool_shrinks),
	    CASE(test_what_must_run_on_all_threads_leaves_green_ones_alone),
	    cmocka_unit_test(test_jobs_queue_when_no_thread_can_be_made),
	    CASE(test_fd_wait),
	    CASE(test_fd_wait_times_out),
	    CASE(test_close_ends_a_wait),
	    CASE(test_regular_file_is_always_ready),
	    CASE(test_watch),
	    CASE(test_queue_up),
	    CASE(test_offload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
