/* Locks on files, FIFOs, copies within the kernel, the disk: helper threads wait, the worker goes
 * on. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/green_beat.h"

static char path[64];

/* A file of its own for each test, with n bytes in it. */
static int
temporary(size_t n)
{
	char *zeros = calloc(1, n + 1);
	int fd;

	assert_non_null(zeros);
	strcpy(path, "/tmp/green-file-XXXXXX");
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, zeros, n), n);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	free(zeros);
	return fd;
}

static int
again(int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* ---- locks ---- */

static void
unlock(int fd)
{
	assert_int_equal(flock(fd, LOCK_UN), 0);
}

static void
flocks(void *arg)
{
	int a = temporary(0), b = again(O_RDWR);
	struct later l;

	(void)arg;
	assert_int_equal(flock(a, LOCK_EX), 0);
	assert_int_equal(flock(b, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	later(&l, unlock, a);
	assert_int_equal(flock(b, LOCK_EX), 0);
	assert_int_equal(flock(b, LOCK_SH), 0);
	assert_int_equal(flock(a, LOCK_SH), 0);
	assert_int_equal(flock(-1, LOCK_EX), -1);
	assert_int_equal(errno, EBADF);
	close(a);
	close(b);
	unlink(path);
}

static void
test_flock(void **state)
{
	(void)state;
	run_beside_beat(flocks, NULL);
}

/* More than there are helpers for look-ups; the one that has the lock looks up a name. */
#define CROWD 60

static int inside, entered;

static void
one_of_a_crowd(void *arg)
{
	struct addrinfo *res = NULL;
	int fd = again(O_RDWR);

	(void)arg;
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(inside++, 0);
	green_sleep_until(green_deadline(MS));
	if (entered++ == 0) /* while all the others wait for it */
		assert_int_equal(getaddrinfo("localhost", "80", NULL, &res), 0);
	inside--;
	if (res != NULL)
		freeaddrinfo(res);
	close(fd);
}

static void
crowd(void *arg)
{
	static struct task t[CROWD];
	int fd = temporary(0);

	(void)arg;
	inside = entered = 0;
	assert_int_equal(flock(fd, LOCK_EX), 0);
	for (int i = 0; i < CROWD; i++)
		task_start(&t[i], one_of_a_crowd, NULL);
	after_50ms(); /* they all wait */
	assert_int_equal(entered, 0);
	assert_int_equal(fsync(fd), 0); /* a helper, while so many are busy */
	close(fd);
	while (entered < CROWD)
		green_sleep_until(green_deadline(MS));
	unlink(path);
}

static void
test_flock_of_a_crowd(void **state)
{
	(void)state;
	run_beside_beat(crowd, NULL);
}

static void
unlock_record(int fd)
{
	struct flock fl = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &fl), 0);
}

static void
open_file_locks(void *arg)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int a = temporary(0), b = again(O_RDWR);
	struct later l;

	(void)arg;
	assert_int_equal(fcntl(a, F_OFD_SETLKW, &fl), 0);
	assert_int_equal(fcntl(b, F_OFD_SETLK, &fl), -1);
	assert_int_equal(errno, EAGAIN);
	later(&l, unlock_record, a);
	assert_int_equal(fcntl(b, F_OFD_SETLKW, &fl), 0);
	close(a);
	close(b);
	unlink(path);
}

static void
test_open_file_locks(void **state)
{
	(void)state;
	run_beside_beat(open_file_locks, NULL);
}

