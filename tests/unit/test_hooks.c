/* The hooks of libc's blocking calls: they overlap on green threads and mean what libc's mean. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/green_beat.h"

static void
write_ten(int fd)
{
	assert_int_equal(write(fd, "0123456789", 10), 10);
}

/* ---- receiving ---- */

static void
receive_all_forms(void *arg)
{
	struct iovec iov[2];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	struct later l;
	char buf[32];
	int fds[2];

	(void)arg;
	pair(SOCK_STREAM, fds);
	later(&l, write_ten, fds[1]);
	assert_int_equal(recv(fds[0], buf, 4, 0), 4);
	assert_int_equal(recv(fds[0], buf, sizeof(buf), MSG_PEEK), 6);
	assert_int_equal(recv(fds[0], buf, sizeof(buf), 0), 6);
	later(&l, write_ten, fds[1]);
	assert_int_equal(recvfrom(fds[0], buf, sizeof(buf), 0, NULL, NULL), 10);
	later(&l, write_ten, fds[1]);
	iov[0] = (struct iovec){buf, 3};
	iov[1] = (struct iovec){buf + 3, 20};
	assert_int_equal(recvmsg(fds[0], &msg, 0), 10);
	assert_memory_equal(buf, "0123456789", 10);
	later(&l, write_ten, fds[1]);
	assert_int_equal(read(fds[0], buf, sizeof(buf)), 10);
	later(&l, write_ten, fds[1]);
	iov[0] = (struct iovec){buf, 3};
	iov[1] = (struct iovec){buf + 3, 20};
	assert_int_equal(readv(fds[0], iov, 2), 10);
	close_pair(fds);
}

static void
test_receiving(void **state)
{
	(void)state;
	run_beside_beat(receive_all_forms, NULL);
}

static void
write_in_pieces(int fd)
{
	for (int i = 0; i < 5; i++) {
		assert_int_equal(write(fd, "ab", 2), 2);
		green_sleep_until(green_deadline(10 * MS));
	}
}

static void
receive_waitall(void *arg)
{
	struct iovec iov[3];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
	struct later l;
	char buf[10];
	int fds[2];

	(void)arg;
	pair(SOCK_STREAM, fds);
	later(&l, write_in_pieces, fds[1]);
	assert_int_equal(recv(fds[0], buf, 10, MSG_WAITALL), 10);
	assert_memory_equal(buf, "ababababab", 10);
	memset(buf, 0, sizeof(buf));
	later(&l, write_in_pieces, fds[1]);
	iov[0] = (struct iovec){buf, 1};
	iov[1] = (struct iovec){buf + 1, 4};
	iov[2] = (struct iovec){buf + 5, 5};
	assert_int_equal(recvmsg(fds[0], &msg, MSG_WAITALL), 10);
	assert_memory_equal(buf, "ababababab", 10);
	assert_int_equal(iov[1].iov_len, 4); /* the caller's are as they were */
	close_pair(fds);
}

static void
test_msg_waitall(void **state)
{
	(void)state;
	run_beside_beat(receive_waitall, NULL);
}

