/* The added tokens of a tokenizer file: strings that become one id wherever they stand in a text, before anything else
 * looks at it. Their flags:
 *   normalized    found in the normalized text (the string is normalized too), else in the text as it was given
 *   lstrip rstrip white space to the left, to the right belongs to the token
 *   single_word   not found inside of words
 *   special       left out of decoded text on demand
 */
#ifndef TEXT_TOKENIZER_ADDED_TOKENS_H
#define TEXT_TOKENIZER_ADDED_TOKENS_H

#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pieces.h"

/* A longer one, also once it is normalized, is an error: at each place of a text so many bytes may be compared. */
enum { ADDED_TOKEN_MOST_BYTES = 1000 };

typedef struct added_token {
    char *content; /* as it is looked for */
    size_t bytes;
    int32_t id;
    size_t order; /* of two tokens with one normal form the first is found: special ones, then as the file lists them */
    bool lstrip, rstrip, single_word, special;
} added_token;

/* Tokens sorted by content, so that those with a common beginning lie together. */
typedef struct added_token_set {
    added_token *tokens;
    size_t count;
    size_t first[257];   /* those that begin with byte b: first[b] to first[b + 1] - 1 */
    bool splits_special; /* special tokens are not found: they are text like any other */
} added_token_set;

typedef struct added_tokens {
    added_token_set in_given, in_normalized;
} added_tokens; /* all zeros finds nothing */

/* Reads "added_tokens" of a tokenizer.json (`listed`) and what other files add to them (`more`: a list of the same form
 * without ids; "known_only": true adds nothing new), and puts into `v` those that the model does not have. An id in
 * `listed` other than the one that the tokenizers library would give a token is an error. Both may be NULL. On failure
 * too added_tokens_free() releases what was begun. */
int added_tokens_read(added_tokens *a, const json_t *listed, const json_t *more, vocabulary *v, const normalizer *n,
                      const char *file);
void added_tokens_free(added_tokens *a);

/* Cuts `text` at the tokens of `set`, appending to `out`. */
int added_tokens_cut(const added_token_set *set, const char *text, size_t bytes, bool starts_text, pieces *out);

#endif
