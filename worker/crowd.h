/* Requests that wait because no more threads can be made, and the limit behind that. */
#ifndef WORKER_CROWD_H
#define WORKER_CROWD_H

/* Say so in the log, at most once a minute. On the loop, about once a second. */
void crowd_watch(void);

#endif
