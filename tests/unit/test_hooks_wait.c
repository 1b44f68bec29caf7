/* Waits for others that libc keeps to itself: barriers, threads' ends, queues, signals, C11's
 * threads. */
#include <aio.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <resolv.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/green_beat.h"

static struct timespec
in_ms(clockid_t clock, int64_t ms)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += ms % 1000 * MS;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

/* ---- barriers ---- */

static pthread_barrier_t barrier;
static _Atomic int serial, passed;

static void *
meet(void *arg)
{
	int rc = pthread_barrier_wait(&barrier);

	if (rc == PTHREAD_BARRIER_SERIAL_THREAD)
		serial++;
	else
		assert_int_equal(rc, 0);
	passed++;
	return arg;
}

static void
meet_green(void *arg)
{
	(void)meet(arg);
}

static void
barriers(void *arg)
{
	struct task t[3];
	pthread_t thread;

	(void)arg;
	for (int round = 1; round <= 2; round++) {
		assert_int_equal(pthread_barrier_init(&barrier, NULL, 5), 0);
		for (int i = 0; i < 3; i++)
			task_start(&t[i], meet_green, NULL);
		assert_int_equal(pthread_create(&thread, NULL, meet, NULL), 0);
		after_50ms();
		assert_int_equal(passed, 5 * (round - 1));
		(void)meet(NULL);
		assert_int_equal(pthread_join(thread, NULL), 0);
		while (passed < 5 * round)
			green_sleep_until(green_deadline(MS));
		assert_int_equal(serial, round);
		assert_int_equal(pthread_barrier_destroy(&barrier), 0);
	}
}

static void
test_barrier(void **state)
{
	(void)state;
	run_beside_beat(barriers, NULL);
}

/* ---- joins ---- */

/* Threads that end, or let go, when they are told. */
static _Atomic bool over;

static void
say_over(int unused)
{
	(void)unused;
	atomic_store(&over, true);
}

static void
until_over(void)
{
	while (!atomic_load(&over))
		usleep(1000);
}

static void *
ends_later(void *arg)
{
	until_over();
	return arg;
}

static void
joins(void *arg)
{
	struct timespec at;
	struct later l;
	pthread_t thread;
	void *value = NULL;

	(void)arg;
	atomic_store(&over, false);
	assert_int_equal(pthread_create(&thread, NULL, ends_later, &over), 0);
	at = in_ms(CLOCK_REALTIME, 10);
	assert_int_equal(pthread_timedjoin_np(thread, &value, &at), ETIMEDOUT);
	at = in_ms(CLOCK_MONOTONIC, 10);
	assert_int_equal(pthread_clockjoin_np(thread, &value, CLOCK_MONOTONIC, &at), ETIMEDOUT);
	at = in_ms(CLOCK_MONOTONIC, 10000);
	later(&l, say_over, 0);
	assert_int_equal(pthread_clockjoin_np(thread, &value, CLOCK_MONOTONIC, &at), 0);
	assert_ptr_equal(value, &over);
	assert_int_equal(pthread_timedjoin_np(pthread_self(), NULL, &at), EDEADLK);
}

static void
test_joins(void **state)
{
	(void)state;
	run_beside_beat(joins, NULL);
}

/* ---- queues and semaphores of System V and POSIX ---- */

static void
raise_semaphore(int id)
{
	struct sembuf up = {0, 1, 0};

	assert_int_equal(semop(id, &up, 1), 0);
}

