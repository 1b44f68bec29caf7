/*
 * Telling systemd how we are: sd_notify(3)'s datagrams, written by hand so that
 * the master, which may be root, links little. Nothing happens when nobody asked to be told.
 */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Remember NOTIFY_SOCKET and WATCHDOG_USEC and take them out of the environment: they are
 * not for the workers.
 */
void notify_init(void);

/* Whether somebody wants to know. */
bool notify_wanted(void);

/* READY=1, STOPPING=1. */
void notify_ready(void);
void notify_stopping(void);

/* RELOADING=1 with the time; notify_ready ends it. */
void notify_reloading(void);

/* STATUS=text, one line. */
void notify_status(const char *text);

/* MAINPID: who the server is from here on. */
void notify_main_pid(pid_t);

/* EXTEND_TIMEOUT_USEC: starting, reloading or stopping may last for another so many ns. */
void notify_extend(uint64_t ns);

/* How often, in ns, WATCHDOG=1 is to be said; 0: never. */
uint64_t notify_watchdog_interval(void);
void notify_watchdog(void);

/* Another process speaks for the service: say nothing until told otherwise. */
void notify_mute(bool);

/*
 * FDSTORE: systemd keeps a copy of these listening sockets and gives them back, under the name
 * CONTRACT_FD_BOUND, when it starts us again. Replaces those that it had.
 */
void notify_store(const int *fds, size_t n);

#endif
