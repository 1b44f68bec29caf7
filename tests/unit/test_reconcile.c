/*
 * What the master decides, without processes: a table of workers wanted and
 * present, and the actions that follow. Also the back-off and the splitting of words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "master/backoff.h"
#include "master/reconcile.h"
#include "master/words.h"

#define S   BACKOFF_SECOND
#define NOW (1000 * S)

/*
 * A child is a letter for its state (s starting, r ready, o ready but asking to be replaced,
 * x stopping) and a digit
 * for its generation; oldest first. An action is + (spawn), or t (stop), a (abort), k (kill) and
 * the child's index.
 */
static size_t
children_read(struct child *children, const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text += 2 + (text[2] == ' '), n++) {
		children[n] = (struct child){.pid = 100 + (int)n,
		    .generation = (unsigned)(text[1] - '0'),
		    .state = text[0] == 's'   ? CHILD_STARTING
			     : text[0] == 'x' ? CHILD_STOPPING
					      : CHILD_READY,
		    .retiring = text[0] == 'o',
		    .spawned = NOW - 5 * S,
		    .kill_at = text[0] == 'x' ? NOW + 20 * S : CHILD_NEVER};
		if (children[n].state == CHILD_READY)
			children[n].ready_at = NOW - 4 * S;
	}
	return n;
}

static void
plan_print(const struct plan *plan, char *out, size_t size)
{
	static const char letters[] = "+tak";
	size_t used = 0;

	*out = '\0';
	for (size_t i = 0; i < plan->n; i++) {
		enum action_kind kind = plan->actions[i].kind;

		used +=
		    (size_t)snprintf(out + used, size - used, "%s%c", i ? " " : "", letters[kind]);
		if (kind != ACTION_SPAWN)
			used += (size_t)snprintf(
			    out + used, size - used, "%zu", plan->actions[i].child);
	}
}

static void
test_numbers(void **state)
{
	static const struct {
		const char *what;
		size_t workers;
		unsigned generation;
		bool proven;
		const char *children, *actions;
	} cases[] = {
	    {"the first start", 3, 1, false, "", "+ + +"},
	    {"all are there", 2, 1, true, "r1 r1", ""},
	    {"all are on their way", 2, 1, false, "s1 s1", ""},
	    {"one died", 3, 1, true, "r1 r1", "+"},
	    {"one is stopping and does not count", 2, 1, true, "x1 r1", "+"},
	    {"TTIN", 4, 1, true, "r1 r1 r1", "+"},
	    {"TTOU: the oldest", 2, 1, true, "r1 r1 r1", "t0"},
	    {"TTOU: rather one that is not ready", 2, 1, true, "r1 r1 s1", "t2"},
	    {"TTOU twice", 1, 1, true, "r1 s1 r1", "t1 t0"},
	    {"the server stops", 0, 1, true, "r1 s1 x1", "t1 t0"},
	    {"the server stops during a reload", 0, 2, false, "r1 r1 s2", "t0 t1 t2"},
	    {"all has stopped", 0, 1, true, "", ""},

	    {"HUP: one goes first", 4, 2, false, "r1 r1 r1 r1", "+"},
	    {"HUP: wait for it", 4, 2, false, "r1 r1 r1 r1 s2", ""},
	    {"HUP: it is ready, one old goes, the next comes", 4, 2, true, "r1 r1 r1 r1 r2", "t0"},
	    {"HUP: and then", 4, 2, true, "x1 r1 r1 r1 r2", "+"},
	    {"HUP: two new", 4, 2, true, "x1 r1 r1 r1 r2 r2", "t1"},
	    {"HUP: one more at a time", 8, 2, true, "r1 r1 r1 r1 r1 r1 r1 r2", "+"},
	    {"HUP: the last", 2, 2, true, "x1 r1 r2 r2", "t1"},
	    {"HUP: one worker", 1, 2, false, "r1", "+"},
	    {"HUP: one worker, the new one is ready", 1, 2, true, "r1 r2", "t0"},
	    {"HUP: one of the old was still starting", 2, 2, false, "r1 s1", "t1 +"},
	    {"HUP: no old one lives any more", 3, 2, false, "", "+ + +"},
	    {"HUP to fewer workers", 1, 2, true, "r1 r1 r1 r2", "t0 t1 t2"},
	    {"HUP to more workers", 4, 2, true, "r1 r2", "+ + +"},
	    {"HUP to more workers, before the first is ready", 4, 2, false, "r1", "+"},
	    {"one asks to be replaced: its successor comes first", 2, 1, true, "o1 r1", "+"},
	    {"its successor is starting", 2, 1, true, "o1 r1 s1", ""},
	    {"its successor is ready", 2, 1, true, "o1 r1 r1", "t0"},
	    {"both ask: one at a time", 2, 1, true, "o1 o1", "+"},
	    {"both ask: the first goes", 2, 1, true, "o1 o1 r1", "t0"},
	    {"it asks, and a HUP comes", 2, 2, false, "o1 r1", "+"},
	    {"it asks, and TTOU comes", 1, 1, true, "o1 r1", "t0"},

	    {"rolled back: the failed one goes", 2, 1, true, "r1 r1 s2", "t2"},
	    {"rolled back: one of the old died meanwhile", 2, 1, true, "r1 x2", "+"},
	    {"rolled back, after the old had none left", 2, 1, true, "x1 x1", "+ +"},
	};
	struct child children[16];
	struct action actions[32];
	struct plan plan = {.actions = actions};
	char found[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wanted wanted = {.workers = cases[i].workers,
		    .generation = cases[i].generation,
		    .proven = cases[i].proven,
		    .surge = 1,
		    .timeout = 30 * S,
		    .boot_timeout = 60 * S};
		size_t n = children_read(children, cases[i].children);

		reconcile(&wanted, children, n, NOW, &plan);
		plan_print(&plan, found, sizeof(found));
		if (strcmp(found, cases[i].actions) != 0)
			fail_msg(
			    "%s: \"%s\", expected \"%s\"", cases[i].what, found, cases[i].actions);
	}
}

