/*
 * What the green threads cost: a switch, a park and wake through a hooked call, and a
 * hooked call that does not block, beside the real one. Prints nanoseconds; `./dev bench green`.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "worker/green/green.h"

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

/* ---- hooked calls that do not block ---- */

static void
hooked_calls(void *arg)
{
	ssize_t (*real_recv)(int, void *, size_t, int) =
	    (ssize_t(*)(int, void *, size_t, int))dlsym(RTLD_NEXT, "recv");
	ssize_t (*real_read)(int, void *, size_t) =
	    (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
	int (*real_lock)(pthread_mutex_t *) =
	    (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
	int (*real_unlock)(pthread_mutex_t *) =
	    (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_unlock");
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	int64_t start;
	int fds[2];
	char c;

	(void)arg;
	if (real_recv == NULL || real_read == NULL ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == -1)
		exit(1);
#define TIMES(what, body)                 \
	start = green_now();              \
	for (int i = 0; i < N / 4; i++) { \
		body;                     \
	}                                 \
	report(what, start, N / 4);

	TIMES("recv, real", send(fds[1], "x", 1, 0); real_recv(fds[0], &c, 1, 0))
	TIMES("recv, hooked", send(fds[1], "x", 1, 0); recv(fds[0], &c, 1, 0))
	TIMES("read, real", send(fds[1], "x", 1, 0); real_read(fds[0], &c, 1))
	TIMES("read, hooked", send(fds[1], "x", 1, 0); (void)!read(fds[0], &c, 1))
	TIMES("mutex lock and unlock, real", real_lock(&m); real_unlock(&m))
	TIMES("mutex lock and unlock, hooked", pthread_mutex_lock(&m); pthread_mutex_unlock(&m))
	close(fds[0]);
	close(fds[1]);
	done();
}

int
main(void)
{
	struct event_base *base = green_event_base_new();
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
	run_two(hooked_calls, 1);
	green_fini();
	event_base_free(base);
	return 0;
}
