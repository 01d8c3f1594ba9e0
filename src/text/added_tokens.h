/* The added tokens of a tokenizer file: strings that become one id wherever they stand in a text, before anything else
 * looks at it. Their flags:
 *   normalized    found in the normalized text (the string is normalized too), else in the text as it was given
 *   lstrip rstrip white space to the left, to the right belongs to the token
 *   single_word   not found inside of words
 *   special       left out of decoded text on demand
 */
#ifndef TEXT_ADDED_TOKENS_H
#define TEXT_ADDED_TOKENS_H

#include "text/normalizer.h"
#include "text/pieces.h"

typedef struct added_token {
    char *content; /* as it is looked for */
    size_t bytes;
    int32_t id;
    size_t order; /* of two tokens with one normal form the first is found: special ones, then as the file lists them */
    bool lstrip, rstrip, single_word;
} added_token;

/* Tokens sorted by content, so that those with a common beginning lie together. */
typedef struct added_token_set {
    added_token *tokens;
    size_t count;
    size_t first[257]; /* those that begin with byte b: first[b] to first[b + 1] - 1 */
} added_token_set;

typedef struct added_tokens {
    added_token_set in_given, in_normalized;
} added_tokens; /* all zeros finds nothing */

/* Reads "added_tokens", adding to `v` those that the model does not have. An id other than the one that the tokenizers
 * library would give a token is an error. On failure too added_tokens_free() releases what was begun. */
int added_tokens_read(added_tokens *a, const json_t *config, vocabulary *v, const normalizer *n, const char *file);
void added_tokens_free(added_tokens *a);

/* Cuts `text` at the tokens of `set`, appending to `out`. */
int added_tokens_cut(const added_token_set *set, const char *text, size_t bytes, bool starts_text, pieces *out);

#endif
