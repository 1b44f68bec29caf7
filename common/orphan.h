/* A process that is nobody's child here. */
#ifndef COMMON_ORPHAN_H
#define COMMON_ORPHAN_H

#include <sys/types.h>

/*
 * fork(2) twice: the new process becomes the child of the next subreaper (prctl(2)) or of process
 * 1, and is so when this returns; the one in between is reaped. 0 in the new process, its pid in
 * the caller, -1 with errno.
 */
pid_t orphan_fork(void);

#endif