static void
test_surge(void **state)
{
	struct wanted wanted = {.workers = 4, .generation = 2, .proven = true, .surge = 3};
	struct child children[8];
	struct action actions[16];
	struct plan plan = {.actions = actions};
	char found[64];

	(void)state;
	reconcile(&wanted, children, children_read(children, "r1 r1 r1 r1"), NOW, &plan);
	plan_print(&plan, found, sizeof(found));
	assert_string_equal(found, "+ + +");
	reconcile(&wanted, children, children_read(children, "r1 r1 r1 r1 s2 s2 s2"), NOW, &plan);
	assert_int_equal(plan.n, 0);
	wanted.proven = false;
	reconcile(&wanted, children, children_read(children, "r1 r1 r1 r1"), NOW, &plan);
	assert_int_equal(plan.n, 1);
}

/*
 * Random sequences of events on a model of the master, which does what the plans say.
 * Always: a plan never leaves fewer ready workers than wanted if there were as many, nor more
 * processes than wanted and the surge; and when nothing more happens all becomes as wanted.
 */
#define MODEL_MAX 64

struct model {
	struct wanted wanted;
	struct child children[MODEL_MAX];
	size_t n;
	uint64_t now;
	uint32_t random;
};

static uint32_t
model_random(struct model *m, uint32_t below)
{
	m->random = m->random * 1664525u + 1013904223u;
	return (m->random >> 8) % below;
}

static size_t
model_count(const struct model *m, enum child_state state, bool of_wanted_only)
{
	size_t count = 0;

	for (size_t i = 0; i < m->n; i++)
		count += m->children[i].state == state &&
			 (!of_wanted_only || m->children[i].generation == m->wanted.generation);
	return count;
}

static void
model_bury(struct model *m, size_t i)
{
	memmove(&m->children[i], &m->children[i + 1], (m->n - i - 1) * sizeof(m->children[0]));
	m->n--;
}