static void
semaphore_sets(void *arg)
{
	struct sembuf down = {0, -1, 0}, try = {0, -1, IPC_NOWAIT};
	struct timespec ts = {0, 20 * MS};
	int id = semget(IPC_PRIVATE, 1, 0600);
	struct later l;

	(void)arg;
	if (id == -1) {
		assert_true(errno == ENOSYS || errno == ENOSPC || errno == EPERM);
		after_50ms();
		return;
	}
	assert_int_equal(semop(id, &try, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(semtimedop(id, &down, 1, &ts), -1);
	assert_int_equal(errno, EAGAIN);
	later(&l, raise_semaphore, id);
	assert_int_equal(semop(id, &down, 1), 0);
	raise_semaphore(id);
	assert_int_equal(semop(id, &down, 1), 0);
	assert_int_equal(semctl(id, 0, IPC_RMID), 0);
	assert_int_equal(semop(id, &down, 1), -1);
	assert_true(errno == EINVAL || errno == EIDRM);
}

static void
test_semaphore_sets(void **state)
{
	(void)state;
	run_beside_beat(semaphore_sets, NULL);
}

struct message {
	long type;
	char text[8000];
};

static void
post_message(int id)
{
	struct message m = {.type = 7};

	assert_int_equal(msgsnd(id, &m, 10, 0), 0);
}

static void
take_message(int id)
{
	struct message m;

	assert_int_equal(msgrcv(id, &m, sizeof(m.text), 0, 0), sizeof(m.text));
}

static void
message_queues(void *arg)
{
	int id = msgget(IPC_PRIVATE, 0600);
	struct message m = {.type = 1};
	struct later l;

	(void)arg;
	if (id == -1) {
		assert_true(errno == ENOSYS || errno == ENOSPC || errno == EPERM);
		after_50ms();
		return;
	}
	assert_int_equal(msgrcv(id, &m, sizeof(m.text), 0, IPC_NOWAIT), -1);
	assert_int_equal(errno, ENOMSG);
	later(&l, post_message, id);
	assert_int_equal(msgrcv(id, &m, sizeof(m.text), 7, 0), 10);
	m.type = 1;
	while (msgsnd(id, &m, sizeof(m.text), IPC_NOWAIT) == 0)
		;
	assert_int_equal(errno, EAGAIN);
	later(&l, take_message, id);
	assert_int_equal(msgsnd(id, &m, sizeof(m.text), 0), 0);
	assert_int_equal(msgctl(id, IPC_RMID, NULL), 0);
}

static void
test_message_queues(void **state)
{
	(void)state;
	run_beside_beat(message_queues, NULL);
}

static mqd_t queue;

static void
post_to_queue(int unused)
{
	(void)unused;
	assert_int_equal(mq_send(queue, "hello", 5, 3), 0);
}

static void
posix_queues(void *arg)
{
	struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 16};
	struct timespec at;
	char name[32], buf[16];
	unsigned priority = 0;
	struct later l;

	(void)arg;
	snprintf(name, sizeof(name), "/green-%d", (int)getpid());
	queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attr);
	if (queue == (mqd_t)-1) {
		after_50ms(); /* a sandbox without them */
		return;
	}
	mq_unlink(name);
	later(&l, post_to_queue, 0);
	assert_int_equal(mq_receive(queue, buf, sizeof(buf), &priority), 5);
	assert_int_equal(priority, 3);
	at = in_ms(CLOCK_REALTIME, 20);
	assert_int_equal(mq_timedreceive(queue, buf, sizeof(buf), NULL, &at), -1);
	assert_int_equal(errno, ETIMEDOUT);
	post_to_queue(0);
	post_to_queue(0);
	at = in_ms(CLOCK_REALTIME, 20);
	assert_int_equal(mq_timedsend(queue, "x", 1, 0, &at), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(mq_close(queue), 0);
}

static void
test_posix_queues(void **state)
{
	(void)state;
	run_beside_beat(posix_queues, NULL);
}

static void
write_ten(int fd)
{
	assert_int_equal(write(fd, "0123456789", 10), 10);
}

static void
asynchronous_read(void *arg)
{
	struct timespec ts = {0, 10 * MS};
	struct aiocb cb = {0};
	const struct aiocb *list[1] = {&cb};
	char buf[16];
	struct later l;
	int fds[2];

	(void)arg;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	cb.aio_fildes = fds[0];
	cb.aio_buf = buf;
	cb.aio_nbytes = sizeof(buf);
	assert_int_equal(aio_read(&cb), 0);
	later(&l, write_ten, fds[1]);
	assert_int_equal(aio_suspend(list, 1, &ts), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(aio_suspend(list, 1, NULL), 0);
	assert_int_equal(aio_return(&cb), 10);
	close_pair(fds);
}

static void
test_asynchronous_io(void **state)
{
	(void)state;
	run_beside_beat(asynchronous_read, NULL);
}

/* ---- futexes that other processes may wake, and several at once ---- */

static _Atomic uint32_t *word;

static void *
change_and_wake(void *arg)
{
	usleep(60000);
	atomic_store(word, 1);
	assert_true(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0);
	return arg;
}

static void
shared_futex(void *arg)
{
	struct timespec ts = {0, 10 * MS};
	pthread_t thread;

	(void)arg;
	word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(word, MAP_FAILED);
	assert_int_equal(syscall(SYS_futex, word, FUTEX_WAIT, 5, NULL, NULL, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(syscall(SYS_futex, word, FUTEX_WAIT, 0, &ts, NULL, 0), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, change_and_wake, NULL), 0);
	assert_int_equal(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	munmap((void *)word, 4096);
}

static void
test_shared_futex(void **state)
{
	(void)state;
	run_beside_beat(shared_futex, NULL);
}

/* Two who wait for different bits: the one that is meant wakes, in whatever order they came. */
static _Atomic uint32_t bits_word;
static int bits_woken;

static void
wait_for_bit(void *arg)
{
	uint32_t bit = arg == NULL ? 1 : 2;

	while (atomic_load(&bits_word) != bit)
		(void)syscall(SYS_futex, &bits_word, FUTEX_WAIT_BITSET_PRIVATE,
		    (uint32_t)atomic_load(&bits_word), NULL, NULL, bit);
	bits_woken++;
	if (bit == 2)
		atomic_store(&bits_word, 1);
	(void)syscall(SYS_futex, &bits_word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 1);
}

static void
futex_bits(void *arg)
{
	struct task t[2];

	(void)arg;
	bits_woken = 0;
	atomic_store(&bits_word, 0);
	task_start(&t[0], wait_for_bit, NULL);
	task_start(&t[1], wait_for_bit, &t);
	after_50ms();
	atomic_store(&bits_word, 2);
	(void)syscall(SYS_futex, &bits_word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 2);
	while (bits_woken < 2)
		green_sleep_until(green_deadline(MS));
}

static void
test_futex_bits(void **state)
{
	(void)state;
	run_beside_beat(futex_bits, NULL);
}

/* ---- mutexes of the rarer kinds ---- */

static pthread_mutex_t mutex;
static _Atomic int in_mutex, entered;

static void *
enter_20_times(void *arg)
{
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_mutex_lock(&mutex), 0);
		assert_int_equal(in_mutex++, 0);
		usleep(100);
		in_mutex--;
		entered++;
		assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	}
	return arg;
}

static void
enter_green(void *arg)
{
	(void)enter_20_times(arg);
}

static void
contended_by_both(void *arg)
{
	struct task t[3];
	pthread_t thread;

	assert_int_equal(pthread_mutex_init(&mutex, arg), 0);
	entered = 0;
	assert_int_equal(pthread_create(&thread, NULL, enter_20_times, NULL), 0);
	for (int i = 0; i < 3; i++)
		task_start(&t[i], enter_green, NULL);
	while (entered < 80)
		green_sleep_until(green_deadline(5 * MS));
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_mutex_destroy(&mutex), 0);
	after_50ms();
}

static void
test_priority_inheriting_mutex(void **state)
{
	pthread_mutexattr_t attr;

	(void)state;
	pthread_mutexattr_init(&attr);
	assert_int_equal(pthread_mutexattr_setprotocol(&attr, 77), EINVAL);
	assert_int_equal(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT), 0);
	run_beside_beat(contended_by_both, &attr);
}

