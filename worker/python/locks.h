/* Who holds Python's locks, for those who look for deadlocks. */
#ifndef PYTHON_LOCKS_H
#define PYTHON_LOCKS_H

/* Attached, once: watch threading.Lock and RLock. What cannot be watched is not. */
void locks_watch(void);

#endif
