/* Converts a row of instruction data to text: the text of the whole sequence, and the parts of it that are trained on.
 * See tuning_rows.h for the types of rows. */
#ifndef DATA_TUNING_TUNING_TEXT_H
#define DATA_TUNING_TUNING_TEXT_H

#include "base/text/json.h"
#include "lckv.h"

/* The chat template that formats a conversation as Alpaca's prompt, for checkpoints that were tuned on it. It does not
 * start with BOS. */
extern const char TUNING_ALPACA_TEMPLATE[];

typedef struct tuning_text {
    char *whole; /* owned, [bytes] and a NUL */
    size_t bytes;
    char *prompt; /* text before the completion, which is encoded by itself; NULL: no separate prompt */
    size_t prompt_bytes;
    bool rendered;           /* by a chat template: the text contains special tokens */
    bool alpaca;             /* formatted as Alpaca's prompt */
    lckv_text_span *answers; /* [answer_count] parts that the template marks; NULL without assistant_only_loss */
    int answer_count;
    char foreign_role[24]; /* a role that the template may not support (tuning_row.h), truncated; "": none */
} tuning_text;

typedef struct tuning_source {
    const lckv_tuning *how;
    const lckv_chat_template *chat_template; /* NULL: none */
    const char *eos;                         /* the token's text */
    const char *where;                       /* file and line, for errors */
} tuning_source;

/* Converts a row (an object), or a plain text. Release with tuning_text_free(); *out is all zeros on failure. */
int tuning_text_of_row(const tuning_source *s, const json_t *row, tuning_text *out);
int tuning_text_of_words(const tuning_source *s, const char *words, size_t bytes, tuning_text *out);
void tuning_text_free(tuning_text *t);

#endif
