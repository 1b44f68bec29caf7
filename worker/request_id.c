/* Names for requests: see request_id.h. */
#include "worker/request_id.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#define GIVEN_MAX 128

/* Nothing that could be taken for more than a name, by whatever reads the log. */
static bool
is_sane(struct http_str id)
{
	static const char others[] = "-_.:+/=@,";

	if (id.n == 0 || id.n > GIVEN_MAX)
		return false;
	for (size_t i = 0; i < id.n; i++) {
		char c = id.p[i], lower = (char)(c | 0x20);

		if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') &&
		    (c == '\0' || strchr(others, c) == NULL))
			return false;
	}
	return true;
}

static char *
put_hex(char *p, uint64_t value)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[value >> shift & 15];
	return p;
}

/* splitmix64's last step: a permutation, so that what differs goes on to differ. */
static uint64_t
scatter(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/*
 * Half of it is the process's, at random, and half the request's. Of the first request, which
 * comes after all forks.
 */
static void
id_make(char made[REQUEST_ID_SIZE])
{
	static uint64_t seed[2];
	static bool seeded;
	struct timespec now;

	if (!seeded && getrandom(seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
		clock_gettime(CLOCK_REALTIME, &now); /* early after the machine's start */
		seed[0] = scatter((uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec);
	}
	seeded = true;
	put_hex(put_hex(made, seed[0]), scatter(seed[1]++));
}

struct http_str
request_id(const struct http_request *request, char made[REQUEST_ID_SIZE])
{
	const struct http_header *given = http_request_header(request, "x-request-id");

	if (given != NULL && is_sane(given->value))
		return given->value;
	id_make(made);
	return (struct http_str){made, REQUEST_ID_SIZE};
}
