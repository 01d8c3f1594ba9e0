/* Rows behind those of a checkpoint, see added_rows.h. */
#include "io/added_rows.h"

#include "base/rng.h"

static const uint64_t ROWS_STREAM = 0x726f777300000000; /* "rows"; separate from the streams of initial weights */

bool added_rows_belong(const added_rows *a, const params *p, int i) {
    return a->vocab_size && params_is_outer(p, i);
}

void added_rows_extend(const added_rows *a, params *p) {
    for (int i = 0; i < p->count; i++) {
        weight *w = &p->table[i];
        if (!added_rows_belong(a, p, i)) continue;
        w->rows = w->all_rows = a->vocab_size;
        w->tensor.value = (view){NULL, w->rows, w->cols, DTYPE_F32, NULL};
    }
}

void added_rows_draw(const added_rows *a, const params *p, int i, int64_t stored, double deviation, float *values) {
    const weight *w = &p->table[i];
    int64_t count = (w->rows - stored) * w->cols;
    float *to = values + stored * w->cols;
    for (int64_t k = 0; k < count; k += 2) {
        double pair[2];
        rng_normal2(a->seed, ROWS_STREAM + (uint64_t)i, (uint64_t)k / 2, pair);
        to[k] = (float)(deviation * pair[0]);
        if (k + 1 < count) to[k + 1] = (float)(deviation * pair[1]);
    }
}
