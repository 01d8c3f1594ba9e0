/* `add_prefix_space` of tokenizer_config.json, applied to a tokenizer.json: whether a text gets a space before its
 * first word. */
#ifndef TEXT_TOKENIZER_PREFIX_SPACE_H
#define TEXT_TOKENIZER_PREFIX_SPACE_H

#include "text/tokenizer/tokenizer_class.h"

/* Changes `root`. `value`: add_prefix_space in `config`, read from `path`; NULL if absent. A value that cannot be
 * expressed in tokenizer.json is rejected by name. */
int prefix_space_apply(json_t *root, prefix_rule rule, const json_t *value, const json_t *config, const char *path);

#endif
