/* The worker's name in ps(1): "greenicorn: worker [hello:app] 3 in flight". */
#ifndef WORKER_TITLE_H
#define WORKER_TITLE_H

#include <stdint.h>

/* At the start of main. The master gives the name as the only argument; whoever else does keeps
 * his. */
void worker_title_init(int argc, char **argv);

/* What it is, "worker" by itself, and how many requests it has in flight. Costs nothing unless one
 * changes. */
void worker_title_set(const char *role, uint32_t in_flight);

#endif
