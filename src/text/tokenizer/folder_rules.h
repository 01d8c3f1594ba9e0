/* What transformers takes from the files beside a tokenizer.json: added_tokens.json, special_tokens_map.json,
 * tokenizer_config.json and, for the class, config.json.
 *
 * The rules are those of transformers 4.57 (docs/file-formats.md): `added_tokens_decoder` of tokenizer_config.json, or
 * without that key the two older files, list further added tokens; named special tokens become added tokens too;
 * add_bos_token, add_eos_token and add_prefix_space count as the tokenizer's class has it. */
#ifndef TEXT_TOKENIZER_FOLDER_RULES_H
#define TEXT_TOKENIZER_FOLDER_RULES_H

#include "base/status.h"

#include <jansson.h>

typedef enum surround_rule {
    SURROUND_FILE,   /* tokenizer.json's post-processor */
    SURROUND_ABSENT, /* the flags, where tokenizer.json has no post-processor */
    SURROUND_FLAGS,  /* the flags */
} surround_rule;

typedef struct folder_rules {
    json_t *more_tokens; /* for added_tokens_read() */
    json_t *bos, *eos;   /* strings, NULL where there is none */
    surround_rule surround;
    bool adds_bos, adds_eos;
    bool splits_special; /* special tokens in a text are text like any other */
} folder_rules;          /* all zeros adds nothing; release with folder_rules_free() */

/* Reads the files of `folder`. `root` is its tokenizer.json, whose normalizer, pre-tokenizer and decoder are changed
 * where the class applies add_prefix_space. On failure too folder_rules_free() releases what was begun. */
int folder_rules_read(folder_rules *r, json_t *root, const char *folder);
void folder_rules_free(folder_rules *r);

/* The special tokens that a folder names, as chat templates see them: an object of "bos_token" and the like, strings,
 * "additional_special_tokens", a list of strings, and the names in extra_special_tokens. A class that is refused
 * elsewhere adds none. */
int folder_special_tokens(const char *folder, json_t **out);

/* A tokenizer_config.json. Whole numbers in it are read as real ones: "model_max_length" is often 10^30. */
int tokenizer_config_read(const char *path, json_t **out);

#endif
