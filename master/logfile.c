/* Giving log files away before root is given up: see logfile.h. */
#include "master/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The directory may belong to that user, who could have put a link to some file of
 * root's there: links are not followed, and only a file of one name changes hands.
 */
int
logfile_give(const char *path, const struct privs *privs)
{
	struct stat st;
	int fd, rc = 0;

	if (path == NULL || strcmp(path, "-") == 0 || !privs_differ(privs))
		return 0;
	fd = open(path,
	    O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
	if (fd == -1)
		return errno == ELOOP || errno == ENXIO ? 0 : -1;
	if (fstat(fd, &st) == -1)
		rc = -1;
	else if (S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == geteuid())
		rc = fchown(fd, privs->uid, privs->gid);
	close(fd);
	return rc;
}
