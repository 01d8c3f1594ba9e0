/* Rows of instruction data, each one sequence of token ids with what of it is to be learned, as trl's SFTTrainer (0.24)
 * makes them. A row is a JSON object with
 *
 *   messages                        a conversation, put into words by the chat template; all of it is learned, or with
 *                                   assistant_only_loss what the template marks as answers
 *   conversations                   the same, with `from` and `value` in place of `role` and `content` (row_shape.h)
 *   prompt, completion              two texts, or two lists of messages; the completion is learned
 *   text                            a text (or another field of that kind); all of it is learned
 *   instruction, (input,) output    Alpaca's: by the chat template where there is one, as a prompt in Alpaca's words
 *                                   (Taori et al. 2023) else; the output is learned
 *
 * Texts end in EOS, which is learned; what a template makes stays as it is. Leaves out: which rows make an example
 * (row_set.h), and steps. */
#ifndef DATA_ROWS_H
#define DATA_ROWS_H

#include "lckv.h"
#include "text/subword/id_list.h"

typedef struct tuning_options {
    const lckv_tuning *how;
    const char *const *paths; /* files, as documents.h reads them */
    int path_count;
    lckv_tokenizer *tokenizer;
    const lckv_chat_template *chat_template; /* NULL: none */
    int32_t longest;                         /* tokens of a row */
    bool (*go_on)(void *user, double fraction);
    void *user;
} tuning_options;

typedef struct tuning_rows {
    id_list ids;   /* of all rows, end to end */
    bool *learned; /* [ids.capacity] */
    size_t marked; /* room in it */
    int64_t *ends; /* [count]: ids of rows 0 to i together */
    int64_t count, room;
    int64_t cut, dropped, empty; /* rows that were too long, or had no token (and are not there) */
    int64_t mismatched;          /* whose prompt's tokens are not those that prompt and completion begin with */
    int64_t alpaca;              /* that Alpaca's words were put around */
    int64_t endless;             /* conversations behind which no EOS stands */
    int64_t foreign;             /* conversations with a role that templates seldom know */
    char foreign_role[24];       /* the first of these roles */
} tuning_rows;                   /* all zeros is an empty one */

/* LCKV_ERROR_FORMAT names the row that is none of these, or has nothing to learn with assistant_only_loss. */
int tuning_rows_read(const tuning_options *options, tuning_rows *out);
void tuning_rows_free(tuning_rows *rows);

static inline int64_t tuning_row_begin(const tuning_rows *r, int64_t i) {
    return i ? r->ends[i - 1] : 0;
}

#endif
