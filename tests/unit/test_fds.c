/* Descriptors by sd_listen_fds(3)'s convention, from a parent to a child that execs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/fds.h"

/* The program is its own receiver: "test_fds receive" says whether all is as it should be. */
static const char *self;

static int
receive(void)
{
	struct fds fds;
	char a = 0, b = 0;
	int x, y;

	if (fds_take(&fds) == -1 || fds.n != 3)
		return 10;
	if (getenv("LISTEN_PID") != NULL || getenv("LISTEN_FDS") != NULL ||
	    getenv("LISTEN_FDNAMES") != NULL)
		return 11;
	x = fds_claim(&fds, "listen");
	y = fds_claim(&fds, "listen");
	if (x != 3 || y != 5 || fds_claim(&fds, "listen") != -1 || fds_claim(&fds, "nothing") != -1)
		return 12;
	if (pread(x, &a, 1, 0) != 1 || pread(y, &b, 1, 0) != 1 || a != 'a' || b != 'c')
		return 13;
	if (!(fcntl(x, F_GETFD) & FD_CLOEXEC))
		return 14;
	fds_close(&fds); /* the unclaimed one, 4 */
	if (fcntl(4, F_GETFD) != -1 || fcntl(3, F_GETFD) == -1)
		return 15;
	if (fcntl(6, F_GETFD) != -1 || fcntl(100, F_GETFD) != -1)
		return 16; /* something else came across */
	return 0;
}

static int
file_with(char c)
{
	char path[] = "/tmp/test_fds.XXXXXX";
	int fd = mkstemp(path);

	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, &c, 1), 1);
	unlink(path);
	return fd;
}

/* In all orders: a descriptor that is in the way of another must survive. */
static void
test_pass(void **state)
{
	int fd[3], status;
	pid_t pid;

	(void)state;
	for (int i = 0; i < 3; i++)
		fd[i] = file_with((char)('a' + i));
	for (int turn = 0; turn < 3; turn++) {
		pid = fork();
		if (pid == 0) {
			struct fds fds = {0};
			char *argv[] = {(char *)self, "receive", NULL};
			int base[] = {3, 4, 5}, number[3];

			for (int i = 0; i < 3; i++) /* out of the way, then turned around */
				number[i] = fcntl(fd[i], F_DUPFD, 50);
			for (int i = 0; i < 3; i++)
				dup2(number[i], base[(i + turn) % 3]);
			dup2(number[0], 100);
			fds_add(&fds, base[(0 + turn) % 3], "listen");
			fds_add(&fds, base[(1 + turn) % 3], "other");
			fds_add(&fds, base[(2 + turn) % 3], "listen");
			if (fds_pass(&fds) == 0)
				execv(self, argv);
			_exit(20);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

/* Take with such an environment, in a child of its own; returns what fds_take did: n or -errno. */
static int
take_with(const char *pid, const char *n, const char *names)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct fds fds;
		char me[16];

		snprintf(me, sizeof(me), "%d", (int)getpid());
		if (pid != NULL)
			setenv("LISTEN_PID", strcmp(pid, "me") == 0 ? me : pid, 1);
		if (n != NULL)
			setenv("LISTEN_FDS", n, 1);
		if (names != NULL)
			setenv("LISTEN_FDNAMES", names, 1);
		closefrom(3);
		dup2(0, 3);
		dup2(0, 4);
		if (fds_take(&fds) == -1)
			_exit(100 + errno);
		if (getenv("LISTEN_FDS") != NULL)
			_exit(99);
		status = (int)fds.n;
		if (fds.n > 1 && names != NULL && strcmp(fds.items[1].name, "unknown") != 0)
			status += 10; /* named */
		fds_close(&fds);
		_exit(status);
	}
	waitpid(child, &status, 0);
	return WEXITSTATUS(status) >= 100 ? -(WEXITSTATUS(status) - 100) : WEXITSTATUS(status);
}

static void
test_take(void **state)
{
	(void)state;
	assert_int_equal(take_with(NULL, NULL, NULL), 0);
	assert_int_equal(take_with("1", "2", NULL), 0); /* for another process */
	assert_int_equal(take_with("me", "2", NULL), 2);
	assert_int_equal(take_with("me", "2", "a:b"), 12);
	assert_int_equal(take_with("me", "2", "a"), 2); /* too few names */
	assert_int_equal(take_with("me", "2", ""), 2);
	assert_int_equal(take_with("me", "3", NULL), -EBADF);
	assert_int_equal(take_with("me", "x", NULL), -EINVAL);
	assert_int_equal(take_with("me", "-1", NULL), -EINVAL);
	assert_int_equal(take_with("me", "99999999999", NULL), -EINVAL);
	assert_int_equal(take_with("x", "1", NULL), -EINVAL);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pass),
	    cmocka_unit_test(test_take),
	};

	if (argc > 1)
		return receive();
	self = realpath("/proc/self/exe", NULL);
	(void)argv;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
