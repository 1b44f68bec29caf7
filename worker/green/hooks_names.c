/*
 * Looking up names of hosts, users, groups, services: nsswitch's modules and the resolver wait
 * inside libc for name servers, LDAP or a daemon. They run on helper threads.
 */
#include <arpa/nameser.h>
#include <grp.h>
#include <pwd.h>
#include <resolv.h>
#include <shadow.h>
#include <string.h>

#include "worker/green/offloaded.h"

#define LOOK_UP(type, failure, name, n, ...) \
	OFFLOADED(green_offload, type, failure, name, n, __VA_ARGS__)

/* ---- hosts ---- */

typedef const struct addrinfo *hints_t;
typedef struct addrinfo **results_t;
typedef const struct sockaddr *address_t;

OFFLOADED_CALL(green_offload, int, EAI_AGAIN, getaddrinfo, 4, const char *, node, const char *,
    service, hints_t, hints, results_t, res)

/* Nothing to look up: an address in digits. (The service may be a name: /etc/services is local.) */
static bool
is_numeric(const char *node, const struct addrinfo *hints)
{
	return node == NULL || (hints != NULL && (hints->ai_flags & AI_NUMERICHOST)) ||
	       (strspn(node, "0123456789.") == strlen(node)) || strchr(node, ':') != NULL;
}

HOOK int
getaddrinfo(
    const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	if (!on_green() || is_numeric(node, hints))
		return REAL(getaddrinfo)(node, service, hints, res);
	return getaddrinfo_offloaded(node, service, hints, res);
}

OFFLOADED_CALL(green_offload, int, EAI_AGAIN, getnameinfo, 7, address_t, sa, socklen_t, len, char *,
    host, socklen_t, hostlen, char *, serv, socklen_t, servlen, int, flags)

HOOK int
getnameinfo(const struct sockaddr *sa, socklen_t len, char *host, socklen_t hostlen, char *serv,
    socklen_t servlen, int flags)
{
	if (!on_green() || (flags & NI_NUMERICHOST))
		return REAL(getnameinfo)(sa, len, host, hostlen, serv, servlen, flags);
	return getnameinfo_offloaded(sa, len, host, hostlen, serv, servlen, flags);
}

typedef struct hostent *host_t;

LOOK_UP(host_t, NULL, gethostbyname, 1, const char *, name)
LOOK_UP(host_t, NULL, gethostbyname2, 2, const char *, name, int, af)
LOOK_UP(host_t, NULL, gethostbyaddr, 3, const void *, addr, socklen_t, len, int, type)
LOOK_UP(int, EAGAIN, gethostbyname_r, 6, const char *, name, host_t, ret, char *, buf, size_t, n,
    host_t *, res, int *, err)
LOOK_UP(int, EAGAIN, gethostbyname2_r, 7, const char *, name, int, af, host_t, ret, char *, buf,
    size_t, n, host_t *, res, int *, err)
LOOK_UP(int, EAGAIN, gethostbyaddr_r, 8, const void *, addr, socklen_t, len, int, type, host_t, ret,
    char *, buf, size_t, n, host_t *, res, int *, err)

/* ---- the resolver: SRV and MX records of MongoDB, Kerberos, LDAP ---- */

LOOK_UP(int, -1, res_query, 5, const char *, name, int, class, int, type, unsigned char *, answer,
    int, n)
LOOK_UP(int, -1, res_search, 5, const char *, name, int, class, int, type, unsigned char *, answer,
    int, n)
LOOK_UP(int, -1, res_querydomain, 6, const char *, name, const char *, domain, int, class, int,
    type, unsigned char *, answer, int, n)
LOOK_UP(int, -1, res_send, 4, const unsigned char *, msg, int, len, unsigned char *, answer, int, n)
LOOK_UP(int, -1, res_nquery, 6, res_state, state, const char *, name, int, class, int, type,
    unsigned char *, answer, int, n)
LOOK_UP(int, -1, res_nsearch, 6, res_state, state, const char *, name, int, class, int, type,
    unsigned char *, answer, int, n)
LOOK_UP(int, -1, res_nquerydomain, 7, res_state, state, const char *, name, const char *, domain,
    int, class, int, type, unsigned char *, answer, int, n)
LOOK_UP(int, -1, res_nsend, 5, res_state, state, const unsigned char *, msg, int, len,
    unsigned char *, answer, int, n)

/* What programs built with a glibc before 2.34 call them. */
HOOK_ALIAS(__res_query, res_query)
HOOK_ALIAS(__res_search, res_search)
HOOK_ALIAS(__res_querydomain, res_querydomain)
HOOK_ALIAS(__res_send, res_send)
HOOK_ALIAS(__res_nquery, res_nquery)
HOOK_ALIAS(__res_nsearch, res_nsearch)
HOOK_ALIAS(__res_nquerydomain, res_nquerydomain)
HOOK_ALIAS(__res_nsend, res_nsend)

/* ---- users, groups, services ---- */

typedef struct passwd *user_t;
typedef struct group *group_t;
typedef struct spwd *shadow_t;
typedef struct servent *service_t;

LOOK_UP(user_t, NULL, getpwnam, 1, const char *, name)
LOOK_UP(user_t, NULL, getpwuid, 1, uid_t, uid)
LOOK_UP(int, EAGAIN, getpwnam_r, 5, const char *, name, user_t, ret, char *, buf, size_t, n,
    user_t *, res)
LOOK_UP(int, EAGAIN, getpwuid_r, 5, uid_t, uid, user_t, ret, char *, buf, size_t, n, user_t *, res)
LOOK_UP(group_t, NULL, getgrnam, 1, const char *, name)
LOOK_UP(group_t, NULL, getgrgid, 1, gid_t, gid)
LOOK_UP(int, EAGAIN, getgrnam_r, 5, const char *, name, group_t, ret, char *, buf, size_t, n,
    group_t *, res)
LOOK_UP(
    int, EAGAIN, getgrgid_r, 5, gid_t, gid, group_t, ret, char *, buf, size_t, n, group_t *, res)
LOOK_UP(int, -1, getgrouplist, 4, const char *, user, gid_t, group, gid_t *, groups, int *, n)
LOOK_UP(shadow_t, NULL, getspnam, 1, const char *, name)
LOOK_UP(int, EAGAIN, getspnam_r, 5, const char *, name, shadow_t, ret, char *, buf, size_t, n,
    shadow_t *, res)
LOOK_UP(service_t, NULL, getservbyname, 2, const char *, name, const char *, protocol)
LOOK_UP(service_t, NULL, getservbyport, 2, int, port, const char *, protocol)
