/* Waiting for descriptors where the kernel's own rules are subtle: what gives no event, and closes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#include "tests/unit/green_beat.h"

static void
tcp_pair(int fds[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(l, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&addr, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&addr, len), 0);
	fds[1] = accept(l, NULL, NULL);
	assert_true(fds[1] >= 0);
	close(l);
}

/* poll(2) tells of a hang-up where select(2), asked for urgent data only, has nothing to tell. */
static void
select_of_a_hang_up(void *arg)
{
	struct timeval tv = {0, 60000};
	int64_t start = green_now();
	fd_set set;
	int fds[2];

	(void)arg;
	pair(SOCK_STREAM, fds);
	close(fds[1]);
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	assert_int_equal(select(fds[0] + 1, NULL, NULL, &set, &tv), 0);
	assert_true(green_now() - start >= 60 * MS);
	close(fds[0]);
}

static void
test_select_of_a_hang_up(void **state)
{
	(void)state;
	run_beside_beat(select_of_a_hang_up, NULL);
}

/* Beyond FD_SETSIZE, as the kernel allows: sets of the caller's own size. */
static void
write_one(int fd)
{
	assert_int_equal(write(fd, "x", 1), 1);
}

static void
select_of_many(void *arg)
{
	unsigned long set[4096 / (8 * sizeof(long))] = {0};
	size_t bits = 8 * sizeof(long);
	struct later l;
	int fds[2], high;

	(void)arg;
	pair(SOCK_STREAM, fds);
	high = fcntl(fds[0], F_DUPFD_CLOEXEC, 3000);
	if (high == -1) { /* the limit on descriptors is lower here */
		assert_int_equal(errno, EINVAL);
		high = fcntl(fds[0], F_DUPFD_CLOEXEC, 900);
	}
	assert_true(high >= 900);
	set[(size_t)high / bits] = 1UL << ((size_t)high % bits);
	later(&l, write_one, fds[1]);
	assert_int_equal(select(high + 1, (fd_set *)(void *)set, NULL, NULL, NULL), 1);
	assert_true(set[(size_t)high / bits] == 1UL << ((size_t)high % bits));
	close(high);
	close_pair(fds);
}

