/* Examples of instruction data, see tuning_set.h. */
#include "data/tuning/tuning_set.h"

#include <stdlib.h>
#include <string.h>

void tuning_set_free(tuning_set *s) {
    free(s->order);
    free(s->begin);
    *s = (tuning_set){0};
}

/* ---------------------------------------------------------------- reading */

static int32_t row_length(const tuning_rows *r, int64_t row) {
    return (int32_t)(r->ends[row] - tuning_row_begin(r, row));
}

/* A token's label is the next token if that one is trained on. */
static void copy_row(const tuning_rows *r, int64_t row, example *out) {
    int64_t begin = tuning_row_begin(r, row);
    int32_t length = row_length(r, row), *ids = out->ids + out->tokens, *labels = out->labels + out->tokens;
    memcpy(ids, r->ids.ids + begin, (size_t)length * sizeof *ids);
    for (int32_t t = 0; t + 1 < length; t++) labels[t] = r->learned[begin + t + 1] ? ids[t + 1] : -1;
    labels[length - 1] = -1;
    out->lengths[out->sequences++] = length;
    out->tokens += length;
}

static int read_example(const examples *from, int64_t number, example *out) {
    const tuning_set *s = (const tuning_set *)from;
    int64_t i = number % from->count;
    out->tokens = out->sequences = 0;
    for (int64_t k = s->begin[i]; k < s->begin[i + 1]; k++) copy_row(s->rows, s->order[k], out);
    return LCKV_OK;
}

static int count_labels(const examples *from, int64_t number, int64_t *out) {
    const tuning_set *s = (const tuning_set *)from;
    int64_t i = number % from->count;
    *out = 0;
    for (int64_t k = s->begin[i]; k < s->begin[i + 1]; k++) {
        int64_t begin = tuning_row_begin(s->rows, s->order[k]), end = s->rows->ends[s->order[k]];
        for (int64_t t = begin + 1; t < end; t++) *out += s->rows->learned[t];
    }
    return LCKV_OK;
}

/* transformers' Trainer divides the loss by the number of all trained tokens, including the first token of a row, which
 * is never predicted. With packing, trl does not count the first tokens. */
static int count_items(const examples *from, int64_t number, int64_t *out) {
    const tuning_set *s = (const tuning_set *)from;
    TRY(count_labels(from, number, out));
    *out += s->rows->learned[tuning_row_begin(s->rows, s->order[number % from->count])];
    return LCKV_OK;
}

static int64_t count_tokens(const examples *from, int64_t number) {
    const tuning_set *s = (const tuning_set *)from;
    int64_t i = number % from->count, tokens = 0;
    for (int64_t k = s->begin[i]; k < s->begin[i + 1]; k++) tokens += row_length(s->rows, s->order[k]);
    return tokens;
}

/* ---------------------------------------------------------------- creation */

/* Packs up to 1,000 rows from row `first` on and appends their examples. */
static int pack_group(tuning_set *s, int64_t first, int64_t count, int64_t done) {
    int32_t lengths[TUNING_ROWS_PER_PACK];
    int64_t *order = s->order + done, *begin = s->begin + s->examples.count;
    for (int64_t i = 0; i < count; i++) lengths[i] = row_length(s->rows, first + i);
    int64_t packed = tuning_pack(lengths, count, s->examples.block_size, order, begin);
    if (packed < 0) return (int)packed;
    for (int64_t i = 0; i < count; i++) order[i] += first;
    for (int64_t i = 0; i <= packed; i++) begin[i] += done;
    s->examples.count += packed;
    return LCKV_OK;
}

static int pack_all(tuning_set *s, int64_t first, int64_t count) {
    for (int64_t done = 0; done < count; done += TUNING_ROWS_PER_PACK) {
        int64_t left = count - done;
        TRY(pack_group(s, first + done, left < TUNING_ROWS_PER_PACK ? left : TUNING_ROWS_PER_PACK, done));
    }
    return LCKV_OK;
}

static void one_by_one(tuning_set *s, int64_t first, int64_t count) {
    for (int64_t i = 0; i <= count; i++) s->begin[i] = i;
    for (int64_t i = 0; i < count; i++) s->order[i] = first + i;
    s->examples.count = count;
}

int tuning_set_make(const tuning_rows *rows, int64_t first, int64_t count, int32_t block_size, bool packing,
                    tuning_set *out) {
    *out = (tuning_set){
        .examples = {0, block_size, read_example, count_labels, count_tokens, packing ? NULL : count_items},
        .rows = rows,
        .order = malloc((size_t)(count + 1) * sizeof *out->order),
        .begin = malloc((size_t)(count + 1) * sizeof *out->begin)};
    int status =
        out->order && out->begin ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for %lld rows", (long long)count);
    if (status >= 0 && packing) status = pack_all(out, first, count);
    if (status >= 0 && !packing) one_by_one(out, first, count);
    for (int64_t i = first; i < first + count && status >= 0; i++) out->tokens += row_length(rows, i);
    if (status < 0) tuning_set_free(out);
    return status;
}
