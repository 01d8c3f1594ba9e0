/* What a row of instruction data says, as text: the words of a whole sequence, and where in it lies what is to be
 * learned. See rows.h for the kinds of rows. */
#ifndef DATA_ROW_TEXT_H
#define DATA_ROW_TEXT_H

#include "base/json.h"
#include "lckv.h"

/* The chat template that puts Alpaca's words around a conversation, for a checkpoint that was tuned on them. It begins
 * without BOS. */
extern const char TUNING_ALPACA_TEMPLATE[];

typedef struct tuning_text {
    char *whole; /* owned, NUL behind its bytes */
    size_t bytes;
    char *prompt; /* what the completion follows, encoded by itself; NULL: the row is not of two parts */
    size_t prompt_bytes;
    bool rendered;           /* by a chat template: special tokens stand in it */
    bool alpaca;             /* in Alpaca's words */
    lckv_text_span *answers; /* [answer_count] what the template marks; NULL unless asked for */
    int answer_count;
    char foreign_role[24]; /* of a conversation, one that its template may not know (row_shape.h), cut; "": none */
} tuning_text;

typedef struct tuning_source {
    const lckv_tuning *how;
    const lckv_chat_template *chat_template; /* NULL: none */
    const char *eos;                         /* the token's text */
    const char *where;                       /* file and line, for errors */
} tuning_source;

/* Of a row, an object; or of a plain text. `out` is the caller's until tuning_text_free(), all zeros on failure. */
int tuning_text_of_row(const tuning_source *s, const json_t *row, tuning_text *out);
int tuning_text_of_words(const tuning_source *s, const char *words, size_t bytes, tuning_text *out);
void tuning_text_free(tuning_text *t);

#endif
