/* Looking at green threads: what each waits for, as whom one can be seen, who waits for whom. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "tests/unit/green_tasks.h"

static pthread_mutex_t mutex_a = PTHREAD_MUTEX_INITIALIZER, mutex_b = PTHREAD_MUTEX_INITIALIZER;

/* ---- what they wait for ---- */

static struct green_view seen[16];
static size_t nseen;

static void
see(const struct green_view *v, void *arg)
{
	(void)arg;
	if (v->tag != NULL && nseen < 16)
		seen[nseen++] = *v;
}

static const struct green_view *
seen_with(const void *tag)
{
	for (size_t i = 0; i < nseen; i++)
		if (seen[i].tag == tag)
			return &seen[i];
	fail();
	return NULL;
}

static int a_pipe[2];
static char sleeps[1], reads[1], locks[1], looks[1];

static void
sleeper(void *arg)
{
	green_tag_set(arg);
	green_sleep_until(green_deadline(500 * MS));
	green_tag_set(NULL);
}

static void
reader(void *arg)
{
	char c;

	green_tag_set(arg);
	assert_int_equal(read(a_pipe[0], &c, 1), 1);
	green_tag_set(NULL);
}

static void
locker(void *arg)
{
	green_tag_set(arg);
	pthread_mutex_lock(&mutex_a);
	pthread_mutex_unlock(&mutex_a);
	green_tag_set(NULL);
}

static __thread int identity;

static void
identify(void *arg)
{
	*(int **)arg = &identity;
}

static void
looker(void *arg)
{
	int *worn = NULL;

	green_tag_set(arg);
	pthread_mutex_lock(&mutex_a);
	green_sleep_until(green_deadline(100 * MS)); /* the others park meanwhile */
	nseen = 0;
	green_each(see, NULL);
	assert_int_equal(nseen, 4);
	assert_ptr_equal(seen[0].tag, looks);
	assert_true(seen[0].running && !seen[0].parked);
	assert_int_equal(seen_with(sleeps)->waiting.on, GREEN_ON_TIME);
	assert_int_equal(seen_with(reads)->waiting.on, GREEN_ON_READ);
	assert_int_equal(seen_with(reads)->waiting.object, a_pipe[0]);
	assert_int_equal(seen_with(locks)->waiting.on, GREEN_ON_MUTEX);
	assert_int_equal(seen_with(locks)->holder, seen[0].tid);
	green_wear(seen_with(reads)->green, identify, &worn);
	assert_non_null(worn);
	assert_ptr_not_equal(worn, &identity);
	assert_ptr_equal(green_self(), seen[0].green); /* ourselves again */
	pthread_mutex_unlock(&mutex_a);
	assert_int_equal(write(a_pipe[1], "x", 1), 1);
	green_tag_set(NULL);
}

static void
test_each_says_what_it_waits_for(void **state)
{
	struct task t[4];

	(void)state;
	assert_int_equal(pipe(a_pipe), 0);
	task_start(&t[0], looker, looks);
	task_start(&t[1], sleeper, sleeps);
	task_start(&t[2], reader, reads);
	task_start(&t[3], locker, locks);
	run_all();
	close(a_pipe[0]);
	close(a_pipe[1]);
}

/* ---- turns ---- */

static void
test_turns(void **state)
{
	_Atomic uint32_t word = 0;
	struct task t;

	(void)state;
	assert_int_equal(green_turn() & 1, 0); /* the loop's */
	green_kick_at_turn(&word);
	task_start(&t, sleeper, sleeps);
	uint64_t before = green_turn();
	run_all();
	assert_int_equal(green_turn() & 1, 0);
	assert_true(green_turn() > before);
	assert_int_equal(word, 1);
}

/* ---- deadlocks ---- */

static size_t nmembers;

static void
member(struct green *g, void *arg)
{
	(void)g;
	(void)arg;
	nmembers++;
}

struct pair {
	pthread_mutex_t *first, *second;
	bool timed;
};

/* In the end one gives up, so that the test can go on. */
static void
take_two(void *arg)
{
	struct pair *p = arg;
	struct timespec at;

	pthread_mutex_lock(p->first);
	green_sleep_until(green_deadline(50 * MS));
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += 1;
	if (!p->timed)
		pthread_mutex_lock(p->second);
	if (!p->timed || pthread_mutex_timedlock(p->second, &at) == 0)
		pthread_mutex_unlock(p->second);
	pthread_mutex_unlock(p->first);
}

/* With a deadline there is a way out: no deadlock. */
static void
look_for_none(void *arg)
{
	(void)arg;
	for (int i = 0; i < 5; i++) {
		green_sleep_until(green_deadline(100 * MS));
		assert_false(green_deadlock_find(member, NULL));
	}
}

static void
test_a_way_out_is_no_deadlock(void **state)
{
	struct pair p[2] = {{&mutex_a, &mutex_b, true}, {&mutex_b, &mutex_a, false}};
	struct task t[3];

	(void)state;
	task_start(&t[0], take_two, &p[0]);
	task_start(&t[1], take_two, &p[1]);
	task_start(&t[2], look_for_none, NULL);
	run_all();
	assert_int_equal(nmembers, 0);
}

/* A lock of a runtime's own, as Python's: a mutex stands for it here. */
static void
take_two_locks(void *arg)
{
	struct pair *p = arg;

	for (int i = 0; i < 2; i++) {
		pthread_mutex_t *m = i == 0 ? p->first : p->second;

		green_lock_begin(m);
		pthread_mutex_lock(m);
		green_lock_end(m, true);
		green_sleep_until(green_deadline(50 * MS));
	}
	green_lock_released(p->second);
	pthread_mutex_unlock(p->second);
	green_lock_released(p->first);
	pthread_mutex_unlock(p->first);
}

/* Found at the second look, told once; then untied by force. */
static void
look_and_untie(void *arg)
{
	struct pair *p = arg;

	green_sleep_until(green_deadline(200 * MS));
	assert_false(green_deadlock_find(member, NULL));
	assert_int_equal(nmembers, 0);
	assert_true(green_deadlock_find(member, NULL));
	assert_int_equal(nmembers, 2);
	assert_false(green_deadlock_find(member, NULL));
	green_lock_released(p->first);
	pthread_mutex_unlock(p->first); /* another's: a normal mutex does not mind */
}

static void
test_a_deadlock_is_found(void **state)
{
	static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
	struct pair p[2] = {{&a, &b, false}, {&b, &a, false}};
	struct task t[3];

	(void)state;
	nmembers = 0;
	task_start(&t[0], take_two_locks, &p[0]);
	task_start(&t[1], take_two_locks, &p[1]);
	task_start(&t[2], look_and_untie, &p[0]);
	run_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_each_says_what_it_waits_for, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_way_out_is_no_deadlock, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_deadlock_is_found, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
