/* Reads the list `configs` from the YAML header of a data set's README.md, as JSON.
 *
 * Supports the part of YAML that such lists use: block mappings and sequences, [...] and {...} on one or more lines,
 * plain and quoted scalars, comments. Scalars become strings, an absent value becomes null. Anchors, aliases, tags,
 * block scalars and multi-line scalars are errors. Keys other than `configs` are ignored. */
#ifndef DATA_SOURCES_CARD_YAML_H
#define DATA_SOURCES_CARD_YAML_H

#include "base/status.h"

#include <jansson.h>
#include <stddef.h>

/* *out is NULL if the text has no YAML header, or the header has no `configs`. Errors state `name` and the line.
 * Release with json_decref(). */
int card_yaml_configs(const char *text, size_t bytes, const char *name, json_t **out);

#endif
