/* The added tokens of a tokenizer file: strings that become one id wherever they occur in a text, before any other
 * stage. Their flags: normalized    searched for in the normalized text (and the string is normalized), otherwise in
 * the given text lstrip rstrip white space to the left, to the right belongs to the token single_word   not found
 * inside of words special       omitted from decoded text on request
 */
#ifndef TEXT_TOKENIZER_ADDED_TOKENS_H
#define TEXT_TOKENIZER_ADDED_TOKENS_H

#include "text/tokenizer/pieces.h"
#include "text/tokenizer/steps/normalizer.h"

/* Maximum length, also after normalization; a longer token is an error. At each position of a text up to this many
 * bytes are compared. */
enum { ADDED_TOKEN_MAX_BYTES = 1000 };

typedef struct added_token {
    char *content; /* the string to search for */
    size_t bytes;
    int32_t id;
    size_t order; /* of two tokens with the same normal form the first is found: special tokens first, then in the order
                     of the file */
    bool lstrip, rstrip, single_word, special;
} added_token;

/* Tokens sorted by content, so that tokens with a common prefix are adjacent. */
typedef struct added_token_set {
    added_token *tokens;
    size_t count;
    size_t first[257];   /* tokens that start with byte b: first[b] to first[b + 1] - 1 */
    bool splits_special; /* special tokens are not found; they are treated as text */
} added_token_set;

typedef struct added_tokens {
    added_token_set in_given, in_normalized;
} added_tokens; /* all zeros: finds nothing */

/* Reads "added_tokens" of a tokenizer.json (`listed`) and further tokens of other files (`more`: a list of the same
 * form without ids; "known_only": true adds no new token), and adds those that the model does not have to `v`. An id in
 * `listed` that differs from the one that the tokenizers library would assign is an error. Both may be NULL. Also on
 * failure, added_tokens_free() releases what was allocated. */
int added_tokens_read(added_tokens *a, const json_t *listed, const json_t *more, vocabulary *v, const normalizer *n,
                      const char *file);
void added_tokens_free(added_tokens *a);

/* Splits `text` at the tokens of `set` and appends the pieces to `out`. */
int added_tokens_cut(const added_token_set *set, const char *text, size_t bytes, bool starts_text, pieces *out);

#endif
