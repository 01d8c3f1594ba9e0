/* The list `configs` in the YAML at the top of a data set's README.md, as JSON.
 *
 * The part of YAML that such lists are written in: block mappings and sequences, [...] and {...} on one or more lines,
 * plain and quoted scalars, comments. Scalars are strings, an absent value is null. Anchors, aliases, tags, block
 * scalars and scalars of several lines are refused. Keys other than `configs` are not looked at. */
#ifndef DATA_CARD_YAML_H
#define DATA_CARD_YAML_H

#include "base/status.h"

#include <jansson.h>
#include <stddef.h>

/* `*out` is NULL where the text has no YAML at its top, or that has no `configs`. Errors quote `name` and the line.
 * Release with json_decref(). */
int card_yaml_configs(const char *text, size_t bytes, const char *name, json_t **out);

#endif