static void
would_block_is_told(void *arg)
{
	int fds[2];
	char c;

	(void)arg;
	pair(SOCK_STREAM, fds);
	assert_int_equal(recv(fds[0], &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(recv(fds[0], &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(read(fds[0], &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(accept(fds[0], NULL, NULL), -1);
	assert_int_equal(errno, EINVAL);
	close_pair(fds);
	after_50ms();
}

static void
test_nonblocking_is_respected(void **state)
{
	(void)state;
	run_beside_beat(would_block_is_told, NULL);
}

static void
receive_timeout(void *arg)
{
	struct timeval tv = {0, 60000};
	int64_t start = green_now();
	int fds[2];
	char c;

	(void)arg;
	pair(SOCK_STREAM, fds);
	assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(recv(fds[0], &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_true(green_now() - start >= 60 * MS);
	start = green_now();
	assert_int_equal(read(fds[0], &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_true(green_now() - start >= 60 * MS);
	close_pair(fds);
}

static void
test_so_rcvtimeo(void **state)
{
	(void)state;
	run_beside_beat(receive_timeout, NULL);
}

static void
close_fd(int fd)
{
	close(fd);
}

static void
closed_while_waiting(void *arg)
{
	struct pollfd p;
	struct later l;
	char c;
	int fds[2];

	(void)arg;
	pair(SOCK_STREAM, fds);
	later(&l, close_fd, fds[0]);
	assert_int_equal(recv(fds[0], &c, 1, 0), -1);
	assert_int_equal(errno, EBADF);
	close(fds[1]);
	pair(SOCK_STREAM, fds);
	later(&l, close_fd, fds[0]);
	p = (struct pollfd){.fd = fds[0], .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(p.revents, POLLNVAL);
	close(fds[1]);
	/* the number is taken again: the new descriptor's data is the new one's */
	pair(SOCK_STREAM, fds);
	later(&l, write_ten, fds[1]);
	assert_int_equal(recv(fds[0], &c, 1, 0), 1);
	close_pair(fds);
}

static void
test_close_while_waiting(void **state)
{
	(void)state;
	run_beside_beat(closed_while_waiting, NULL);
}

static void *
close_in_thread(void *arg)
{
	usleep(50000);
	close(*(int *)arg);
	return NULL;
}

static void
closed_by_thread(void *arg)
{
	pthread_t thread;
	int fds[2];
	char c;

	(void)arg;
	pair(SOCK_STREAM, fds);
	assert_int_equal(pthread_create(&thread, NULL, close_in_thread, &fds[0]), 0);
	assert_int_equal(recv(fds[0], &c, 1, 0), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(fds[1]);
}

static void
test_close_on_another_thread(void **state)
{
	(void)state;
	run_beside_beat(closed_by_thread, NULL);
}

static void
dup2_over(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(null >= 0);
	assert_int_equal(dup2(null, fd), fd);
	close(null);
}

static void
dup2_while_waiting(void *arg)
{
	struct later l;
	char c;
	int fds[2];

	(void)arg;
	pair(SOCK_STREAM, fds);
	later(&l, dup2_over, fds[0]);
	assert_int_equal(recv(fds[0], &c, 1, 0), -1);
	assert_int_equal(errno, EBADF);
	close_pair(fds);
}

static void
test_dup2_while_waiting(void **state)
{
	(void)state;
	run_beside_beat(dup2_while_waiting, NULL);
}

/* ---- sending ---- */

#define BIG (4 * 1024 * 1024)

struct drain {
	struct task task;
	int fd;
	size_t got;
	unsigned sum;
};

static void
drain_main(void *arg)
{
	static char buf[65536];
	struct drain *d = arg;
	ssize_t n;

	after_50ms();
	while ((n = read(d->fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			d->sum = d->sum * 31 + (unsigned char)buf[i];
		d->got += (size_t)n;
	}
	assert_int_equal(n, 0);
}

static ssize_t
by_write(int fd, const char *p, size_t n)
{
	return write(fd, p, n);
}

static ssize_t
by_send(int fd, const char *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL);
}

static ssize_t
by_writev(int fd, const char *p, size_t n)
{
	struct iovec iov[3] = {{(void *)(uintptr_t)p, 5}, {(void *)(uintptr_t)(p + 5), n / 2},
	    {(void *)(uintptr_t)(p + 5 + n / 2), n - 5 - n / 2}};

	return writev(fd, iov, 3);
}

static ssize_t
by_sendmsg(int fd, const char *p, size_t n)
{
	struct iovec iov[2] = {
	    {(void *)(uintptr_t)p, n / 3}, {(void *)(uintptr_t)(p + n / 3), n - n / 3}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static void
send_big(void *arg)
{
	static ssize_t (*const forms[])(int, const char *, size_t) = {
	    by_write, by_send, by_writev, by_sendmsg};
	char *big = malloc(BIG);
	bool pipes = *(bool *)arg;
	unsigned sum = 0;

	assert_non_null(big);
	for (size_t i = 0; i < BIG; i++) {
		big[i] = (char)(i * 7 + i / 1000);
		sum = sum * 31 + (unsigned char)big[i];
	}
	for (size_t i = 0; i < 4; i++) {
		struct drain d = {0};
		int fds[2];

		if (pipes && (forms[i] == by_send || forms[i] == by_sendmsg))
			continue;
		if (pipes)
			assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		else
			pair(SOCK_STREAM, fds);
		d.fd = fds[0];
		task_start(&d.task, drain_main, &d);
		assert_int_equal(forms[i](fds[1], big, BIG), BIG);
		close(fds[1]);
		while (d.got < BIG)
			green_yield();
		assert_int_equal(d.sum, sum);
		green_sleep_until(green_deadline(5 * MS));
		close(fds[0]);
	}
	free(big);
}

static void
test_sending_more_than_fits(void **state)
{
	bool pipes = false;

	(void)state;
	run_beside_beat(send_big, &pipes);
}

static void
test_writing_more_than_fits_in_a_pipe(void **state)
{
	bool pipes = true;

	(void)state;
	run_beside_beat(send_big, &pipes);
}

static void
send_timeout(void *arg)
{
	struct timeval tv = {0, 60000};
	char *big = calloc(1, BIG);
	int fds[2];
	ssize_t n;

	(void)arg;
	assert_non_null(big);
	pair(SOCK_STREAM, fds);
	assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	n = send(fds[1], big, BIG, MSG_NOSIGNAL);
	assert_true(n > 0 && n < BIG); /* what fitted */
	assert_int_equal(send(fds[1], big, BIG, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EAGAIN);
	close(fds[0]);
	assert_int_equal(send(fds[1], big, BIG, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	close(fds[1]);
	free(big);
}

static void
test_so_sndtimeo(void **state)
{
	(void)state;
	run_beside_beat(send_timeout, NULL);
}

/* ---- files, terminals, eventfd ---- */

static void
files_are_plain(void *arg)
{
	char path[] = "/tmp/green-hooks-XXXXXX", buf[64];
	int fd = mkstemp(path);

	(void)arg;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello world", 11), 11);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), 11);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	close(fd);
	unlink(path);
	assert_int_equal(read(-1, buf, 1), -1);
	assert_int_equal(errno, EBADF);
	fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, 1), -1);
	assert_int_equal(errno, EISDIR);
	close(fd);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, 8), 8);
	close(fd);
	after_50ms();
}

static void
test_files(void **state)
{
	(void)state;
	run_beside_beat(files_are_plain, NULL);
}

/* Terminals do not know RWF_NOWAIT: the way by poll. */
static void
terminal(void *arg)
{
	struct later l;
	struct termios raw;
	char buf[32];
	int master, slave;

	(void)arg;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
	later(&l, write_ten, master);
	assert_int_equal(read(slave, buf, sizeof(buf)), 10);
	close(master);
	close(slave);
}

static void
test_terminal(void **state)
{
	(void)state;
	run_beside_beat(terminal, NULL);
}

static void
post_eventfd(int fd)
{
	uint64_t n = 3;

	assert_int_equal(write(fd, &n, 8), 8);
}

static void
read_eventfd(void *arg)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	struct later l;
	uint64_t n = 0;

	(void)arg;
	later(&l, post_eventfd, fd);
	assert_int_equal(read(fd, &n, 8), 8);
	assert_int_equal(n, 3);
	close(fd);
}

static void
test_eventfd(void **state)
{
	(void)state;
	run_beside_beat(read_eventfd, NULL);
}

/* ---- poll and its kin ---- */

static void
poll_forms(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN}, got[4];
	struct timespec ts = {5, 0};
	struct timeval tv = {5, 0};
	struct pollfd p[2];
	struct later l;
	fd_set set;
	char buf[16];
	int a[2], b[2], ep;

	(void)arg;
	pair(SOCK_STREAM, a);
	pair(SOCK_STREAM, b);
	p[0] = (struct pollfd){.fd = a[0], .events = POLLIN};
	p[1] = (struct pollfd){.fd = b[0], .events = POLLIN};
	later(&l, write_ten, b[1]);
	assert_int_equal(poll(p, 2, 5000), 1);
	assert_int_equal(p[0].revents, 0);
	assert_int_equal(p[1].revents, POLLIN);
	assert_int_equal(poll(p, 2, 0), 1);
	assert_int_equal(ppoll(p, 2, &ts, NULL), 1);
	assert_int_equal(read(b[0], buf, sizeof(buf)), 10);

	later(&l, write_ten, a[1]);
	FD_ZERO(&set);
	FD_SET(a[0], &set);
	FD_SET(b[0], &set);
	assert_int_equal(select(a[0] > b[0] ? a[0] + 1 : b[0] + 1, &set, NULL, NULL, &tv), 1);
	assert_true(FD_ISSET(a[0], &set));
	assert_false(FD_ISSET(b[0], &set));
	assert_true(tv.tv_sec == 4);
	assert_int_equal(read(a[0], buf, sizeof(buf)), 10);

	later(&l, write_ten, a[1]);
	FD_ZERO(&set);
	FD_SET(a[0], &set);
	assert_int_equal(pselect(a[0] + 1, &set, NULL, NULL, &ts, NULL), 1);
	assert_int_equal(read(a[0], buf, sizeof(buf)), 10);

	ep = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, b[0], &ev), 0);
	later(&l, write_ten, b[1]);
	assert_int_equal(epoll_wait(ep, got, 4, 5000), 1);
	assert_int_equal(read(b[0], buf, sizeof(buf)), 10);
	later(&l, write_ten, b[1]);
	assert_int_equal(epoll_pwait(ep, got, 4, -1, NULL), 1);
	assert_int_equal(epoll_wait(ep, got, 4, 10), 1); /* level-triggered: still there */
	close(ep);
	close_pair(a);
	close_pair(b);
}

static void
test_poll_select_epoll(void **state)
{
	(void)state;
	run_beside_beat(poll_forms, NULL);
}

static void
poll_timeouts(void *arg)
{
	struct timeval tv = {0, 30000};
	struct epoll_event got[1];
	int64_t start = green_now();
	struct pollfd p;
	fd_set set;
	int a[2], ep = epoll_create1(EPOLL_CLOEXEC);

	(void)arg;
	pair(SOCK_STREAM, a);
	p = (struct pollfd){.fd = a[0], .events = POLLIN};
	assert_int_equal(poll(&p, 1, 30), 0);
	FD_ZERO(&set);
	FD_SET(a[0], &set);
	assert_int_equal(select(a[0] + 1, &set, NULL, NULL, &tv), 0);
	assert_false(FD_ISSET(a[0], &set));
	assert_int_equal(tv.tv_usec, 0);
	assert_int_equal(epoll_wait(ep, got, 1, 30), 0);
	assert_int_equal(poll(NULL, 0, 30), 0);
	assert_true(green_now() - start >= 120 * MS);
	close(ep);
	close_pair(a);
}

static void
test_poll_timeouts(void **state)
{
	(void)state;
	run_beside_beat(poll_timeouts, NULL);
}

/* Two event loops that do not wait since they have something to do: they keep step. */
static int steps[2];

static void
epoll_steps(void *arg)
{
	int *mine = arg, *theirs = mine == steps ? steps + 1 : steps;
	int64_t end = green_now() + 10000 * MS;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event got[1];

	for (*mine = 0; *mine < 100; ++*mine)
		while (*theirs < *mine && green_now() < end)
			assert_int_equal(epoll_wait(ep, got, 1, 0), 0);
	assert_true(green_now() < end);
	close(ep);
}

static void
test_epoll_without_waiting(void **state)
{
	struct task tasks[2];

	(void)state;
	task_start(&tasks[0], epoll_steps, steps);
	task_start(&tasks[1], epoll_steps, steps + 1);
	run_all();
}

static void
poll_many(void *arg)
{
	struct pollfd p[200];
	int fds[200][2];
	struct later l;

	(void)arg;
	for (int i = 0; i < 200; i++) {
		pair(SOCK_STREAM, fds[i]);
		p[i] = (struct pollfd){.fd = fds[i][0], .events = POLLIN};
	}
	later(&l, write_ten, fds[173][1]);
	assert_int_equal(poll(p, 200, 5000), 1);
	assert_int_equal(p[173].revents, POLLIN);
	for (int i = 0; i < 200; i++)
		close_pair(fds[i]);
}

static void
test_poll_many(void **state)
{
	(void)state;
	run_beside_beat(poll_many, NULL);
}

/* ---- connect, accept, names ---- */

struct server {
	struct task task;
	int fd;
	struct sockaddr_in addr;
};

static void
serve_one(void *arg)
{
	struct server *s = arg;
	char buf[16];
	int c = accept(s->fd, NULL, NULL);

	assert_true(c >= 0);
	assert_int_equal(recv(c, buf, sizeof(buf), 0), 5);
	after_50ms();
	assert_int_equal(send(c, buf, 5, 0), 5);
	close(c);
}

static void
echo_client(void *arg)
{
	socklen_t len = sizeof(struct sockaddr_in);
	struct server s = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	char buf[16];
	int c;

	(void)arg;
	s.addr.sin_family = AF_INET;
	s.addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(s.fd, (struct sockaddr *)&s.addr, len), 0);
	assert_int_equal(listen(s.fd, 16), 0);
	assert_int_equal(getsockname(s.fd, (struct sockaddr *)&s.addr, &len), 0);
	task_start(&s.task, serve_one, &s);
	after_50ms();
	c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&s.addr, len), 0);
	assert_int_equal(fcntl(c, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(send(c, "hello", 5, 0), 5);
	assert_int_equal(recv(c, buf, sizeof(buf), 0), 5);
	assert_int_equal(recv(c, buf, sizeof(buf), 0), 0);
	close(c);
	close(s.fd);
	/* nobody listens there now */
	c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&s.addr, len), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(c);
}

static void
test_connect_and_accept(void **state)
{
	(void)state;
	run_beside_beat(echo_client, NULL);
}

static void
accept_one(int fd)
{
	int c = accept(fd, NULL, NULL);

	assert_true(c >= 0);
	close(c);
}

static void
connect_full_unix_queue(void *arg)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), c[3];
	struct later l;

	(void)arg;
	memcpy(addr.sun_path + 1, "green-hooks-test", 16); /* abstract */
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 0), 0);
	later(&l, accept_one, fd);
	for (int i = 0; i < 2; i++) {
		c[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(c[i], (struct sockaddr *)&addr, sizeof(addr)), 0);
	}
	close(c[0]);
	close(c[1]);
	close(fd);
}

static void
test_connect_to_full_unix_queue(void **state)
{
	(void)state;
	run_beside_beat(connect_full_unix_queue, NULL);
}

static void
look_up(void *arg)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *res = NULL;
	struct sockaddr_in sin = {.sin_family = AF_INET};
	char host[256];
	struct hostent *he;

	(void)arg;
	assert_int_equal(getaddrinfo("localhost", "80", &hints, &res), 0);
	assert_non_null(res);
	freeaddrinfo(res);
	assert_int_equal(getaddrinfo("127.0.0.1", "80", &hints, &res), 0);
	freeaddrinfo(res);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(
	    getnameinfo((struct sockaddr *)&sin, sizeof(sin), host, sizeof(host), NULL, 0, 0), 0);
	he = gethostbyname("localhost");
	assert_non_null(he);
	after_50ms();
}

static void
test_names(void **state)
{
	(void)state;
	run_beside_beat(look_up, NULL);
}

/* ---- time ---- */

static void
sleep_forms(void *arg)
{
	struct timespec ts = {0, 20 * MS}, at;
	int64_t start = green_now();

	(void)arg;
	assert_int_equal(nanosleep(&ts, NULL), 0);
	assert_int_equal(usleep(20000), 0);
	assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL), 0);
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_nsec += 20 * MS;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	assert_int_equal(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL), 0);
	assert_true(green_now() - start >= 80 * MS);
	assert_int_equal(sleep(0), 0);
	assert_int_equal(sched_yield(), 0);
	ts.tv_nsec = -1;
	assert_int_equal(nanosleep(&ts, NULL), -1);
	assert_int_equal(errno, EINVAL);
}

