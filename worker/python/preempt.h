/*
 * Making a green thread that computes let others run (the setting `preempt`): an OS thread that
 * asks for the GIL. Python then takes it from who has it at the next bytecode boundary,
 * where that one waits, as threads do, for its turn to come again: a hooked wait, that is, it
 * parks.
 */
#ifndef PYTHON_PREEMPT_H
#define PYTHON_PREEMPT_H

#include <stdint.h>

/* Once Python has started. There is no thread until it is needed. */
void preempt_open(void);

/* End that turn (green_turn). For one OS thread; no effect before preempt_open, after
 * preempt_close. */
void preempt_turn(uint64_t turn);

/* On a green thread that is not attached: nobody asks for the GIL afterwards. */
void preempt_close(void);

#endif