static void
model_act(struct model *m, const struct action *a)
{
	struct child *c = &m->children[a->child];

	switch (a->kind) {
	case ACTION_SPAWN:
		assert_true(m->n < MODEL_MAX);
		m->children[m->n++] = (struct child){.generation = m->wanted.generation,
		    .state = CHILD_STARTING,
		    .spawned = m->now,
		    .kill_at = CHILD_NEVER};
		break;
	case ACTION_STOP:
	case ACTION_ABORT:
		assert_int_not_equal(c->state, CHILD_STOPPING);
		c->state = CHILD_STOPPING;
		c->kill_at = m->now + 5 * S;
		break;
	case ACTION_KILL:
		assert_int_equal(c->state, CHILD_STOPPING);
		c->kill_at = CHILD_NEVER;
		break;
	}
}

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t
most(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void
model_reconcile(struct model *m)
{
	struct action actions[2 * MODEL_MAX];
	struct plan plan = {.actions = actions};
	size_t ready, still, old, processes, rounds = 0;
	bool deadlines, spawned;

	do {
		ready = model_count(m, CHILD_READY, false);
		old = ready - model_count(m, CHILD_READY, true);
		deadlines = spawned = false;
		reconcile(&m->wanted, m->children, m->n, m->now, &plan);
		for (size_t i = 0; i < plan.n; i++) {
			deadlines |= actions[i].kind == ACTION_ABORT;
			spawned |= actions[i].kind == ACTION_SPAWN;
			model_act(m, &actions[i]);
		}
		still = model_count(m, CHILD_READY, false);
		if (!deadlines)
			assert_true(still >= least(ready, m->wanted.workers) && still <= ready);
		processes = still + model_count(m, CHILD_STARTING, false);
		if (spawned)
			assert_true(processes > 0 &&
				    processes <= most(old, m->wanted.workers) + m->wanted.surge);
		assert_true(++rounds <= 10);
	} while (plan.n > 0);
}

static void
model_ready(struct model *m, size_t i)
{
	m->children[i].state = CHILD_READY;
	m->children[i].ready_at = m->now;
	m->wanted.proven |= m->children[i].generation == m->wanted.generation;
}

/* Something happens to a child: it becomes ready, it ends as it was told, it dies. */
static void
model_child_event(struct model *m, bool deaths)
{
	size_t i;

	if (m->n == 0)
		return;
	i = model_random(m, (uint32_t)m->n);
	if (m->children[i].state == CHILD_STOPPING)
		model_bury(m, i);
	else if (m->children[i].state == CHILD_STARTING && model_random(m, 4) > 0)
		model_ready(m, i);
	else if (deaths)
		model_bury(m, i);
}

static void
model_event(struct model *m)
{
	size_t i = m->n > 0 ? model_random(m, (uint32_t)m->n) : 0;

	switch (model_random(m, 12)) {
	case 0: /* HUP */
		m->wanted.generation++;
		m->wanted.proven = false;
		m->wanted.workers = 1 + model_random(m, 6);
		m->wanted.surge = 1 + model_random(m, 3);
		break;
	case 1: /* TTIN */
		m->wanted.workers += m->wanted.workers < 8;
		break;
	case 2: /* TTOU */
		m->wanted.workers -= m->wanted.workers > 1;
		break;
	case 3:
		m->now += model_random(m, 10) * S;
		break;
	case 4: /* max_requests */
		if (m->n > 0 && m->children[i].state == CHILD_READY)
			m->children[i].retiring = m->children[i].generation == m->wanted.generation;
		break;
	default:
		model_child_event(m, true);
	}
}

static void
model_settle(struct model *m)
{
	for (int i = 0; i < 2000; i++) {
		m->now += S / 100;
		model_child_event(m, false);
		model_reconcile(m);
	}
	assert_int_equal(m->n, m->wanted.workers);
	assert_int_equal(model_count(m, CHILD_READY, true), m->wanted.workers);
}

static void
test_any_sequence(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 300; seed++) {
		struct model m = {.now = NOW, .random = seed};

		m.wanted = (struct wanted){.workers = 1 + seed % 5,
		    .generation = 1,
		    .surge = 1 + seed % 3,
		    .boot_timeout = 30 * S};
		for (int i = 0; i < 100; i++) {
			model_reconcile(&m);
			model_event(&m);
		}
		model_settle(&m);
		m.wanted.workers = 0; /* TERM */
		for (int i = 0; m.n > 0 && i < 2000; i++) {
			model_reconcile(&m);
			model_child_event(&m, true);
		}
		assert_int_equal(m.n, 0);
	}
}

