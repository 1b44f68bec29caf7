/* Semaphores, mutexes, conditions, read-write locks: between green threads, and with OS threads. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/green_tasks.h"

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

static void
nap(int64_t ms)
{
	green_sleep_until(green_deadline(ms * MS));
}

/* Run fn(arg) on n green threads and also on m OS threads, all at once. */
static void *
os_thread(void *arg)
{
	void (**fn)(void) = arg;

	(*fn)();
	return NULL;
}

static void
run_on(int ngreen, int nos, void (*fn)(void))
{
	static void (*current)(void);
	struct task t[64];
	pthread_t threads[8];

	current = fn;
	for (int i = 0; i < nos; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, os_thread, &current), 0);
	for (int i = 0; i < ngreen; i++)
		task_start(&t[i], (void (*)(void *))(void *)fn, NULL);
	run_all();
	for (int i = 0; i < nos; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- mutexes ---- */

static pthread_mutex_t mutex;
static int inside, worst, entered;

static void
enter_20_times(void)
{
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_mutex_lock(&mutex), 0);
		if (++inside > worst)
			worst = inside;
		entered++;
		usleep(200); /* parks, with the mutex held */
		inside--;
		assert_int_equal(pthread_mutex_unlock(&mutex), 0);
		usleep(10);
	}
}

static void
mutual_exclusion(int type)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, type);
	pthread_mutex_init(&mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	inside = worst = entered = 0;
	run_on(20, 4, enter_20_times);
	assert_int_equal(worst, 1);
	assert_int_equal(entered, 24 * 20);
	pthread_mutex_destroy(&mutex);
}

static void
test_mutex_is_exclusive(void **state)
{
	(void)state;
	mutual_exclusion(PTHREAD_MUTEX_NORMAL);
	mutual_exclusion(PTHREAD_MUTEX_RECURSIVE);
	mutual_exclusion(PTHREAD_MUTEX_ERRORCHECK);
}

static void
recursive_mutex(void *arg)
{
	int *depth = arg;

	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	++*depth;
	nap(5);
	assert_int_equal(*depth, 1);
	--*depth;
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	nap(5);
	assert_int_equal(*depth, 0);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
}

static void
test_recursion_is_each_ones_own(void **state)
{
	pthread_mutexattr_t attr;
	struct task t[10];
	int depth = 0;

	(void)state;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	for (int i = 0; i < 10; i++)
		task_start(&t[i], recursive_mutex, &depth);
	run_all();
	pthread_mutex_destroy(&mutex);
}

static void
errorcheck_mutex(void *arg)
{
	(void)arg;
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	assert_int_equal(pthread_mutex_lock(&mutex), EDEADLK);
	nap(10);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	/* another's by now, or nobody's: not ours */
	assert_int_equal(pthread_mutex_unlock(&mutex), EPERM);
}

static void
test_errorcheck_knows_its_owner(void **state)
{
	pthread_mutexattr_t attr;
	struct task t[5];

	(void)state;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	for (int i = 0; i < 5; i++)
		task_start(&t[i], errorcheck_mutex, NULL);
	run_all();
	pthread_mutex_destroy(&mutex);
}

static int64_t held_since;

static void
hold_100ms(void *arg)
{
	(void)arg;
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	held_since = green_now();
	nap(100);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
}

static void
lock_with_timeout(void *arg)
{
	struct timespec at;
	int64_t start = green_now();

	(void)arg;
	nap(10);
	at = in_ms(CLOCK_REALTIME, 20);
	assert_int_equal(pthread_mutex_timedlock(&mutex, &at), ETIMEDOUT);
	at = in_ms(CLOCK_MONOTONIC, 20);
	assert_int_equal(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &at), ETIMEDOUT);
	assert_true(green_now() - start >= 50 * MS);
	at = in_ms(CLOCK_REALTIME, 5000);
	assert_int_equal(pthread_mutex_timedlock(&mutex, &at), 0);
	assert_true(green_now() - held_since >= 100 * MS);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
}

static void
test_mutex_timeouts(void **state)
{
	struct task a, b;

	(void)state;
	pthread_mutex_init(&mutex, NULL);
	task_start(&a, hold_100ms, NULL);
	task_start(&b, lock_with_timeout, NULL);
	run_all();
	pthread_mutex_destroy(&mutex);
}

/* ---- semaphores ---- */

static sem_t sem, answer;

static void
ping(void)
{
	for (int i = 0; i < 50; i++) {
		assert_int_equal(sem_post(&sem), 0);
		assert_int_equal(sem_wait(&answer), 0);
	}
}

static void *
pong(void *arg)
{
	int n = *(int *)arg;

	for (int i = 0; i < n; i++) {
		while (sem_wait(&sem) == -1)
			assert_int_equal(errno, EINTR);
		assert_int_equal(sem_post(&answer), 0);
	}
	return NULL;
}

