/* What proxies say: see forwarded.h. */
#include "worker/forwarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/networks.h"
#include "common/settings.h"
#include "worker/http/chars.h"

/* In the order of the settings' words; whatever else there is means the last. */
enum underscores { UNDERSCORES_DROP, UNDERSCORES_PASS, UNDERSCORES_REFUSE };
static const char *const underscore_words[] = {"drop", "dangerous", "refuse"};
enum source { SOURCE_X_FORWARDED_FOR, SOURCE_FORWARDED, SOURCE_NONE };
static const char *const source_words[] = {"x-forwarded-for", "forwarded", "off"};

/* One of secure_scheme_headers: views into the settings. */
struct scheme_field {
	struct http_str name, secure;
};

struct forwarded {
	struct networks allowed;      /* owned */
	struct scheme_field *schemes; /* owned */
	size_t nschemes;
	const struct strlist *forwarder_headers; /* borrowed */
	enum underscores underscores;
	enum source source;
};

/* ---- the settings ---- */

/* The place of a word among some; the last of them if it is none. */
static unsigned
choice(const char *word, const char *const *words, unsigned n)
{
	unsigned i = 0;

	while (i < n - 1 && (word == NULL || strcmp(word, words[i]) != 0))
		i++;
	return i;
}

/* "NAME: VALUE" */
static struct scheme_field
scheme_field_of(const char *item)
{
	const char *colon = strchr(item, ':');
	struct scheme_field field = {.name = {item, strlen(item)}, .secure = {"", 0}};

	if (colon == NULL)
		return field;
	field.name = http_str_trim((struct http_str){item, (size_t)(colon - item)});
	field.secure = http_str_trim((struct http_str){colon + 1, strlen(colon + 1)});
	return field;
}

struct forwarded *
forwarded_new(const struct settings *s, char *why, size_t size)
{
	struct forwarded *f = calloc(1, sizeof(*f));

	snprintf(why, size, "out of memory");
	if (f == NULL)
		return NULL;
	f->schemes = calloc(s->secure_scheme_headers.n + 1, sizeof(*f->schemes));
	if (f->schemes == NULL ||
	    networks_parse(&f->allowed, &s->forwarded_allow_ips, why, size) == -1) {
		free(f->schemes);
		free(f);
		return NULL;
	}
	for (; f->nschemes < s->secure_scheme_headers.n; f->nschemes++)
		f->schemes[f->nschemes] =
		    scheme_field_of(s->secure_scheme_headers.items[f->nschemes]);
	f->forwarder_headers = &s->forwarder_headers;
	f->underscores = choice(s->header_map, underscore_words, 3);
	f->source = choice(s->forwarded_for, source_words, 3);
	return f;
}

void
forwarded_free(struct forwarded *f)
{
	if (f == NULL)
		return;
	networks_fini(&f->allowed);
	free(f->schemes);
	free(f);
}

bool
forwarded_trusts(const struct forwarded *f, const struct sockaddr *peer)
{
	struct ip ip;

	return f->allowed.any || !ip_from_sockaddr(&ip, peer) || networks_contain(&f->allowed, &ip);
}

/* ---- names with an underscore ---- */

static bool
is_forwarder_header(const struct forwarded *f, struct http_str name)
{
	const struct strlist *list = f->forwarder_headers;

	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->items[i], "*") == 0 ||
		    (strlen(list->items[i]) == name.n &&
			strncasecmp(list->items[i], name.p, name.n) == 0))
			return true;
	return false;
}

/* 1: the application may see it, 0: it may not, -1: the request is refused. */
static int
underscore_passes(const struct forwarded *f, struct http_str name, bool trusted)
{
	if ((trusted && is_forwarder_header(f, name)) || f->underscores == UNDERSCORES_PASS)
		return 1;
	return f->underscores == UNDERSCORES_DROP ? 0 : -1;
}

/* ---- the scheme ---- */

/* Two fields that say otherwise are an attack, or a proxy that lets its client's pass. */
static int
scheme_take(const struct forwarded *f, const struct http_header *h, const char **scheme)
{
	for (size_t i = 0; i < f->nschemes; i++) {
		const struct scheme_field *field = &f->schemes[i];
		const char *said;

		if (h->name.n != field->name.n ||
		    strncasecmp(h->name.p, field->name.p, h->name.n) != 0)
			continue;
		said = h->value.n == field->secure.n &&
			       memcmp(h->value.p, field->secure.p, h->value.n) == 0
			   ? "https"
			   : "http";
		if (*scheme != NULL && *scheme != said)
			return -1;
		*scheme = said;
	}
	return 0;
}

/* ---- the client's address ---- */

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80" */
static bool
node_parse(struct http_str node, struct ip *ip, struct http_str *port)
{
	struct http_str host = node;
	const char *end, *colon = memrchr(node.p, ':', node.n);

	*port = (struct http_str){"", 0};
	if (node.n > 0 && node.p[0] == '[') {
		end = memchr(node.p, ']', node.n);
		if (end == NULL)
			return false;
		host = (struct http_str){node.p + 1, (size_t)(end - node.p - 1)};
		end++;
	} else if (colon != NULL && memchr(node.p, ':', (size_t)(colon - node.p)) == NULL) {
		host.n = (size_t)(colon - node.p);
		end = colon;
	} else {
		end = node.p + node.n;
	}
	if (end < node.p + node.n) {
		if (*end != ':')
			return false;
		*port = (struct http_str){end + 1, (size_t)(node.p + node.n - end - 1)};
	}
	return ip_parse(ip, host.p, host.n);
}

