/*
 * Telling systemd how we are: sd_notify(3)'s datagrams, written by hand so that
 * the master, which may be root, links little.
 */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H

/* Remember NOTIFY_SOCKET and take it out of the environment: it is not for the workers. */
void notify_init(void);

/* READY=1, STOPPING=1: nothing happens when nobody asked to be told. */
void notify_ready(void);
void notify_stopping(void);

/* RELOADING=1 with the time; notify_ready ends it. */
void notify_reloading(void);

#endif
