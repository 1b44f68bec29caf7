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

static int
scoreboard_map(struct scoreboard *sb, int fd, size_t nrows)
{
	void *p = mmap(NULL, nrows * ROW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -1;
	*sb = (struct scoreboard){.fd = fd, .nrows = nrows, .rows = p};
	return 0;
}

/* Sealed, so that no worker can cut it short under the master's feet (SIGBUS). */
int
scoreboard_create(struct scoreboard *sb, size_t nrows)
{
	int saved_errno, fd;

	if ((fd = memfd_create("greenicorn-scoreboard", MFD_CLOEXEC | MFD_ALLOW_SEALING)) == -1)
		return -1;
	if (ftruncate(fd, (off_t)(nrows * ROW_SIZE)) == -1 ||
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
		if ((size_t)st.st_size >= ROW_SIZE &&
		    scoreboard_map(sb, fd, (size_t)st.st_size / ROW_SIZE) == 0)
			return 0;
		if ((size_t)st.st_size < ROW_SIZE)
			errno = EINVAL;
	}
	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return -1;
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
		(void)madvise(sb->rows, sb->nrows * ROW_SIZE, MADV_DONTFORK);
}

void
scoreboard_close(struct scoreboard *sb)
{
	munmap(sb->rows, sb->nrows * ROW_SIZE);
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