static void *
die_with_mutex(void *arg)
{
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	atomic_store(&in_mutex, 1);
	until_over();
	return arg;
}

static void
owner_dies(void *arg)
{
	pthread_mutexattr_t attr;
	struct later l;
	pthread_t thread;

	(void)arg;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	assert_int_equal(pthread_mutex_init(&mutex, &attr), 0);
	atomic_store(&over, false);
	atomic_store(&in_mutex, 0);
	assert_int_equal(pthread_create(&thread, NULL, die_with_mutex, NULL), 0);
	while (!atomic_load(&in_mutex))
		green_sleep_until(green_deadline(MS));
	later(&l, say_over, 0);
	assert_int_equal(pthread_mutex_lock(&mutex), EOWNERDEAD);
	assert_int_equal(pthread_mutex_consistent(&mutex), 0);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void
test_robust_mutex(void **state)
{
	(void)state;
	run_beside_beat(owner_dies, NULL);
}

/* ---- C11 ---- */

static mtx_t c11_mutex;
static cnd_t c11_cond;
static _Atomic int c11_ready, c11_calls;
static once_flag c11_once = ONCE_FLAG_INIT;

static void
c11_init(void)
{
	struct timespec ts = {0, 20 * MS};

	assert_int_equal(thrd_sleep(&ts, NULL), 0);
	c11_calls++;
}

static int
c11_thread(void *arg)
{
	call_once(&c11_once, c11_init);
	assert_int_equal(mtx_lock(&c11_mutex), thrd_success);
	while (!c11_ready)
		assert_int_equal(cnd_wait(&c11_cond, &c11_mutex), thrd_success);
	assert_int_equal(mtx_unlock(&c11_mutex), thrd_success);
	(void)arg;
	return 42;
}

static void
c11_green(void *arg)
{
	(void)c11_thread(arg);
	c11_ready++;
}

static void
c11(void *arg)
{
	struct timespec at;
	struct task t;
	thrd_t thread;
	int result = 0;

	(void)arg;
	assert_int_equal(mtx_init(&c11_mutex, mtx_timed), thrd_success);
	assert_int_equal(cnd_init(&c11_cond), thrd_success);
	assert_int_equal(thrd_create(&thread, c11_thread, NULL), thrd_success);
	task_start(&t, c11_green, NULL);
	call_once(&c11_once, c11_init);
	assert_int_equal(c11_calls, 1);
	after_50ms();
	assert_int_equal(mtx_lock(&c11_mutex), thrd_success);
	at = in_ms(CLOCK_REALTIME, 20);
	assert_int_equal(cnd_timedwait(&c11_cond, &c11_mutex, &at), thrd_timedout);
	c11_ready = 1;
	assert_int_equal(cnd_broadcast(&c11_cond), thrd_success);
	after_50ms(); /* they wait for the mutex */
	assert_int_equal(c11_ready, 1);
	assert_int_equal(mtx_unlock(&c11_mutex), thrd_success);
	assert_int_equal(thrd_join(thread, &result), thrd_success);
	assert_int_equal(result, 42);
	while (c11_ready < 2)
		thrd_yield();
	mtx_destroy(&c11_mutex);
	cnd_destroy(&c11_cond);
}

static void
test_c11_threads(void **state)
{
	(void)state;
	run_beside_beat(c11, NULL);
}

/* ---- signals ---- */

static void
send_signal(int sig)
{
	assert_int_equal(kill(getpid(), sig), 0);
}

static volatile sig_atomic_t handled;

static void
on_signal(int sig)
{
	handled = sig;
}

static void
signal_waits(void *arg)
{
	struct timespec ts = {0, 20 * MS};
	sigset_t set, old;
	siginfo_t info;
	struct later l;
	int sig = 0;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, &old), 0);
	assert_int_equal(sigtimedwait(&set, &info, &ts), -1);
	assert_int_equal(errno, EAGAIN);
	later(&l, send_signal, SIGUSR1);
	assert_int_equal(sigwait(&set, &sig), 0);
	assert_int_equal(sig, SIGUSR1);
	later(&l, send_signal, SIGUSR2);
	assert_int_equal(sigwaitinfo(&set, &info), SIGUSR2);
	assert_int_equal(info.si_pid, getpid());
	send_signal(SIGUSR2); /* pending already */
	ts.tv_sec = 10;
	assert_int_equal(sigtimedwait(&set, NULL, &ts), SIGUSR2);
	assert_int_equal(signal(SIGUSR2, on_signal), SIG_DFL);
	later(&l, send_signal, SIGUSR2);
	handled = 0;
	assert_int_equal(sigsuspend(&old), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(handled, SIGUSR2);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
	assert_int_equal(signal(SIGUSR2, SIG_DFL), on_signal);
}

