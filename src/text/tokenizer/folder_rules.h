/* What transformers takes from the files beside tokenizer.json: added_tokens.json, special_tokens_map.json,
 * tokenizer_config.json and, for the class, config.json.
 *
 * The rules are those of transformers 4.57 (docs/file-formats.md): `added_tokens_decoder` of tokenizer_config.json, or
 * without that key the two older files, list further added tokens; named special tokens become added tokens, too;
 * add_bos_token, add_eos_token and add_prefix_space work as defined by the tokenizer's class. A GGUF file stands for a
 * folder with tokenizer.json and tokenizer_config.json (text/gguf). */
#ifndef TEXT_TOKENIZER_FOLDER_RULES_H
#define TEXT_TOKENIZER_FOLDER_RULES_H

#include "base/status.h"

#include <jansson.h>

typedef enum surround_rule {
    SURROUND_FILE,   /* the post-processor of tokenizer.json */
    SURROUND_ABSENT, /* the flags, if tokenizer.json has no post-processor */
    SURROUND_FLAGS,  /* the flags */
} surround_rule;

typedef struct folder_rules {
    json_t *more_tokens; /* for added_tokens_read() */
    json_t *bos, *eos;   /* strings; NULL if there is none */
    surround_rule surround;
    bool adds_bos, adds_eos;
    bool splits_special; /* special tokens in a text are treated as text */
} folder_rules;          /* all zeros: adds nothing; release with folder_rules_free() */

/* Reads the files of `folder`. `root` is its tokenizer.json; its normalizer, pre-tokenizer and decoder are changed if
 * the class applies add_prefix_space. Also on failure, folder_rules_free() releases what was allocated. */
int folder_rules_read(folder_rules *r, json_t *root, const char *folder);
void folder_rules_free(folder_rules *r);

/* The special tokens of a folder as chat templates get them: an object with "bos_token" etc. as strings,
 * "additional_special_tokens" as a list of strings, and the names in extra_special_tokens. An unsupported class adds
 * none. */
int folder_special_tokens(const char *folder, json_t **out);

/* Reads the tokenizer_config.json of a folder; *out is NULL if there is none. Integers are read as real numbers,
 * because "model_max_length" is often 10^30. */
int folder_tokenizer_config(const char *folder, json_t **out);

#endif