static void
test_select_of_many(void **state)
{
	struct rlimit old, more;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	more = old;
	more.rlim_cur = old.rlim_max < 4096 ? old.rlim_max : 4096;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
	run_beside_beat(select_of_many, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* A regular file can be asked for nothing but errors: it is left out, the others count. */
static void
poll_with_a_file(void *arg)
{
	struct pollfd p[2] = {{.events = 0}, {.events = POLLIN}};
	struct later l;
	int fds[2];

	(void)arg;
	pair(SOCK_STREAM, fds);
	p[0].fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	p[1].fd = fds[0];
	later(&l, write_one, fds[1]);
	assert_int_equal(poll(p, 2, 5000), 1);
	assert_int_equal(p[1].revents, POLLIN);
	p[1].fd = -1;
	assert_int_equal(poll(p, 2, 20), 0);
	close(p[0].fd);
	close_pair(fds);
}

static void
test_poll_with_a_file(void **state)
{
	(void)state;
	run_beside_beat(poll_with_a_file, NULL);
}

static void
send_urgent(int fd)
{
	assert_int_equal(send(fd, "!", 1, MSG_OOB), 1);
}

static void
poll_of_urgent_data(void *arg)
{
	struct pollfd p = {.events = POLLPRI};
	struct later l;
	int fds[2];
	char c = 0;

	(void)arg;
	tcp_pair(fds);
	p.fd = fds[0];
	later(&l, send_urgent, fds[1]);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(p.revents, POLLPRI);
	assert_int_equal(recv(fds[0], &c, 1, MSG_OOB), 1);
	assert_int_equal(c, '!');
	close_pair(fds);
}

static void
test_poll_of_urgent_data(void **state)
{
	(void)state;
	run_beside_beat(poll_of_urgent_data, NULL);
}

/* recv(2): neither waits, on a socket that blocks. */
static void
receive_what_is_never_waited_for(void *arg)
{
	struct msghdr msg = {0};
	int fds[2];
	char c;

	(void)arg;
	tcp_pair(fds);
	assert_int_equal(recvmsg(fds[0], &msg, MSG_ERRQUEUE), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(recv(fds[0], &c, 1, MSG_OOB), -1);
	assert_int_equal(errno, EINVAL);
	close_pair(fds);
	after_50ms();
}

static void
test_errors_and_urgent_data_are_not_waited_for(void **state)
{
	(void)state;
	run_beside_beat(receive_what_is_never_waited_for, NULL);
}

/* ---- closes ---- */

static _Atomic int close_this, closed_round;

static void *
closer(void *arg)
{
	int rounds = *(int *)arg;

	for (int i = 0; i < rounds; i++) {
		int fd;

		while ((fd = atomic_exchange(&close_this, -1)) == -1)
			;
		close(fd);
		atomic_fetch_add(&closed_round, 1);
	}
	return NULL;
}

/*
 * A number is registered, closed by an OS thread, taken again, registered and closed once more,
 * all in one pass of the loop, which has not yet looked at what was closed.
 */
static void
close_twice_in_a_pass(void *arg)
{
	int fds[2], rounds = 4, number = -1;
	pthread_t thread;
	struct pollfd p = {.events = POLLIN};

	(void)arg;
	atomic_store(&close_this, -1);
	atomic_store(&closed_round, 0);
	assert_int_equal(pthread_create(&thread, NULL, closer, &rounds), 0);
	for (int i = 1; i <= rounds; i++) {
		pair(SOCK_STREAM, fds);
		if (number == -1)
			number = fds[0];
		assert_int_equal(fds[0], number);
		p.fd = fds[0];
		assert_int_equal(green_fd_watch(fds[0], NULL, NULL), 0);
		if (i == 1)
			assert_int_equal(poll(&p, 1, 1), 0); /* the loop takes it in */
		else
			assert_int_equal(green_fd_wait(fds[0], GREEN_WRITE, 0), 0);
		atomic_store(&close_this, fds[0]);
		while (atomic_load(&closed_round) < i)
			; /* without parking */
		close(fds[1]);
	}
	after_50ms();
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* the number is good for another */
	pair(SOCK_STREAM, fds);
	p.fd = fds[0];
	assert_int_equal(poll(&p, 1, 20), 0);
	write_one(fds[1]);
	assert_int_equal(poll(&p, 1, 5000), 1);
	close_pair(fds);
}

static void
test_closed_twice_in_a_pass(void **state)
{
	(void)state;
	run_beside_beat(close_twice_in_a_pass, NULL);
}

/* ---- one epoll set, several who wait for it ---- */

static int ep, taken[3], ntaken;

static void
take_event(void *arg)
{
	struct epoll_event ev;
	char c;

	(void)arg;
	assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1);
	assert_int_equal(read(ev.data.fd, &c, 1), 1);
	taken[ntaken++] = ev.data.fd;
}

static void
epoll_of_three(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};
	struct task t[3];
	int fds[3][2];

	(void)arg;
	ntaken = 0;
	ep = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < 3; i++) {
		pair(SOCK_STREAM, fds[i]);
		ev.data.fd = fds[i][0];
		assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i][0], &ev), 0);
		task_start(&t[i], take_event, NULL);
	}
	after_50ms();
	write_one(fds[2][1]);
	write_one(fds[0][1]);
	while (ntaken < 2)
		after_50ms();
	assert_int_equal(ntaken, 2);
	write_one(fds[1][1]);
	while (ntaken < 3)
		after_50ms();
	assert_int_equal(taken[2], fds[1][0]);
	for (int i = 0; i < 3; i++)
		close_pair(fds[i]);
	close(ep);
}

static void
test_epoll_set_of_several(void **state)
{
	(void)state;
	run_beside_beat(epoll_of_three, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    CASE(test_select_of_a_hang_up),
	    CASE(test_select_of_many),
	    CASE(test_poll_with_a_file),
	    CASE(test_poll_of_urgent_data),
	    CASE(test_errors_and_urgent_data_are_not_waited_for),
	    CASE(test_closed_twice_in_a_pass),
	    CASE(test_epoll_set_of_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