static void
test_waiting_for_signals(void **state)
{
	(void)state;
	run_beside_beat(signal_waits, NULL);
}

static pthread_t parked;

static void
be_parked(void *arg)
{
	(void)arg;
	parked = pthread_self();
	after_50ms();
	after_50ms();
}

static void
kill_a_green_thread(void *arg)
{
	struct task t;

	(void)arg;
	assert_int_equal(signal(SIGUSR2, on_signal), SIG_DFL);
	task_start(&t, be_parked, NULL);
	after_50ms();
	handled = 0;
	assert_int_equal(pthread_kill(parked, 0), 0);
	assert_int_equal(pthread_kill(parked, SIGUSR2), 0);
	assert_int_equal(handled, SIGUSR2);
	handled = 0;
	assert_int_equal(pthread_kill(pthread_self(), SIGUSR2), 0);
	assert_int_equal(handled, SIGUSR2);
	assert_int_equal(signal(SIGUSR2, SIG_DFL), on_signal);
}

static void
test_pthread_kill(void **state)
{
	(void)state;
	run_beside_beat(kill_a_green_thread, NULL);
}

/* ---- look-ups: a name server that takes its time, and knows nothing ---- */

static void
name_server(void *arg)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	unsigned char msg[512];
	int fd = *(int *)arg;
	ssize_t n = recvfrom(fd, msg, sizeof(msg), 0, (struct sockaddr *)&from, &len);

	assert_true(n > 12);
	after_50ms();
	msg[2] |= 0x80;                      /* an answer */
	msg[3] = (msg[3] & 0xf0) | NXDOMAIN; /* there is no such name */
	assert_int_equal(sendto(fd, msg, (size_t)n, 0, (struct sockaddr *)&from, len), n);
}

