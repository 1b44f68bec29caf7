/*
 * The atoms of gunicorn's notation, and those of ours, which have longer names. Text from the
 * client is printed so that it can neither end a quoted field nor forge a line.
 */
#ifndef WORKER_ACCESS_ATOMS_H
#define WORKER_ACCESS_ATOMS_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/access_print.h"

/* One thing to print: a literal, or an atom with its argument. */
struct access_item {
	void (*put)(struct access_out *, const struct access_item *, const struct access_entry *);
	char *text;   /* owned: the literal, or a name of a header or of an environ key */
	size_t n;     /* length of text */
	size_t index; /* of an environ key among the names, of a part of the time */
};

/* Print item's text. */
void access_literal_set(struct access_item *);

/* Print the atom of that name, "-" if there is none. Returns what it ACCESS_WANTS_…. */
unsigned access_atom_set(struct access_item *, const char *key, size_t n);

/*
 * Print the field or key that item's text names: kind is the i, o or e of "{name}i", and another
 * one prints "-". Returns whether it is a key of environ.
 */
bool access_atom_set_named(struct access_item *, char kind);

#endif