static void
client_set(struct forwarded_client *client, const struct ip *ip, struct http_str port)
{
	bool digits = port.n > 0 && port.n < sizeof(client->port);

	ip_format(ip, client->addr);
	for (size_t i = 0; i < port.n; i++)
		digits = digits && port.p[i] >= '0' && port.p[i] <= '9';
	snprintf(client->port, sizeof(client->port), "%.*s", digits ? (int)port.n : 0, port.p);
}

/* Whether an odd number of backslashes stands before p. */
static bool
is_escaped(const char *begin, const char *p)
{
	bool odd = false;

	for (; p > begin && p[-1] == '\\'; p--)
		odd = !odd;
	return odd;
}

/*
 * Where the last element begins: behind the last comma that is in no quoted-string, of which only
 * Forwarded has any. What is in quotes may be the client's, as host= is. Looked for from
 * the end, so that a quote left open further ahead hides nothing that our proxy has added.
 */
static const char *
last_element(struct http_str list, bool quotes)
{
	const char *p = list.p + list.n;
	bool quoted = false;

	for (; p > list.p && (quoted || p[-1] != ','); p--)
		if (quotes && p[-1] == '"')
			quoted = !quoted || is_escaped(list.p, p - 1);
	return p;
}

/* The next semicolon that is in no quoted-string, or the end. */
static const char *
pair_end(const char *p, const char *end)
{
	bool quoted = false;

	for (; p < end && (quoted || *p != ';'); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (quoted && *p == '\\' && p + 1 < end)
			p++;
	}
	return p;
}

/* The value of for= in an element of Forwarded (RFC 7239 section 4), without its quotes. */
static struct http_str
forwarded_for(struct http_str element)
{
	const char *p = element.p, *end = p + element.n, *semicolon;

	for (; p < end; p = semicolon + 1) {
		struct http_str pair;

		semicolon = pair_end(p, end);
		pair = http_str_trim((struct http_str){p, (size_t)(semicolon - p)});
		if (pair.n < 4 || strncasecmp(pair.p, "for=", 4) != 0)
			continue;
		pair = (struct http_str){pair.p + 4, pair.n - 4};
		if (pair.n >= 2 && pair.p[0] == '"' && pair.p[pair.n - 1] == '"')
			pair = (struct http_str){pair.p + 1, pair.n - 2};
		return pair;
	}
	return (struct http_str){"", 0};
}

/*
 * From the last element to the first, as each proxy has added its own: the first that is no
 * trusted proxy is the client. What is no address ends the way there: the one before it counts.
 * With "*" nobody is known, and only what our own peer has added is believed.
 */
static bool
client_find(const struct forwarded *f, struct http_str value, struct forwarded_client *client)
{
	while (value.n > 0) {
		const char *begin = last_element(value, f->source == SOURCE_FORWARDED);
		struct http_str node, port;
		struct ip ip;

		node = http_str_trim((struct http_str){begin, (size_t)(value.p + value.n - begin)});
		if (f->source == SOURCE_FORWARDED)
			node = forwarded_for(node);
		if (!node_parse(node, &ip, &port))
			return false;
		client_set(client, &ip, port);
		if (f->allowed.any || !networks_contain(&f->allowed, &ip))
			return false;
		value.n = begin > value.p ? (size_t)(begin - 1 - value.p) : 0;
	}
	return true;
}

/* Several lines of a field are one list (RFC 9110 section 5.3): the last line first. */
static void
client_take(
    const struct forwarded *f, const struct http_request *q, struct forwarded_client *client)
{
	for (size_t i = q->nheaders; i > 0; i--)
		if (http_str_is(q->headers[i - 1].name, source_words[f->source]) &&
		    !client_find(f, q->headers[i - 1].value, client))
			return;
}

/* ---- all of it ---- */

/* "/shop/" mounts an application at "/shop", and "/" nowhere. */
static struct http_str
without_slash(struct http_str path)
{
	while (path.n > 0 && path.p[path.n - 1] == '/')
		path.n--;
	return path;
}

static int
refuse(struct http_request *q, const char *why)
{
	q->error = why;
	return 400;
}

int
forwarded_read(
    const struct forwarded *f, struct http_request *q, bool trusted, struct forwarded_view *view)
{
	size_t kept = 0;

	view->scheme = NULL;
	view->script_name = (struct http_str){"", 0};
	view->client.addr[0] = view->client.port[0] = '\0';
	for (size_t i = 0; i < q->nheaders; i++) {
		const struct http_header h = q->headers[i];

		if (memchr(h.name.p, '_', h.name.n) != NULL) {
			int passes = underscore_passes(f, h.name, trusted);

			if (passes == -1)
				return refuse(q, "Invalid header name");
			if (passes == 0)
				continue;
			if (trusted && http_str_is(h.name, "script_name"))
				view->script_name = without_slash(h.value);
		}
		if (trusted && scheme_take(f, &h, &view->scheme) == -1)
			return refuse(q, "Contradictory scheme headers");
		q->headers[kept++] = h;
	}
	q->nheaders = kept;
	if (trusted && f->source != SOURCE_NONE)
		client_take(f, q, &view->client);
	return 0;
}