static void
resolve(void *arg)
{
	struct __res_state res = {0};
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	unsigned char answer[512];
	struct task t;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)arg;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(res_ninit(&res), 0);
	res.nscount = 1;
	res.nsaddr_list[0] = addr;
	task_start(&t, name_server, &fd);
	h_errno = 0;
	assert_int_equal(res_nquery(&res, "x.test", ns_c_in, ns_t_srv, answer, sizeof(answer)), -1);
	assert_int_equal(h_errno, HOST_NOT_FOUND);
	res_nclose(&res);
	close(fd);
}

static void
test_resolver(void **state)
{
	(void)state;
	run_beside_beat(resolve, NULL);
}

static void
users_and_groups(void *arg)
{
	struct passwd pw, *found = NULL;
	struct group *gr;
	char buf[4096];

	(void)arg;
	assert_int_equal(getpwuid_r(0, &pw, buf, sizeof(buf), &found), 0);
	assert_ptr_equal(found, &pw);
	assert_int_equal(getpwuid_r(0, &pw, buf, 1, &found), ERANGE);
	assert_null(found);
	assert_string_equal(getpwnam("root")->pw_name, "root");
	gr = getgrgid(0);
	assert_non_null(gr);
	assert_null(getgrnam("no-such-group-here"));
	after_50ms();
}

static void
test_users_and_groups(void **state)
{
	(void)state;
	run_beside_beat(users_and_groups, NULL);
}

/* ---- clocks ---- */

static void
other_clocks(void *arg)
{
	struct timespec ts = {0, 20 * MS}, at;
	int64_t start = green_now();

	(void)arg;
	assert_int_equal(clock_nanosleep(CLOCK_BOOTTIME, 0, &ts, NULL), 0);
	at = in_ms(CLOCK_TAI, 20);
	assert_int_equal(clock_nanosleep(CLOCK_TAI, TIMER_ABSTIME, &at, NULL), 0);
	assert_true(green_now() - start >= 40 * MS);
	assert_int_equal(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL), EINVAL);
	after_50ms();
}

static void
test_other_clocks(void **state)
{
	(void)state;
	run_beside_beat(other_clocks, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    CASE(test_barrier),
	    CASE(test_joins),
	    CASE(test_semaphore_sets),
	    CASE(test_message_queues),
	    CASE(test_posix_queues),
	    CASE(test_asynchronous_io),
	    CASE(test_shared_futex),
	    CASE(test_futex_bits),
	    CASE(test_priority_inheriting_mutex),
	    CASE(test_robust_mutex),
	    CASE(test_c11_threads),
	    CASE(test_waiting_for_signals),
	    CASE(test_pthread_kill),
	    CASE(test_resolver),
	    CASE(test_users_and_groups),
	    CASE(test_other_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
