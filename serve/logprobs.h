/* Log-probabilities in answers: the entries of /v1/completions and /v1/chat/completions.
 *
 * A token is shown by the text that it adds to the answer, so that joined tokens are the text:
 *   - a token that adds nothing (EOS, BOS) is "";
 *   - a token that is no whole character is "bytes:\xe4" in completions and "\xe4" in chats, as OpenAI writes it; its
 *     entry's `bytes` has the raw bytes.
 * Among the most probable tokens, one that would add nothing is shown by its name ("</s>"), and one whose text another
 * one has already is "token_id:N"; the token that came keeps its text. */
#ifndef SERVE_LOGPROBS_H
#define SERVE_LOGPROBS_H

#include "bytes.h"
#include "lckv.h"

#include <jansson.h>

/* Where in the text of a choice the next token begins. */
typedef struct text_place {
    int64_t characters; /* whole ones (code points) before it */
    int missing;        /* bytes that the character before it still lacks */
    bool begun;         /* a token has come that is part of the text */
} text_place;

/* What is told of one token: its own log-probability, and those of the most probable ones in its place. */
typedef struct token_view {
    int32_t id;
    double logprob;
    const lckv_logprob *top;
    int top_count;
    bool known; /* false: nothing stands before it, so it has none */
} token_view;

/* How entries are made. */
typedef struct logprob_style {
    lckv_tokenizer *tokenizer; /* NULL: tokens are shown by their ids, and add nothing to the text */
    bool chat;
} logprob_style;

typedef struct logprob_entry {
    json_t *json;  /* NULL: no memory */
    int64_t start; /* characters of the choice's text before it */
    bool adds;     /* something to the text */
} logprob_entry;

/* The entry of a token, and moves the place behind it. `emitted`: characters of the choice's text that are known after
 * the token, which corrects the place where ill-formed bytes became U+FFFD. */
logprob_entry logprob_entry_make(const logprob_style *style, text_place *place, const token_view *t, int64_t emitted);
/* The place behind a prompt, without the characters of its text. */
text_place text_place_behind(const logprob_style *style, const int32_t *ids, int64_t count);

/* The field `logprobs` of a choice, of a list of entries, which is released. */
json_t *logprobs_value(const logprob_style *style, json_t *entries);

int64_t count_characters(const char *text, size_t length);

#endif
