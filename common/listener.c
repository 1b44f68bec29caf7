/* Opening and adopting listening sockets: see listener.h. */
#include "common/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static void
listener_describe(struct listener *l)
{
	address_format(&l->address, l->text, sizeof(l->text));
	address_names(&l->address, l->server_name, sizeof(l->server_name), l->server_port,
	    sizeof(l->server_port));
}

/* Whether somebody accepts on that path: the file of a server that died refuses. */
static bool
path_is_served(const struct address *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	if (fd == -1)
		return true;
	served = connect(fd, &a->any.sa, a->len) == 0 || (errno != ECONNREFUSED && errno != ENOENT);
	close(fd);
	return served;
}

static int
path_free(const struct address *a)
{
	struct stat st;

	if (lstat(address_path(a), &st) == -1)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	if (path_is_served(a)) {
		errno = EADDRINUSE;
		return -1;
	}
	return unlink(address_path(a));
}

/*
 * Remember which file we made, and give it away. By a descriptor: were the path
 * something else by now, in a directory that is not root's, it must not change hands.
 */
static int
path_own(struct listener *l, uid_t uid, gid_t gid)
{
	int fd = open(address_path(&l->address), O_PATH | O_NOFOLLOW | O_CLOEXEC), rc = -1;
	struct stat st;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
		rc = 0;
		if (uid != (uid_t)-1 || gid != (gid_t)-1)
			rc = fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
	}
	close(fd);
	return rc;
}

static int
bind_unix(struct listener *l, const struct listener_options *o)
{
	mode_t old_mask;
	int rc;

	if (path_free(&l->address) == -1)
		return -1;
	old_mask = umask(o->umask);
	rc = bind(l->fd, &l->address.any.sa, l->address.len);
	umask(old_mask);
	return rc == 0 ? path_own(l, o->uid, o->gid) : -1;
}

/* Accepted sockets inherit TCP_NODELAY: a response leaves in few writes, none should wait. */
static int
bind_inet(struct listener *l, const struct listener_options *o)
{
	const int on = 1;

	if (setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
	    (o->reuse_port && setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == -1))
		return -1;
	return bind(l->fd, &l->address.any.sa, l->address.len);
}

/* Port 0 lets the kernel choose: ask which it took. */
static int
learn_address(struct listener *l)
{
	l->address.len = sizeof(l->address.any);
	return getsockname(l->fd, &l->address.any.sa, &l->address.len);
}

int
listener_open(struct listener *l, const struct address *a, const struct listener_options *o)
{
	int family = a->any.sa.sa_family, rc, saved_errno;

	*l = (struct listener){.address = *a};
	if ((l->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return -1;
	rc = family == AF_UNIX ? bind_unix(l, o) : bind_inet(l, o);
	if (rc == 0 && family != AF_UNIX)
		rc = learn_address(l);
	if (rc == -1 || listen(l->fd, o->backlog) == -1) {
		saved_errno = errno;
		listener_unlink(l);
		listener_close(l);
		errno = saved_errno;
		return -1;
	}
	listener_describe(l);
	return 0;
}

int
listener_adopt(struct listener *l, int fd)
{
	int listening = 0, flags;
	socklen_t n = sizeof(listening);

	*l = (struct listener){.fd = fd, .inherited = true};
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == -1 ||
	    learn_address(l) == -1)
		return -1;
	if (!listening) {
		errno = EINVAL;
		return -1;
	}
	if (l->address.any.sa.sa_family != AF_UNIX && l->address.any.sa.sa_family != AF_INET &&
	    l->address.any.sa.sa_family != AF_INET6) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	if ((flags = fcntl(fd, F_GETFL)) == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		return -1;
	listener_describe(l);
	return 0;
}

int
listener_own(struct listener *l)
{
	const char *path = address_path(&l->address);
	struct stat st;

	l->inherited = false;
	if (path == NULL)
		return 0;
	if (lstat(path, &st) == -1)
		return -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

void
listener_close(struct listener *l)
{
	if (l->fd != -1)
		close(l->fd);
	l->fd = -1;
}

void
listener_unlink(struct listener *l)
{
	const char *path = address_path(&l->address);
	struct stat st;

	if (path == NULL || l->inherited || l->ino == 0)
		return;
	if (lstat(path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		(void)unlink(path);
	l->ino = 0; /* the number may be used again, for a file that is not ours */
}