static void
test_semaphores_with_a_thread(void **state)
{
	int n = 30 * 50;
	pthread_t thread;

	(void)state;
	sem_init(&sem, 0, 0);
	sem_init(&answer, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, pong, &n), 0);
	run_on(30, 0, ping);
	assert_int_equal(pthread_join(thread, NULL), 0);
	sem_destroy(&sem);
	sem_destroy(&answer);
}

static void
pong_green(void *arg)
{
	pong(arg);
}

static void
test_semaphores_among_green_threads(void **state)
{
	struct task t;
	int n = 30 * 50;

	(void)state;
	sem_init(&sem, 0, 0);
	sem_init(&answer, 0, 0);
	task_start(&t, pong_green, &n);
	run_on(30, 0, ping);
	sem_destroy(&sem);
	sem_destroy(&answer);
}

static void
sem_timeouts(void *arg)
{
	struct timespec at = in_ms(CLOCK_REALTIME, 30);
	int64_t start = green_now();

	(void)arg;
	sem_init(&sem, 0, 0);
	assert_int_equal(sem_timedwait(&sem, &at), -1);
	assert_int_equal(errno, ETIMEDOUT);
	at = in_ms(CLOCK_MONOTONIC, 30);
	assert_int_equal(sem_clockwait(&sem, CLOCK_MONOTONIC, &at), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_true(green_now() - start >= 60 * MS);
	at.tv_nsec = -1;
	assert_int_equal(sem_timedwait(&sem, &at), -1);
	assert_int_equal(errno, EINVAL);
	sem_post(&sem);
	assert_int_equal(sem_timedwait(&sem, &at), 0); /* no wait, so the time is not looked at */
	sem_destroy(&sem);
}

static void
test_semaphore_timeouts(void **state)
{
	struct task t;

	(void)state;
	task_start(&t, sem_timeouts, NULL);
	run_all();
}

static void
wait_for_other_process(void *arg)
{
	sem_t *shared = arg;

	assert_int_equal(sem_wait(shared), 0);
}

static void
test_semaphore_of_another_process(void **state)
{
	sem_t *shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct task t;
	int status;
	pid_t pid;

	(void)state;
	assert_true(shared != MAP_FAILED);
	assert_int_equal(sem_init(shared, 1, 0), 0);
	pid = fork();
	if (pid == 0) {
		usleep(50000);
		_exit(sem_post(shared) == 0 ? 0 : 1);
	}
	task_start(&t, wait_for_other_process, shared);
	run_all();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	munmap(shared, sizeof(*shared));
}

/* ---- conditions: a queue of one place, with producers and consumers of both kinds ---- */

static pthread_cond_t not_empty, not_full;
static int place, taken, sum;

static void
produce(void)
{
	for (int i = 1; i <= 20; i++) {
		assert_int_equal(pthread_mutex_lock(&mutex), 0);
		while (place != 0)
			assert_int_equal(pthread_cond_wait(&not_full, &mutex), 0);
		place = i;
		assert_int_equal(pthread_cond_signal(&not_empty), 0);
		assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	}
}

static void
consume(void)
{
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_mutex_lock(&mutex), 0);
		while (place == 0)
			assert_int_equal(pthread_cond_wait(&not_empty, &mutex), 0);
		sum += place;
		taken++;
		place = 0;
		assert_int_equal(pthread_cond_signal(&not_full), 0);
		assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	}
}

static _Atomic int role;

static void
produce_or_consume(void)
{
	if (role++ % 2)
		produce();
	else
		consume();
}

static void
test_conditions(void **state)
{
	(void)state;
	pthread_mutex_init(&mutex, NULL);
	pthread_cond_init(&not_empty, NULL);
	pthread_cond_init(&not_full, NULL);
	place = taken = sum = 0;
	role = 0;
	run_on(20, 4, produce_or_consume);
	assert_int_equal(taken, 12 * 20);
	assert_int_equal(sum, 12 * 210);
}

static void
cond_timeouts(void *arg)
{
	pthread_condattr_t attr;
	struct timespec at;
	pthread_cond_t c;
	int64_t start = green_now();

	(void)arg;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&mutex, NULL);
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	at = in_ms(CLOCK_MONOTONIC, 30);
	assert_int_equal(pthread_cond_timedwait(&c, &mutex, &at), ETIMEDOUT);
	at = in_ms(CLOCK_REALTIME, 30);
	assert_int_equal(pthread_cond_clockwait(&c, &mutex, CLOCK_REALTIME, &at), ETIMEDOUT);
	assert_true(green_now() - start >= 60 * MS);
	pthread_cond_destroy(&c);
	pthread_cond_init(&c, NULL);
	at = in_ms(CLOCK_REALTIME, 30);
	assert_int_equal(pthread_cond_timedwait(&c, &mutex, &at), ETIMEDOUT);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
	pthread_cond_destroy(&c);
}