static void
test_sleeps(void **state)
{
	(void)state;
	run_beside_beat(sleep_forms, NULL);
}

/* ---- children ---- */

static pid_t
child_that_exits(int code)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct timespec ts = {0, 50 * MS};
		nanosleep(&ts, NULL); /* the real one */
		_exit(green_self() == NULL ? code : 99);
	}
	assert_true(pid > 0);
	return pid;
}

static void
wait_forms(void *arg)
{
	struct rusage ru;
	siginfo_t si;
	int status;
	pid_t pid;

	(void)arg;
	pid = child_that_exits(3);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 3);
	pid = child_that_exits(4);
	assert_int_equal(wait4(pid, &status, 0, &ru), pid);
	assert_int_equal(WEXITSTATUS(status), 4);
	pid = child_that_exits(5);
	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	assert_int_equal(si.si_status, 5);
	pid = child_that_exits(6);
	assert_int_equal(wait(&status), pid);
	assert_int_equal(WEXITSTATUS(status), 6);
	assert_int_equal(waitpid(-1, &status, 0), -1);
	assert_int_equal(errno, ECHILD);
}

static void
test_waiting_for_children(void **state)
{
	(void)state;
	run_beside_beat(wait_forms, NULL);
}

static void
vfork_exec(void *arg)
{
	char path[] = "/bin/sh", c[] = "-c", cmd[] = "sleep 0.05; exit 7";
	char *argv[] = {path, c, cmd, NULL};
	struct green *before = green_self();
	int status;
	pid_t pid;

	(void)arg;
	pid = vfork();
	if (pid == 0) {
		execv(path, argv);
		_exit(127);
	}
	assert_ptr_equal(green_self(), before);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void
test_vfork(void **state)
{
	(void)state;
	run_beside_beat(vfork_exec, NULL);
}

static void
shell_forms(void *arg)
{
	char line[64] = "";
	FILE *fp;
	int status = system("sleep 0.05; exit 9");

	(void)arg;
	assert_int_equal(WEXITSTATUS(status), 9);
	fp = popen("echo hello; sleep 0.05; exit 4", "r");
	assert_non_null(fp);
	assert_non_null(fgets(line, sizeof(line), fp));
	assert_string_equal(line, "hello\n");
	status = pclose(fp);
	assert_int_equal(WEXITSTATUS(status), 4);
	fp = popen("read x; test \"$x\" = abc", "w");
	assert_non_null(fp);
	assert_true(fputs("abc\n", fp) >= 0);
	assert_int_equal(pclose(fp), 0);
	assert_null(popen("true", "x"));
	assert_int_equal(errno, EINVAL);
}

static void
test_system_and_popen(void **state)
{
	(void)state;
	run_beside_beat(shell_forms, NULL);
}

static void
many_system(void *arg)
{
	(void)arg;
	assert_int_equal(system("sleep 0.2"), 0);
}

static void
test_children_overlap(void **state)
{
	struct task t[20];
	int64_t start = green_now();

	(void)state;
	for (int i = 0; i < 20; i++)
		task_start(&t[i], many_system, NULL);
	run_all();
	assert_true(green_now() - start < 2500 * MS); /* one by one: 4 s */
}

static volatile sig_atomic_t raised;

static void
on_usr2(int sig)
{
	raised = sig;
}

static void
raise_one(void *arg)
{
	(void)arg;
	assert_int_equal(raise(SIGUSR2), 0);
	assert_int_equal(raised, SIGUSR2); /* before raise returns */
	after_50ms();
}

static void
test_raise(void **state)
{
	(void)state;
	signal(SIGUSR2, on_usr2);
	run_beside_beat(raise_one, NULL);
	signal(SIGUSR2, SIG_DFL);
}

/* ---- kernels and sandboxes that do not know RWF_NOWAIT ---- */

/* From here on preadv2 and pwritev2 are unknown to this process. */
static int
refuse_rwf_nowait(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 1, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void
without_rwf_nowait(void)
{
	struct iovec iov[2] = {{NULL, 0}, {NULL, 0}};
	bool pipes[2] = {false, true};

	if (refuse_rwf_nowait() == -1)
		_exit(77); /* a sandbox that allows no further one */
	if (pwritev2(STDOUT_FILENO, iov, 2, -1, RWF_NOWAIT) != -1 || setup(NULL) != 0)
		_exit(1);
	run_beside_beat(send_big, &pipes[0]);
	run_beside_beat(send_big, &pipes[1]);
	run_beside_beat(receive_all_forms, NULL);
	run_beside_beat(receive_timeout, NULL);
	run_beside_beat(files_are_plain, NULL);
	run_beside_beat(read_eventfd, NULL);
	_exit(0);
}

static void
test_without_rwf_nowait(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		without_rwf_nowait();
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
	    CASE(test_receiving),
	    CASE(test_msg_waitall),
	    CASE(test_nonblocking_is_respected),
	    CASE(test_so_rcvtimeo),
	    CASE(test_close_while_waiting),
	    CASE(test_close_on_another_thread),
	    CASE(test_dup2_while_waiting),
	    CASE(test_sending_more_than_fits),
	    CASE(test_writing_more_than_fits_in_a_pipe),
	    CASE(test_so_sndtimeo),
	    CASE(test_files),
	    CASE(test_terminal),
	    CASE(test_eventfd),
	    CASE(test_poll_select_epoll),
	    CASE(test_poll_timeouts),
	    CASE(test_epoll_without_waiting),
	    CASE(test_poll_many),
	    CASE(test_connect_and_accept),
	    CASE(test_connect_to_full_unix_queue),
	    CASE(test_names),
	    CASE(test_sleeps),
	    CASE(test_waiting_for_children),
	    CASE(test_vfork),
	    CASE(test_system_and_popen),
	    CASE(test_children_overlap),
	    CASE(test_raise),
	    cmocka_unit_test(test_without_rwf_nowait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
