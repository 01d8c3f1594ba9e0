/* What the readers of a tokenizer file's parts share: each part is an object with a "type" and that type's keys.
 *
 * A key that nobody knows is refused, since it might change ids; so is a type that nobody knows, by whoever reads it.
 */
#ifndef TEXT_SUBWORD_COMPONENT_H
#define TEXT_SUBWORD_COMPONENT_H

#include "base/json.h"

/* Steps of a normalizer, pre-tokenizer or decoder, once sequences are flattened: each is a pass over the text. */
enum { COMPONENT_MOST_STEPS = 1000 };

typedef struct component {
    const json_t *object;
    const char *type;
    char where[320]; /* "FILE: pre_tokenizer 'Split'", for errors */
} component;

/* `part` is "normalizer", "decoder" and so on. `type` stands for an absent one ("": this part has
 * none); NULL: there must be one. */
int component_open(const json_t *object, const char *file, const char *part, const char *type, component *out);

/* Refuses keys other than "type" and those of `keys`, which are separated by spaces. */
int component_keys(const component *c, const char *keys);

/* The error for a type that `part` does not have here. */
int component_unsupported(const component *c);

/* The value of a key that must be there and be a string. */
int component_string(const component *c, const char *key, const char **out, size_t *bytes);

/* The objects of a "Sequence": the array under `key`. */
int component_list(const component *c, const char *key, const json_t **out);

#endif
