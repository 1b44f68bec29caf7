/* Dropping privileges: see privs.h. */
#include "common/privs.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A number that is an id: all but (uid_t)-1, which means "leave as it is" to setresuid(2). */
static bool
id_parse(const char *text, unsigned *id)
{
	char *end;
	unsigned long n;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || n >= UINT_MAX)
		return false;
	*id = (unsigned)n;
	return true;
}

static int
user_resolve(struct privs *p, const char *user, char *why, size_t why_size)
{
	unsigned id;
	struct passwd *pw = getpwnam(user);

	if (pw == NULL && id_parse(user, &id)) {
		p->uid = id;
		pw = getpwuid(id);
	} else if (pw == NULL) {
		snprintf(why, why_size, "unknown user \"%s\"", user);
		return -1;
	}
	if (pw != NULL) {
		p->uid = pw->pw_uid;
		p->gid = pw->pw_gid;
		snprintf(p->user, sizeof(p->user), "%s", pw->pw_name);
	}
	return 0;
}

static int
group_resolve(struct privs *p, const char *group, char *why, size_t why_size)
{
	unsigned id;
	struct group *gr = getgrnam(group);

	if (gr != NULL) {
		p->gid = gr->gr_gid;
	} else if (id_parse(group, &id)) {
		p->gid = id;
	} else {
		snprintf(why, why_size, "unknown group \"%s\"", group);
		return -1;
	}
	return 0;
}

int
privs_resolve(struct privs *p, const char *user, const char *group, bool initgroups,
    bool *bad_group, char *why, size_t why_size)
{
	*p = (struct privs){.uid = geteuid(), .gid = getegid(), .initgroups = initgroups};
	*bad_group = false;
	if (user != NULL && user_resolve(p, user, why, why_size) == -1)
		return -1;
	*bad_group = true;
	if (group != NULL && group_resolve(p, group, why, why_size) == -1)
		return -1;
	return 0;
}

bool
privs_differ(const struct privs *p)
{
	return p->uid != geteuid() || p->gid != getegid();
}

static int
groups_set(const struct privs *p)
{
	if (p->initgroups && p->user[0] != '\0')
		return initgroups(p->user, p->gid);
	return setgroups(0, NULL);
}

/* The ids are what we asked for, and asking for root fails: anything else is fatal. */
static int
privs_verify(const struct privs *p)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (getresuid(&ruid, &euid, &suid) == -1 || getresgid(&rgid, &egid, &sgid) == -1)
		return -1;
	errno = EPERM;
	if (ruid != p->uid || euid != p->uid || suid != p->uid || rgid != p->gid ||
	    egid != p->gid || sgid != p->gid)
		return -1;
	if (p->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0 || setresuid(0, 0, 0) == 0))
		return -1;
	errno = EPERM;
	if (p->uid != 0 && p->gid != 0 && (setgid(0) == 0 || setegid(0) == 0))
		return -1;
	if (!p->initgroups && p->uid != 0 && getgroups(0, NULL) != 0)
		return -1;
	errno = 0;
	return 0;
}

int
privs_drop(const struct privs *p)
{
	if (groups_set(p) == -1 || setresgid(p->gid, p->gid, p->gid) == -1 ||
	    setresuid(p->uid, p->uid, p->uid) == -1)
		return -1;
	return privs_verify(p);
}