static void
test_condition_timeouts(void **state)
{
	struct task t;

	(void)state;
	task_start(&t, cond_timeouts, NULL);
	run_all();
}

static int gate, passed;

static void
pass_gate(void)
{
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	while (!gate)
		assert_int_equal(pthread_cond_wait(&not_empty, &mutex), 0);
	passed++;
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
}

static void
open_gate(void *arg)
{
	(void)arg;
	nap(50);
	assert_int_equal(pthread_mutex_lock(&mutex), 0);
	gate = 1;
	assert_int_equal(pthread_cond_broadcast(&not_empty), 0);
	assert_int_equal(pthread_mutex_unlock(&mutex), 0);
}

static void
test_broadcast(void **state)
{
	struct task t;

	(void)state;
	pthread_mutex_init(&mutex, NULL);
	pthread_cond_init(&not_empty, NULL);
	gate = passed = 0;
	task_start(&t, open_gate, NULL);
	run_on(40, 4, pass_gate);
	assert_int_equal(passed, 44);
}

/*
 * An OS thread releases the mutex inside its wait for the condition while a green thread is
 * already parked for that mutex: nobody else would ever wake it.
 */
static _Atomic bool held, wanted, signalled;

static void *
waits_with_mutex(void *arg)
{
	pthread_mutex_lock(&mutex);
	atomic_store(&held, true);
	while (!atomic_load(&wanted))
		usleep(1000);
	usleep(20000); /* it parks */
	while (!atomic_load(&signalled))
		pthread_cond_wait(&not_empty, &mutex);
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void
wants_mutex(void *arg)
{
	(void)arg;
	while (!atomic_load(&held))
		nap(1);
	atomic_store(&wanted, true);
	pthread_mutex_lock(&mutex);
	atomic_store(&signalled, true);
	pthread_cond_signal(&not_empty);
	pthread_mutex_unlock(&mutex);
}

static void
test_condition_wait_releases_the_mutex(void **state)
{
	pthread_t thread;
	struct task t;

	(void)state;
	pthread_cond_init(&not_empty, NULL);
	assert_int_equal(pthread_create(&thread, NULL, waits_with_mutex, NULL), 0);
	task_start(&t, wants_mutex, NULL);
	run_all();
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* A cancelled wait has the mutex again when its cleanup handlers run. */
static void
release_mutex(void *arg)
{
	*(int *)arg = pthread_mutex_unlock(&mutex);
}

static void *
waits_for_ever(void *arg)
{
	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(release_mutex, arg);
	atomic_store(&held, true);
	for (;;)
		pthread_cond_wait(&not_empty, &mutex);
	pthread_cleanup_pop(0);
	return NULL;
}

static void
cancel_wait(void *arg)
{
	int unlocked = -1;
	pthread_t thread;
	void *value;

	(void)arg;
	assert_int_equal(pthread_create(&thread, NULL, waits_for_ever, &unlocked), 0);
	while (!atomic_load(&held))
		nap(1);
	pthread_mutex_lock(&mutex); /* it waits */
	pthread_mutex_unlock(&mutex);
	assert_int_equal(pthread_cancel(thread), 0);
	assert_int_equal(pthread_join(thread, &value), 0);
	assert_ptr_equal(value, PTHREAD_CANCELED);
	assert_int_equal(unlocked, 0);
}

static void
test_condition_wait_can_be_cancelled(void **state)
{
	struct task t;

	(void)state;
	atomic_store(&held, false);
	pthread_cond_init(&not_empty, NULL);
	task_start(&t, cancel_wait, NULL);
	run_all();
	assert_int_equal(pthread_mutex_trylock(&mutex), 0);
	pthread_mutex_unlock(&mutex);
}

/* ---- read-write locks ---- */

static pthread_rwlock_t rwlock;
static _Atomic int readers, writers, most_readers;

static void
read_or_write(void)
{
	bool write = role++ % 4 == 0;

	for (int i = 0; i < 10; i++) {
		if (write) {
			assert_int_equal(pthread_rwlock_wrlock(&rwlock), 0);
			assert_int_equal(writers++, 0);
			assert_int_equal(readers, 0);
			usleep(200);
			writers--;
		} else {
			assert_int_equal(pthread_rwlock_rdlock(&rwlock), 0);
			if (++readers > most_readers)
				most_readers = readers;
			assert_int_equal(writers, 0);
			usleep(200);
			readers--;
		}
		assert_int_equal(pthread_rwlock_unlock(&rwlock), 0);
	}
}

static void
test_rwlocks(void **state)
{
	(void)state;
	pthread_rwlock_init(&rwlock, NULL);
	role = 0;
	readers = writers = most_readers = 0;
	run_on(20, 4, read_or_write);
	assert_true(most_readers > 1);
}

static void
rwlock_errors(void *arg)
{
	struct timespec at;

	(void)arg;
	assert_int_equal(pthread_rwlock_wrlock(&rwlock), 0);
	assert_int_equal(pthread_rwlock_wrlock(&rwlock), EDEADLK);
	assert_int_equal(pthread_rwlock_rdlock(&rwlock), EDEADLK);
	assert_int_equal(pthread_rwlock_unlock(&rwlock), 0);
	assert_int_equal(pthread_rwlock_rdlock(&rwlock), 0);
	at = in_ms(CLOCK_REALTIME, 30);
	assert_int_equal(pthread_rwlock_timedwrlock(&rwlock, &at), ETIMEDOUT);
	at = in_ms(CLOCK_MONOTONIC, 30);
	assert_int_equal(pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &at), ETIMEDOUT);
	assert_int_equal(pthread_rwlock_unlock(&rwlock), 0);
}

static void
test_rwlock_errors(void **state)
{
	struct task t;

	(void)state;
	pthread_rwlock_init(&rwlock, NULL);
	task_start(&t, rwlock_errors, NULL);
	run_all();
}

/* ---- futexes by syscall(2), as Rust and libstdc++ use them; pthread_once ---- */

static _Atomic uint32_t word; /* 0 free, 1 taken */

static void
futex_lock_20_times(void)
{
	for (int i = 0; i < 20; i++) {
		while (atomic_exchange(&word, 1) != 0)
			syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
		if (++inside > worst)
			worst = inside;
		entered++;
		usleep(200);
		inside--;
		atomic_store(&word, 0);
		syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		usleep(10);
	}
}

static void
test_futex_lock(void **state)
{
	(void)state;
	inside = worst = entered = 0;
	run_on(20, 4, futex_lock_20_times);
	assert_int_equal(worst, 1);
	assert_int_equal(entered, 24 * 20);
}

static void
futex_errors(void *arg)
{
	struct timespec ts = {0, 30 * MS};
	int64_t start = green_now();

	(void)arg;
	word = 5;
	assert_int_equal(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 4, NULL, NULL, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 5, &ts, NULL, 0), -1);
	assert_int_equal(errno, ETIMEDOUT);
	ts = in_ms(CLOCK_MONOTONIC, 30);
	assert_int_equal(
	    syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 5, &ts, NULL, ~0), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_true(green_now() - start >= 60 * MS);
	assert_int_equal(syscall(SYS_getpid), getpid());
}

