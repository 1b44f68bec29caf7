/* Giving up root: for good, in one place, and checked. */
#ifndef COMMON_PRIVS_H
#define COMMON_PRIVS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Who to become. */
struct privs {
	uid_t uid;
	gid_t gid;
	bool initgroups; /* with the user's supplementary groups, else with none */
	char user[64];   /* its name, for initgroups; "" when it has none */
};

/*
 * Look up user and group, names or numbers, either of which may be NULL: the
 * group is then the user's own, both unset is who we are. 0, or -1 with a reason
 * in why; *bad_group tells which of the two was wrong.
 */
int privs_resolve(struct privs *, const char *user, const char *group, bool initgroups,
    bool *bad_group, char *why, size_t why_size);

/* Whether privs_drop would change anything. */
bool privs_differ(const struct privs *);

/*
 * Become them: groups, then gid, then uid, all three of each; then see that they
 * are what they should be and that root cannot be had back. 0, or -1 with errno (EPERM);
 * the process must not go on after -1.
 */
int privs_drop(const struct privs *);

#endif
