/*
 * What the green threads cost: a switch, a park and wake through a hooked call, and a
 * hooked call that does not block, beside the real one. Prints nanoseconds; `./dev bench green`.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/event.h>

#include "worker/green/green.h"
#include "worker/green/real.h"

#define N 1000000

static int left;

static void
done(void)
{
	if (--left == 0)
		green_loop_stop();
}

static void
report(const char *what, int64_t start, int n)
{
	printf("%-58s %7.1f ns\n", what, (double)(green_now() - start) / n);
}

/* ---- switching ---- */

static void
yielder(void *arg)
{
	for (int i = 0; i < N; i++)
		green_yield();
	(void)arg;
	done();
}

static struct green *sides[2];

static void
wakers(void *arg)
{
	int side = arg != NULL;

	sides[side] = green_self();
	for (int i = 0; i < N; i++) {
		if (sides[!side] != NULL)
			green_wake(sides[!side]);
		(void)green_park(green_deadline(1000000000));
	}
	green_wake(sides[!side]);
	done();
}

static sem_t sems[2];

static void
sem_players(void *arg)
{
	int side = arg != NULL;

	for (int i = 0; i < N / 4; i++) {
		sem_post(&sems[!side]);
		sem_wait(&sems[side]);
	}
	done();
}

static void
run_two(void (*fn)(void *), int pool)
{
	static struct green_job jobs[64];

	left = pool;
	for (int i = 0; i < pool; i++) {
		jobs[i] = (struct green_job){.fn = fn, .arg = i ? &jobs[i] : NULL};
		green_run(&jobs[i]);
	}
	green_loop();
}

/* ---- hooked calls that do not block, beside the real ones ---- */

#define ROUNDS 300
#define CALLS  1000

static int sock[2], file, null;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static char buf[64];

/* What a call costs, as it is (hooked) and as libc's own: name, body with CALL(function). */
#define BODIES                                                                                \
	BODY("send and recv on a socket", CALL(send)(sock[1], buf, 1, 0);                     \
	     CALL(recv)(sock[0], buf, 1, 0))                                                  \
	BODY("write and read on a socket", CALL(write)(sock[1], buf, 1);                      \
	     CALL(read)(sock[0], buf, 1))                                                     \
	BODY("recv of nothing, O_NONBLOCK", CALL(recv)(null_socket, buf, 1, 0))               \
	BODY("write to /dev/null", CALL(write)(null, buf, 1))                                 \
	BODY("lseek and read of a file", lseek(file, 0, SEEK_SET); CALL(read)(file, buf, 64)) \
	BODY("poll of what is ready", CALL(poll)(&writable, 1, 1000))                         \
	BODY("open and close", CALL(close)(CALL(openat)(AT_FDCWD, "/dev/null", O_RDWR)))      \
	BODY("open for reading only, and close",                                              \
	    CALL(close)(CALL(openat)(AT_FDCWD, "/etc/passwd", O_RDONLY)))                     \
	BODY("fcntl, F_GETFL", CALL(fcntl)(null, F_GETFL))                                    \
	BODY("mutex, lock and unlock", CALL(pthread_mutex_lock)(&mutex);                      \
	     CALL(pthread_mutex_unlock)(&mutex))                                              \
	BODY("semaphore, post and wait", CALL(sem_post)(&sem); CALL(sem_wait)(&sem))          \
	BODY("condition, signal", CALL(pthread_cond_signal)(&cond))                           \
	BODY("syscall(SYS_futex), wake", CALL(syscall)(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1))

static struct pollfd writable = {.events = POLLOUT};
static int null_socket;
static int word;

enum { HOOKED, LIBCS, NWAYS };

#define BODY(name, ...) __COUNTER__,
enum { NBODIES = sizeof((int[]){BODIES}) / sizeof(int) };
#undef BODY

static void
run_body(int which, int way)
{
	int body = 0;

#define CALL(function) (way == HOOKED ? function : REAL(function))
#define BODY(name, ...)                           \
	if (which == body++)                      \
		for (int i = 0; i < CALLS; i++) { \
			__VA_ARGS__;              \
		}
	BODIES
#undef BODY
}

static const char *
body_name(int which)
{
#define BODY(name, ...) name,
	static const char *const names[] = {BODIES};
#undef BODY
	return names[which];
}

/* The least of several rounds, in which the two take turns: what else runs only adds. */
static void
compare_calls(const char *where)
{
	printf("\n%-44s %9s %9s %9s\n", where, "libc's", "hooked", "more");
	for (int which = 0; which < NBODIES; which++) {
		double best[NWAYS] = {1e9, 1e9};

		for (int round = 0; round < ROUNDS; round++)
			for (int way = 0; way < NWAYS; way++) {
				int64_t start = green_now();
				double ns;

				run_body(which, way);
				ns = (double)(green_now() - start) / CALLS;
				best[way] = ns < best[way] ? ns : best[way];
			}
		printf("%-44s %6.1f ns %6.1f ns %6.1f ns\n", body_name(which), best[LIBCS],
		    best[HOOKED], best[HOOKED] - best[LIBCS]);
	}
}

static void
calls_prepare(void)
{
	int other[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == -1 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, other) == -1 ||
	    (file = open("/proc/self/exe", O_RDONLY)) == -1 ||
	    (null = open("/dev/null", O_RDWR)) == -1)
		exit(1);
	null_socket = other[0];
	writable.fd = sock[0];
	sem_init(&sem, 0, 0);
}

static void
hooked_calls(void *arg)
{
	(void)arg;
	compare_calls("on a green thread, without waiting");
	done();
}

static void *
calls_of_thread(void *arg)
{
	compare_calls("on an OS thread");
	return arg;
}

/* ---- calls that a helper makes, and waits with nothing in between ---- */

static void
helpers(void *arg)
{
	int64_t start;

	(void)arg;
	(void)fsync(null); /* the helper is there */
	start = green_now();
	for (int i = 0; i < N / 50; i++)
		(void)fsync(null);
	report("a call by a helper (fsync that does nothing)", start, N / 50);
	done();
}

static int ball[2];

static void
players(void *arg)
{
	int side = arg != NULL;

	for (int i = 0; i < N / 20; i++) {
		if (side == 0 || i > 0)
			(void)!write(ball[side], buf, 1);
		(void)!read(ball[side], buf, 1);
	}
	if (side == 1)
		(void)!write(ball[side], buf, 1);
	done();
}

int
main(void)
{
	struct event_base *base = green_event_base_new();
	pthread_t thread;
	int64_t start;

	if (base == NULL || green_init(base, NULL) == -1)
		return 1;
	run_two(yielder, 64);
	start = green_now();
	run_two(yielder, 64);
	report("yield, 64 runnable (there and back through the loop)", start, 64 * N);
	start = green_now();
	run_two(wakers, 2);
	report("wake another and park with a deadline", start, 2 * N);
	sem_init(&sems[0], 0, 0);
	sem_init(&sems[1], 0, 0);
	start = green_now();
	run_two(sem_players, 2);
	report("sem_post and sem_wait that parks", start, N / 2);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ball) == -1)
		return 1;
	start = green_now();
	run_two(players, 2);
	report("write, and read that parks, on a socket", start, N / 10);
	calls_prepare();
	run_two(helpers, 1);
	run_two(hooked_calls, 1);
	if (pthread_create(&thread, NULL, calls_of_thread, NULL) == 0)
		pthread_join(thread, NULL);
	green_fini();
	event_base_free(base);
	return 0;
}