static void
test_silence(void **state)
{
	struct scoreboard_row row = {0};
	struct child c = {.state = CHILD_READY, .row = &row, .generation = 1};
	struct wanted wanted = {.workers = 1, .generation = 1, .proven = true, .timeout = 30 * S};
	struct action actions[4];
	struct plan plan = {.actions = actions};

	(void)state;
	c.spawned = NOW - 100 * S;
	c.ready_at = NOW - 90 * S;
	row.heartbeat = NOW - 29 * S;
	reconcile(&wanted, &c, 1, NOW, &plan);
	assert_int_equal(plan.n, 0);
	assert_int_equal(plan.wake, NOW + 1 * S);
	row.heartbeat = NOW - 30 * S;
	reconcile(&wanted, &c, 1, NOW, &plan);
	assert_int_equal(plan.n, 1);
	assert_int_equal(actions[0].kind, ACTION_ABORT);
	wanted.timeout = 0;
	reconcile(&wanted, &c, 1, NOW, &plan);
	assert_int_equal(plan.n, 0);
	assert_int_equal(plan.wake, CHILD_NEVER);

	/* One that was never ready is judged by its start, whatever it says. */
	wanted.boot_timeout = 30 * S;
	row.heartbeat = NOW;
	c = (struct child){
	    .state = CHILD_STARTING, .generation = 1, .row = &row, .spawned = NOW - 31 * S};
	reconcile(&wanted, &c, 1, NOW, &plan);
	assert_int_equal(plan.n, 1);
	assert_int_equal(actions[0].kind, ACTION_ABORT);
}

static void
test_patience(void **state)
{
	struct child c = {.state = CHILD_STOPPING, .generation = 1, .kill_at = NOW + 5 * S};
	struct wanted wanted = {.workers = 0, .generation = 1, .timeout = 1 * S};
	struct action actions[4];
	struct plan plan = {.actions = actions};

	(void)state;
	reconcile(&wanted, &c, 1, NOW, &plan);
	assert_int_equal(plan.n, 0);
	assert_int_equal(plan.wake, NOW + 5 * S);
	reconcile(&wanted, &c, 1, NOW + 5 * S, &plan);
	assert_int_equal(plan.n, 1);
	assert_int_equal(actions[0].kind, ACTION_KILL);
	c.kill_at = CHILD_NEVER; /* it was killed: wait for its end */
	reconcile(&wanted, &c, 1, NOW + 6 * S, &plan);
	assert_int_equal(plan.n, 0);
}

static void
test_spawning_waits(void **state)
{
	struct wanted wanted = {.workers = 2, .generation = 1, .spawn_after = NOW + 3 * S};
	struct action actions[4];
	struct plan plan = {.actions = actions};

	(void)state;
	reconcile(&wanted, NULL, 0, NOW, &plan);
	assert_int_equal(plan.n, 0);
	assert_int_equal(plan.wake, NOW + 3 * S);
	reconcile(&wanted, NULL, 0, NOW + 3 * S, &plan);
	assert_int_equal(plan.n, 2);
}

static void
test_backoff(void **state)
{
	struct backoff b = {0};
	uint64_t now = NOW, seconds[8];

	(void)state;
	assert_int_equal(backoff_fail(&b, now), BACKOFF_FIRST);
	assert_int_equal(backoff_fail(&b, now + S / 10), 0); /* its neighbour, at the same time */
	for (int i = 0; i < 8; i++) {
		now = b.until;
		seconds[i] = backoff_fail(&b, now) / S;
	}
	assert_int_equal(seconds[0], 1);
	assert_int_equal(seconds[1], 2);
	assert_int_equal(seconds[2], 4);
	assert_int_equal(seconds[5], 30);
	assert_int_equal(seconds[7], 30);
	assert_int_equal(backoff_fail(&b, b.until + BACKOFF_FORGET + S), BACKOFF_FIRST);
}

static void
test_words(void **state)
{
	static const struct {
		const char *text, *words; /* joined by | */
	} cases[] = {
	    {"", ""},
	    {"  -w 4\t--bind\n0.0.0.0:80 ", "-w|4|--bind|0.0.0.0:80"},
	    {"--name 'a b' \"c d\"", "--name|a b|c d"},
	    {"a\\ b 'c\\d' \"e\\\"f\\g\"", "a b|c\\d|e\"f\\g"},
	    {"x'y'\"z\" ''", "xyz|"},
	};
	struct strlist list = {0};
	char joined[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(words_split(&list, cases[i].text), 0);
		*joined = '\0';
		for (size_t j = 0; j < list.n; j++) {
			strcat(joined, j ? "|" : "");
			strcat(joined, list.items[j]);
		}
		assert_string_equal(joined, cases[i].words);
		strlist_clear(&list);
	}
	assert_int_equal(words_split(&list, "a 'b"), -1);
	strlist_clear(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_surge),
	    cmocka_unit_test(test_any_sequence),
	    cmocka_unit_test(test_silence),
	    cmocka_unit_test(test_patience),
	    cmocka_unit_test(test_spawning_waits),
	    cmocka_unit_test(test_backoff),
	    cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
