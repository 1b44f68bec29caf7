/* Threads of a C library, for thread_cases.py: each call starts one, which gives back n after a
 * while. */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

int call_later(void (*callback)(int), int n, int ms);
int join_last(void);
int by_condition(int n, int ms);
int by_semaphore(int n, int ms);
int by_join(int n, int ms);
int by_pipe(int n, int ms);

struct later {
	int n, ms, result;
	void (*callback)(int);
	pthread_mutex_t lock;
	pthread_cond_t changed;
	sem_t given;
	int pipe[2];
};

static _Thread_local pthread_t last;

static void *
call_main(void *arg)
{
	struct later *l = arg;

	usleep((unsigned)l->ms * 1000);
	l->callback(l->n);
	free(l);
	return NULL;
}

int
call_later(void (*callback)(int), int n, int ms)
{
	struct later *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -1;
	l->callback = callback;
	l->n = n;
	l->ms = ms;
	return pthread_create(&last, NULL, call_main, l);
}

int
join_last(void)
{
	return pthread_join(last, NULL);
}

static void *
give_main(void *arg)
{
	struct later *l = arg;

	usleep((unsigned)l->ms * 1000);
	pthread_mutex_lock(&l->lock);
	l->result = l->n;
	pthread_cond_signal(&l->changed);
	pthread_mutex_unlock(&l->lock);
	sem_post(&l->given);
	if (write(l->pipe[1], &l->n, sizeof(l->n)) != sizeof(l->n))
		return NULL;
	return l;
}

/* Start the thread, wait in the given way, join; -1 when anything is not as it should be. */
static int
given(int n, int ms, int (*wait)(struct later *))
{
	struct later l = {.n = n, .ms = ms, .result = -1};
	pthread_t thread;
	void *end = NULL;
	int result;

	if (pipe(l.pipe) == -1)
		return -1;
	pthread_mutex_init(&l.lock, NULL);
	pthread_cond_init(&l.changed, NULL);
	sem_init(&l.given, 0, 0);
	if (pthread_create(&thread, NULL, give_main, &l) != 0)
		return -1;
	result = wait(&l);
	if (pthread_join(thread, &end) != 0 || end != &l || l.result != n)
		result = -1;
	close(l.pipe[0]);
	close(l.pipe[1]);
	sem_destroy(&l.given);
	pthread_cond_destroy(&l.changed);
	pthread_mutex_destroy(&l.lock);
	return result;
}

static int
wait_condition(struct later *l)
{
	pthread_mutex_lock(&l->lock);
	while (l->result == -1)
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
	return l->result;
}

static int
wait_semaphore(struct later *l)
{
	return sem_wait(&l->given) == 0 ? l->n : -1;
}

static int
wait_join(struct later *l)
{
	return l->n;
}

static int
wait_pipe(struct later *l)
{
	int n;

	return read(l->pipe[0], &n, sizeof(n)) == sizeof(n) ? n : -1;
}

int
by_condition(int n, int ms)
{
	return given(n, ms, wait_condition);
}

int
by_semaphore(int n, int ms)
{
	return given(n, ms, wait_semaphore);
}

int
by_join(int n, int ms)
{
	return given(n, ms, wait_join);
}

int
by_pipe(int n, int ms)
{
	return given(n, ms, wait_pipe);
}
