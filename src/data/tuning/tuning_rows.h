/* Instruction data: each row becomes a sequence of token ids and a mask of the tokens to train on, as in trl's
 * SFTTrainer (0.24). A row is a JSON object with
 *
 *   messages                        a conversation, rendered by the chat template; trained on all of it, or with
 *                                   assistant_only_loss on what the template marks as answers
 *   conversations                   the same, with `from` and `value` instead of `role` and `content` (tuning_row.h)
 *   prompt, completion              two texts, or two lists of messages; trained on the completion
 *   text                            a text (or another field, dataset_text_field); trained on all of it
 *   instruction, (input,) output    Alpaca's format: rendered by the chat template if there is one, else as Alpaca's
 * prompt (Taori et al. 2023); trained on the output
 *
 * Texts get an EOS at the end, which is trained on; the output of a template is not changed. Leaves out: examples
 * (tuning_set.h). */
#ifndef DATA_TUNING_TUNING_ROWS_H
#define DATA_TUNING_TUNING_ROWS_H

#include "lckv.h"
#include "text/subword/id_list.h"

typedef struct tuning_options {
    const lckv_tuning *how;
    const char *const *paths; /* files, see document_reader.h */
    int path_count;
    lckv_tokenizer *tokenizer;
    const lckv_chat_template *chat_template; /* NULL: none */
    int32_t longest;                         /* maximum tokens of a row */
    bool (*go_on)(void *user, double fraction);
    void *user;
} tuning_options;

typedef struct tuning_rows {
    id_list ids;   /* of all rows, concatenated */
    bool *learned; /* [marked] whether to train on each id */
    size_t marked; /* capacity */
    int64_t *ends; /* [count]: number of ids in rows 0 to i */
    int64_t count, room;
    int64_t cut, dropped, empty; /* rows truncated, dropped as too long, dropped as empty */
    int64_t unlearned;           /* rows that teach nothing: no token is trained on, or the first one alone */
    int64_t mismatched;          /* rows whose prompt is encoded differently by itself */
    int64_t alpaca;              /* rows formatted as Alpaca's prompt */
    int64_t endless;             /* conversations without EOS at the end */
    int64_t foreign;             /* conversations with a role that templates rarely support */
    char foreign_role[24];       /* the first of these roles */
} tuning_rows;                   /* all zeros is an empty one */

/* Reads and encodes rows. LCKV_ERROR_FORMAT, with file and line, for a row of no type, or one without answers with
 * assistant_only_loss. */
int tuning_rows_read(const tuning_options *options, tuning_rows *out);
void tuning_rows_free(tuning_rows *rows);

static inline int64_t tuning_row_begin(const tuning_rows *r, int64_t i) {
    return i ? r->ends[i - 1] : 0;
}

#endif
