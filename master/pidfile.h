/* The pid file: gunicorn's manners. */
#ifndef MASTER_PIDFILE_H
#define MASTER_PIDFILE_H

#include <stddef.h>
#include <sys/types.h>

struct pidfile {
	char *path; /* owned; NULL: none */
	int fd;     /* owned; kept, to empty the file when it may not be removed any more */
};

/* The pid of another process that is alive and stands in the file at path; 0: nobody. */
pid_t pidfile_holder(const char *path);

/* Write our pid there, replacing what was there in one step. 0, or -1 with errno. */
int pidfile_write(struct pidfile *, const char *path);

/* The same on a reload: path may be the same, another, or NULL. Only what changed is touched. */
int pidfile_move(struct pidfile *, const char *path);

/* The same, where the file may still have the pid of `dead`, which is gone. */
int pidfile_inherit(struct pidfile *, const char *path, pid_t dead);

/* Remove the file, if it still has our pid. */
void pidfile_remove(struct pidfile *);

#endif
