/* The shared scoreboard: a sealed memfd, mapped by the master and every worker. */
#include "common/scoreboard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What a row takes, with its requests. */
#define ROW_SIZE \
	(sizeof(struct scoreboard_row) + SCOREBOARD_REQUESTS * sizeof(struct scoreboard_request))

/* Behind the rows and the requests is the head. */
static size_t
scoreboard_size(size_t nrows)
{
	return nrows * ROW_SIZE + sizeof(struct scoreboard_head);
}

static int
scoreboard_map(struct scoreboard *sb, int fd, size_t nrows)
{
	char *p = mmap(NULL, scoreboard_size(nrows), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -1;
	*sb = (struct scoreboard){.fd = fd,
	    .nrows = nrows,
	    .rows = (struct scoreboard_row *)p,
	    .head = (struct scoreboard_head *)(p + nrows * ROW_SIZE)};
	return 0;
}

/* Sealed, so that no worker can cut it short under the master's feet (SIGBUS). */
int
scoreboard_create(struct scoreboard *sb, size_t nrows)
{
	int saved_errno, fd;

	if ((fd = memfd_create("greenicorn-scoreboard", MFD_CLOEXEC | MFD_ALLOW_SEALING)) == -1)
		return -1;
	if (ftruncate(fd, (off_t)scoreboard_size(nrows)) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1 ||
	    scoreboard_map(sb, fd, nrows) == -1) {
		saved_errno = errno;
		close(fd);
		errno = saved_errno;
		return -1;
	}
	return 0;
}

int
scoreboard_attach(struct scoreboard *sb, int fd)
{
	struct stat st;
	int saved_errno;

	if (fstat(fd, &st) == 0) {
		size_t size = (size_t)st.st_size, head = sizeof(struct scoreboard_head);

		if (size < scoreboard_size(1))
			errno = EINVAL;
		else if (scoreboard_map(sb, fd, (size - head) / ROW_SIZE) == 0)
			return 0;
	}
	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return -1;
}

size_t
scoreboard_used(const struct scoreboard *sb)
{
	uint64_t used =
	    sb->nrows == 0 ? 0 : atomic_load_explicit(&sb->head->used, memory_order_relaxed);

	return used < sb->nrows ? (size_t)used : sb->nrows;
}

void
scoreboard_use(const struct scoreboard *sb, size_t row)
{
	if (atomic_load(&sb->head->used) <= row)
		atomic_store(&sb->head->used, row + 1);
}

struct scoreboard_request *
scoreboard_requests(const struct scoreboard *sb, size_t row)
{
	return (struct scoreboard_request *)(sb->rows + sb->nrows) + row * SCOREBOARD_REQUESTS;
}

void
scoreboard_keep(const struct scoreboard *sb)
{
	if (sb->rows != NULL)
		(void)madvise(sb->rows, scoreboard_size(sb->nrows), MADV_DONTFORK);
}

void
scoreboard_close(struct scoreboard *sb)
{
	munmap(sb->rows, scoreboard_size(sb->nrows));
	close(sb->fd);
	*sb = (struct scoreboard){.fd = -1};
}

uint64_t
scoreboard_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
