/* Helpers to read the components of a tokenizer file. Each component is an object with a "type" and the keys of that
 * type.
 *
 * Unknown keys and unknown types are rejected, because they might change ids. */
#ifndef TEXT_SUBWORD_COMPONENT_H
#define TEXT_SUBWORD_COMPONENT_H

#include "base/text/json.h"

/* Maximum number of steps of a normalizer, pre-tokenizer or decoder, when sequences are flattened; each is a pass over
 * the text. */
enum { COMPONENT_MAX_STEPS = 1000 };

typedef struct component {
    const json_t *object;
    const char *type;
    char where[320]; /* "FILE: pre_tokenizer 'Split'", for errors */
} component;

/* `part` is "normalizer", "decoder" and so on. `type`: value if "type" is absent ("": this part has none); NULL: it is
 * required. */
int component_open(const json_t *object, const char *file, const char *part, const char *type, component *out);

/* Rejects keys other than "type" and those in `keys`, which are separated by spaces. */
int component_keys(const component *c, const char *keys);

/* Error for an unknown type of `part`. */
int component_unsupported(const component *c);

/* The value of a required key, a string. */
int component_string(const component *c, const char *key, const char **out, size_t *bytes);

/* The objects of a "Sequence": the array under `key`. */
int component_list(const component *c, const char *key, const json_t **out);

#endif
