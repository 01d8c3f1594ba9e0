/* Log-probabilities as JSON: the entries of /v1/completions and /v1/chat/completions.
 *
 * A token is shown as the text that it adds to the completion, so that the concatenated tokens are the text:
 *   - A token that adds no text (EOS, BOS) is "".
 *   - A token that is not a whole character is "bytes:\xe4" in completions and "\xe4" in chat, as in OpenAI's API; the
 *     entry's `bytes` holds the raw bytes.
 * Among the alternatives (top_logprobs), a token that would add no text is shown by its name ("</s>"). If two
 * alternatives have the same text, the second is shown as "token_id:N"; the sampled token always keeps its text. */
#ifndef SERVE_LOGPROBS_JSON_H
#define SERVE_LOGPROBS_JSON_H

#include "bytes.h"
#include "lckv.h"

#include <jansson.h>

/* Position in the text of a choice where the next token starts. */
typedef struct text_position {
    int64_t characters; /* complete ones (code points) before it */
    int missing;        /* bytes that the last character still lacks */
    bool begun;         /* a token with text has occurred */
} text_position;

/* The log-probabilities of one token. */
typedef struct token_logprobs {
    int32_t id;
    double logprob;
    const lckv_logprob *top; /* [top_count] most probable tokens at this position */
    int top_count;
    bool known; /* false: the first token of a prompt, which has no log-probability */
} token_logprobs;

/* How entries are written. */
typedef struct logprob_format {
    lckv_tokenizer *tokenizer; /* NULL: tokens are shown by their ids and add no text */
    bool chat;
} logprob_format;

typedef struct logprob_entry {
    json_t *json;  /* NULL if memory ran out */
    int64_t start; /* characters of the choice's text before the token */
    bool adds;     /* the token adds text */
} logprob_entry;

/* Creates the entry of a token and advances the position. `emitted`: characters of the choice's text that are final
 * after this token; corrects the position where malformed bytes became U+FFFD. */
logprob_entry logprob_entry_create(const logprob_format *format, text_position *position, const token_logprobs *t,
                                   int64_t emitted);
/* Position after a prompt, without counting the characters of its text. */
text_position text_position_after(const logprob_format *format, const int32_t *ids, int64_t count);

/* Converts a list of entries to the field `logprobs` of a choice. Releases the list. */
json_t *logprobs_to_json(const logprob_format *format, json_t *entries);

int64_t count_characters(const char *text, size_t length);

#endif