static void
test_futex_errors(void **state)
{
	struct task t;

	(void)state;
	task_start(&t, futex_errors, NULL);
	run_all();
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int inits;

static void
slow_init(void)
{
	usleep(50000);
	inits++;
}

static void
use_once(void)
{
	assert_int_equal(pthread_once(&once, slow_init), 0);
	assert_int_equal(inits, 1);
}

static void
test_once(void **state)
{
	(void)state;
	run_on(20, 2, use_once);
}

/* ---- join ---- */

static void *
sleepy_thread(void *arg)
{
	usleep(200000);
	return arg;
}

static void
join_one(void *arg)
{
	pthread_t thread;
	void *value = NULL;

	assert_int_equal(pthread_create(&thread, NULL, sleepy_thread, arg), 0);
	assert_int_equal(pthread_join(thread, &value), 0);
	assert_ptr_equal(value, arg);
	assert_int_equal(pthread_join(pthread_self(), NULL), EDEADLK);
}

static void
test_joins_overlap(void **state)
{
	struct task t[30];
	int64_t start = green_now();

	(void)state;
	for (int i = 0; i < 30; i++)
		task_start(&t[i], join_one, &t[i]);
	run_all();
	assert_true(green_now() - start < 3000 * MS); /* one by one: 6 s */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    CASE(test_mutex_is_exclusive),
	    CASE(test_recursion_is_each_ones_own),
	    CASE(test_errorcheck_knows_its_owner),
	    CASE(test_mutex_timeouts),
	    CASE(test_semaphores_with_a_thread),
	    CASE(test_semaphores_among_green_threads),
	    CASE(test_semaphore_timeouts),
	    CASE(test_semaphore_of_another_process),
	    CASE(test_conditions),
	    CASE(test_condition_timeouts),
	    CASE(test_broadcast),
	    CASE(test_condition_wait_releases_the_mutex),
	    CASE(test_condition_wait_can_be_cancelled),
	    CASE(test_rwlocks),
	    CASE(test_rwlock_errors),
	    CASE(test_futex_lock),
	    CASE(test_futex_errors),
	    CASE(test_once),
	    CASE(test_joins_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