/* A child that has the process's sort of lock, and lets go of it after 80 ms. */
static pid_t
child_with_lock(void)
{
	int ready[2], fd;
	char c;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		fd = open(path, O_RDWR);
		if (fd == -1 || lockf(fd, F_LOCK, 0) == -1 || write(ready[1], "x", 1) != 1)
			_exit(1);
		usleep(80000);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void
process_locks(void *arg)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = temporary(0), status;
	pid_t pid = child_with_lock();

	(void)arg;
	assert_int_equal(fcntl(fd, F_SETLK, &fl), -1);
	assert_int_equal(fcntl(fd, F_SETLKW, &fl), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fl.l_type = F_UNLCK;
	assert_int_equal(fcntl(fd, F_SETLKW, &fl), 0);
	pid = child_with_lock();
	assert_int_equal(lockf(fd, F_TLOCK, 0), -1);
	assert_int_equal(lockf(fd, F_LOCK, 0), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fd);
	unlink(path);
}

static void
test_process_locks(void **state)
{
	(void)state;
	run_beside_beat(process_locks, NULL);
}

/* ---- FIFOs ---- */

static int other_end;

static void
open_other_end(int flags)
{
	other_end = open(path, flags | O_CLOEXEC);
	assert_true(other_end >= 0);
}

static void
fifos(void *arg)
{
	struct later l;
	char buf[4];
	int fd = temporary(0);

	(void)arg;
	close(fd);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	later(&l, open_other_end, O_WRONLY);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	while (other_end == 0)
		green_sleep_until(green_deadline(MS));
	assert_int_equal(write(other_end, "abc", 3), 3);
	assert_int_equal(read(fd, buf, 4), 3);
	close(other_end);
	close(fd);
	later(&l, open_other_end, O_RDONLY);
	fd = openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	close(other_end);
	assert_int_equal(open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
	assert_int_equal(errno, ENXIO);
	unlink(path);
	assert_int_equal(open(path, O_RDONLY), -1);
	assert_int_equal(errno, ENOENT);
}

static void
test_opening_a_fifo(void **state)
{
	(void)state;
	other_end = 0;
	run_beside_beat(fifos, NULL);
}

/* ---- copies ---- */

#define BIG (4 * 1024 * 1024)

struct drain {
	struct task task;
	int fd;
	size_t got;
};

static void
drain_main(void *arg)
{
	static char buf[65536];
	struct drain *d = arg;
	ssize_t n;

	after_50ms();
	while ((n = read(d->fd, buf, sizeof(buf))) > 0)
		d->got += (size_t)n;
	assert_int_equal(n, 0);
	d->fd = -1;
}

static void
send_file(void *arg)
{
	struct drain d = {0};
	int fds[2], fd = temporary(BIG);
	off_t offset = 1000;

	(void)arg;
	pair(SOCK_STREAM, fds);
	d.fd = fds[0];
	task_start(&d.task, drain_main, &d);
	assert_int_equal(sendfile(fds[1], fd, &offset, BIG - 1000), BIG - 1000);
	assert_int_equal(offset, BIG);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	close(fds[1]);
	while (d.fd != -1)
		green_sleep_until(green_deadline(MS));
	assert_int_equal(d.got, BIG - 1000);
	close(fds[0]);
	close(fd);
	unlink(path);
}

static void
test_sendfile(void **state)
{
	(void)state;
	run_beside_beat(send_file, NULL);
}

static void
write_ten(int fd)
{
	assert_int_equal(write(fd, "0123456789", 10), 10);
}

static void
pipes(int a[2], int b[2])
{
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
}

static void
splices(void *arg)
{
	struct later l;
	char buf[32];
	struct iovec iov = {buf, sizeof(buf)};
	int a[2], b[2], s[2];

	(void)arg;
	pipes(a, b);
	later(&l, write_ten, a[1]);
	assert_int_equal(tee(a[0], b[1], 100, 0), 10);
	assert_int_equal(read(b[0], buf, sizeof(buf)), 10);
	assert_int_equal(splice(a[0], NULL, b[1], NULL, 100, 0), 10);
	assert_int_equal(splice(a[0], NULL, b[1], NULL, 100, SPLICE_F_NONBLOCK), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(vmsplice(b[0], &iov, 1, 0), 10);
	assert_memory_equal(buf, "0123456789", 10);
	pair(SOCK_STREAM, s);
	later(&l, write_ten, s[1]);
	assert_int_equal(splice(s[0], NULL, b[1], NULL, 100, 0), 10);
	close_pair(a);
	close_pair(b);
	close_pair(s);
}

static void
test_splice_and_tee(void **state)
{
	(void)state;
	run_beside_beat(splices, NULL);
}

static void
copies(void *arg)
{
	char first[64];
	int from = temporary(BIG), to;

	(void)arg;
	strcpy(first, path);
	to = temporary(0);
	assert_int_equal(sendfile(to, from, NULL, BIG), BIG);
	assert_int_equal(lseek(from, 0, SEEK_CUR), BIG);
	assert_int_equal(lseek(from, 0, SEEK_SET), 0);
	if (copy_file_range(from, NULL, to, NULL, BIG, 0) == -1)
		assert_true(errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP);
	close(from);
	close(to);
	unlink(first);
	unlink(path);
	after_50ms();
}

static void
test_copies_between_files(void **state)
{
	(void)state;
	run_beside_beat(copies, NULL);
}

/* ---- the disk ---- */

static void
disk_calls(void *arg)
{
	int fd = temporary(BIG), fds[2];
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)arg;
	assert_ptr_not_equal(p, MAP_FAILED);
	p[0] = 1;
	assert_int_equal(msync(p, 4096, MS_SYNC), 0);
	assert_int_equal(munmap(p, 4096), 0);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fdatasync(fd), 0);
	errno = 0;
	(void)sync_file_range(
	    fd, 0, 4096, SYNC_FILE_RANGE_WRITE); /* not every file system has it */
	close(fd);
	unlink(path);
	assert_int_equal(fsync(fd), -1);
	assert_int_equal(errno, EBADF);
	pair(SOCK_STREAM, fds);
	assert_int_equal(fsync(fds[0]), -1);
	assert_int_equal(errno, EINVAL);
	close_pair(fds);
	after_50ms();
}

static void
test_disk_calls(void **state)
{
	(void)state;
	run_beside_beat(disk_calls, NULL);
}

/* What is not in memory comes from the disk, whole. */
static void
cold_file(void *arg)
{
	char *data = malloc(BIG), *got = malloc(BIG + 10);
	int fd = temporary(0);

	(void)arg;
	assert_non_null(data);
	assert_non_null(got);
	for (size_t i = 0; i < BIG; i++)
		data[i] = (char)(i * 7 + i / 1000);
	assert_int_equal(write(fd, data, BIG), BIG);
	assert_int_equal(fsync(fd), 0);
	for (int i = 0; i < 3; i++) {
		if (i > 0) /* all of it, then a part */
			(void)posix_fadvise(fd, i == 1 ? 0 : BIG / 2, 0, POSIX_FADV_DONTNEED);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		memset(got, 0, BIG);
		assert_int_equal(read(fd, got, BIG + 10), BIG);
		assert_memory_equal(got, data, BIG);
		assert_int_equal(read(fd, got, 10), 0);
	}
	close(fd);
	unlink(path);
	free(data);
	free(got);
	after_50ms();
}

static void
test_file_that_is_not_in_memory(void **state)
{
	(void)state;
	run_beside_beat(cold_file, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    CASE(test_flock),
	    CASE(test_flock_of_a_crowd),
	    CASE(test_open_file_locks),
	    CASE(test_process_locks),
	    CASE(test_opening_a_fifo),
	    CASE(test_sendfile),
	    CASE(test_splice_and_tee),
	    CASE(test_copies_between_files),
	    CASE(test_disk_calls),
	    CASE(test_file_that_is_not_in_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
