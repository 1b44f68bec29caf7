/* What the files that implement settings.h share. */
#ifndef COMMON_SETTINGS_INTERNAL_H
#define COMMON_SETTINGS_INTERNAL_H

#include "common/settings.h"
#include "common/settings_table.h"

/* The field of a row. */
void *settings_field(const struct settings *, const struct setting *);

/* Note where a setting's value came from. */
void settings_origin_set(struct settings *, const struct setting *, const char *origin);

/* The error for a name that no row has; -1. */
int settings_unknown(const char *name, const char *origin, struct settings_error *);

/* Read a configuration's text over what is there, and change it on the way; path is for the errors.
 */
int settings_read_text(struct settings *, const char *path, char *text, struct settings_error *);

#endif
