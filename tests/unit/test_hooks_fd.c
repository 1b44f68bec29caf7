/* Waiting for descriptors where the kernel is subtle: what gives no event, closes, changes. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
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

/* ---- what is remembered of a descriptor is forgotten when it changes ---- */

static void
expect_wait(int fd, int peer)
{
	struct later l;
	char c;

	later(&l, write_one, peer);
	assert_int_equal(read(fd, &c, 1), 1);
}

static void
expect_eagain(int fd)
{
	char c;

	errno = 0;
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static void
flags_change(void *arg)
{
	struct timeval tv = {0, 20000};
	int64_t start;
	int fds[2], copy, on = 1, off = 0;

	(void)arg;
	pair(SOCK_STREAM, fds);
	copy = dup(fds[0]);
	expect_wait(fds[0], fds[1]);
	assert_int_equal(fcntl(copy, F_SETFL, O_RDWR | O_NONBLOCK), 0); /* flags are shared */
	expect_eagain(fds[0]);
	assert_int_equal(ioctl(fds[0], FIONBIO, &off), 0);
	expect_wait(copy, fds[1]);
	assert_int_equal(ioctl(copy, FIONBIO, &on), 0);
	expect_eagain(fds[0]);
	assert_int_equal(syscall(SYS_fcntl, copy, F_SETFL, O_RDWR), 0);
	expect_wait(fds[0], fds[1]);
	assert_int_equal(setsockopt(copy, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	start = green_now();
	expect_eagain(fds[0]);
	assert_true(green_now() - start >= 20 * MS);
	close(copy);
	close_pair(fds);
}

static void
test_flags_that_change(void **state)
{
	(void)state;
	run_beside_beat(flags_change, NULL);
}

/* One number after another: a file, a pipe, a socket that does not block, a terminal's like. */
static void
number_is_taken_again(void *arg)
{
	FILE *fp;
	int fds[2], number, fd;
	char c;

	(void)arg;
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	number = fd;
	assert_int_equal(read(fd, &c, 1), 1);
	close(fd);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fds[0], number);
	expect_wait(fds[0], fds[1]);
	assert_int_equal(syscall(SYS_close, fds[1]), 0);
	assert_int_equal(syscall(SYS_close, fds[0]), 0);
	pair(SOCK_STREAM | SOCK_NONBLOCK, fds);
	assert_int_equal(fds[0], number);
	expect_eagain(fds[0]);
	close_pair(fds);
	pair(SOCK_STREAM, fds);
	expect_wait(fds[0], fds[1]);
	fd = dup(fds[0]);
	assert_int_equal(dup2(-1, fds[0]), -1); /* closes nothing */
	expect_wait(fds[0], fds[1]);
	close(fd);
	close_pair(fds);
	/* and by a stream that is reopened */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	expect_wait(fds[0], fds[1]);
	fp = fdopen(fds[0], "r");
	assert_non_null(fp);
	assert_ptr_equal(freopen("/dev/null", "r", fp), fp);
	assert_int_equal(read(fileno(fp), &c, 1), 0);
	fclose(fp);
	close(fds[1]);
}

static void
test_numbers_taken_again(void **state)
{
	(void)state;
	run_beside_beat(number_is_taken_again, NULL);
}

/* A unix socket whose queue is full tells nobody when it no longer is. */
static void
take_datagrams(int fd)
{
	char c;

	while (recv(fd, &c, 1, MSG_DONTWAIT) == 1)
		;
}

static void
send_to_full_queue(void *arg)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(addr.sun_family) + 8;
	struct timeval tv = {0, 20000};
	struct later l;

	(void)arg;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%cgr%05u", 0, (unsigned)getpid() % 100000);
	assert_int_equal(bind(to, (struct sockaddr *)&addr, len), 0);
	while (sendto(from, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&addr, len) == 1)
		;
	assert_int_equal(errno, EAGAIN);
	later(&l, take_datagrams, to);
	assert_int_equal(sendto(from, "x", 1, 0, (struct sockaddr *)&addr, len), 1);
	while (sendto(from, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&addr, len) == 1)
		;
	assert_int_equal(setsockopt(from, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(sendto(from, "x", 1, 0, (struct sockaddr *)&addr, len), -1);
	assert_int_equal(errno, EAGAIN);
	close(to);
	close(from);
}

static void
test_datagrams_to_a_full_queue(void **state)
{
	(void)state;
	run_beside_beat(send_to_full_queue, NULL);
}

static void
accept_errors(void *arg)
{
	int fds[2], udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)arg;
	pair(SOCK_STREAM, fds);
	assert_int_equal(accept(fds[0], NULL, NULL), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(accept(udp, NULL, NULL), -1);
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(accept(-1, NULL, NULL), -1);
	assert_int_equal(errno, EBADF);
	close(udp);
	close_pair(fds);
	after_50ms();
}

static void
test_accept_errors(void **state)
{
	(void)state;
	run_beside_beat(accept_errors, NULL);
}

/* ---- a wait makes no system call but its own ---- */

#define DENY(name)                                             \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/* From here on the process dies of asking for flags, kinds and time limits, and of registering. */
static int
deny_questions(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    DENY(fcntl),
	    DENY(fstat),
	    DENY(newfstatat),
	    DENY(getsockopt),
	    DENY(epoll_ctl),
	    DENY(ioctl),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

struct ball {
	struct task task;
	int in, out;
	bool serves;
};

static _Atomic int refused;

static void
play(struct ball *b, int times)
{
	char c = 'x';

	for (int i = 0; i < times; i++) {
		if (b->serves || i > 0)
			assert_int_equal(write(b->out, &c, 1), 1);
		assert_int_equal(read(b->in, &c, 1), 1);
	}
	if (!b->serves)
		assert_int_equal(write(b->out, &c, 1), 1);
}

static void
player(void *arg)
{
	struct ball *b = arg;

	play(b, 3); /* registers what it waits for */
	if (b->serves && deny_questions() == -1)
		refused = 1;
	play(b, 100);
}

static void
only_its_own_calls(void)
{
	struct ball balls[2] = {{.serves = true}, {.serves = false}};
	int sock[2], pipes[2];

	assert_int_equal(setup(NULL), 0);
	pair(SOCK_STREAM, sock);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	balls[0].out = sock[0];
	balls[1].in = sock[1];
	balls[1].out = pipes[1];
	balls[0].in = pipes[0];
	task_start(&balls[0].task, player, &balls[0]);
	task_start(&balls[1].task, player, &balls[1]);
	run_all();
	_exit(refused ? 77 : 0);
}

static void
test_waits_make_only_their_own_calls(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		only_its_own_calls();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
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
	    CASE(test_flags_that_change),
	    CASE(test_numbers_taken_again),
	    CASE(test_datagrams_to_a_full_queue),
	    CASE(test_accept_errors),
	    cmocka_unit_test(test_waits_make_only_their_own_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
