/* The access log's format: see access_format.h. What can be printed is in access_atoms.c. */
#include "worker/access_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/access_atoms.h"
#include "worker/access_json.h"
#include "worker/access_print.h"

struct access_format {
	bool json;
	unsigned wants;            /* ACCESS_WANTS_… */
	struct access_item *items; /* owned */
	size_t nitems;
	char **names; /* owned, the strings are the items' */
	size_t nnames;
};

static struct access_item *
item_add(struct access_format *f)
{
	struct access_item *items = realloc(f->items, (f->nitems + 1) * sizeof(*items));

	if (items == NULL)
		return NULL;
	f->items = items;
	f->items[f->nitems] = (struct access_item){0};
	return &f->items[f->nitems++];
}

static int
literal_add(struct access_format *f, const char *text, size_t n)
{
	struct access_item *item;

	if (n == 0)
		return 0;
	item = item_add(f);
	if (item == NULL || (item->text = strndup(text, n)) == NULL)
		return -1;
	access_literal_set(item);
	item->n = n;
	return 0;
}

static int
name_add(struct access_format *f, struct access_item *item)
{
	char **names = realloc(f->names, (f->nnames + 1) * sizeof(*names));

	if (names == NULL)
		return -1;
	f->names = names;
	item->index = f->nnames;
	f->names[f->nnames++] = item->text;
	return 0;
}

/* "{name}i", "{name}o", "{name}e". */
static int
named_atom_add(struct access_format *f, struct access_item *item, const char *key, size_t n)
{
	const char *close = memchr(key, '}', n);

	if (close == NULL || close + 2 != key + n)
		return 0; /* gunicorn knows no such atom */
	item->n = (size_t)(close - key) - 1;
	if ((item->text = strndup(key + 1, item->n)) == NULL)
		return -1;
	return access_atom_set_named(item, close[1]) ? name_add(f, item) : 0;
}

static int
atom_add(struct access_format *f, const char *key, size_t n)
{
	struct access_item *item = item_add(f);

	if (item == NULL)
		return -1;
	f->wants |= access_atom_set(item, key, n);
	return n > 0 && key[0] == '{' ? named_atom_add(f, item, key, n) : 0;
}

/* One "%…" at p. Returns what follows it; NULL with a reason when it is broken. */
static const char *
directive_add(struct access_format *f, const char *p, char *why, size_t why_size)
{
	const char *close;

	if (p[1] == '%')
		return literal_add(f, "%", 1) == 0 ? p + 2 : NULL;
	close = p[1] == '(' ? strchr(p, ')') : NULL;
	if (close == NULL) {
		snprintf(why, why_size, "\"%.20s\" is neither %%%% nor %%(atom)s", p);
		return NULL;
	}
	/* gunicorn prints by Python's %: of its conversions these print the same */
	if (close[1] == '\0' || strchr("sdi", close[1]) == NULL) {
		snprintf(why, why_size, "\"%.40s\" does not end in )s", p);
		return NULL;
	}
	return atom_add(f, p + 2, (size_t)(close - p) - 2) == 0 ? close + 2 : NULL;
}

static int
format_compile(struct access_format *f, const char *p, char *why, size_t why_size)
{
	if (strcmp(p, "json") == 0) {
		f->json = true;
		f->wants = ACCESS_WANTS_TIMES | ACCESS_WANTS_RUN_TIME | ACCESS_WANTS_ID;
		return 0;
	}
	while (*p != '\0') {
		size_t n = strcspn(p, "%");

		if (literal_add(f, p, n) == -1)
			return -1;
		p += n;
		if (*p == '%' && (p = directive_add(f, p, why, why_size)) == NULL)
			return -1;
	}
	return 0;
}

struct access_format *
access_format_new(const char *format, char *why, size_t why_size)
{
	struct access_format *f = calloc(1, sizeof(*f));

	snprintf(why, why_size, "out of memory");
	if (f == NULL)
		return NULL;
	if (format_compile(f, format, why, why_size) == -1) {
		access_format_free(f);
		return NULL;
	}
	return f;
}

void
access_format_free(struct access_format *f)
{
	if (f == NULL)
		return;
	for (size_t i = 0; i < f->nitems; i++)
		free(f->items[i].text);
	free(f->items);
	free(f->names);
	free(f);
}

size_t
access_format_print(const struct access_format *f, const struct app_exchange *exchange, int64_t now,
    char *buf, size_t size)
{
	struct access_entry e = {
	    .exchange = exchange,
	    .took = now > exchange->started ? now - exchange->started : 0,
	};
	struct access_out o = {.p = buf, .end = buf + size - 1};

	if (f->json)
		access_json_print(&o, &e);
	for (size_t i = 0; i < f->nitems; i++)
		f->items[i].put(&o, &f->items[i], &e);
	*o.p++ = '\n';
	return (size_t)(o.p - buf);
}

char *const *
access_format_names(const struct access_format *f, size_t *n)
{
	*n = f->nnames;
	return f->names;
}

unsigned
access_format_wants(const struct access_format *f)
{
	return f->wants;
}
