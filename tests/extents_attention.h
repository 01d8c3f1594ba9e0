/* Attention at every combination of extents (test_device_extents.c), against plain sums over the visible keys. */
#ifndef TESTS_EXTENTS_ATTENTION_H
#define TESTS_EXTENTS_ATTENTION_H

#include "device_check.h"

/* e: sequences, queries each, new keys each, past keys each, KV heads. */
enum { HEAD_DIM = 16, GROUP = 2, PAGE_ROWS = 4 };

static inline view sequences_of(const int64_t *e, int64_t past) {
    view v = tensor(e[0], sizeof(attention_sequence), DTYPE_U8);
    for (int64_t i = 0; i < e[0]; i++)
        ((attention_sequence *)v.data)[i] = (attention_sequence){.q_row = (int32_t)(i * e[1]),
                                                                 .q_rows = (int32_t)e[1],
                                                                 .kv_row = (int32_t)(i * e[2]),
                                                                 .kv_rows = (int32_t)e[2],
                                                                 .past = (int32_t)past};
    return v;
}

static inline struct op_attention attention_of(const int64_t *e, int64_t past, dtype compute) {
    int64_t heads = GROUP * e[4], pages = (past + PAGE_ROWS - 1) / PAGE_ROWS;
    struct op_attention a = {.q = random_tensor(e[0] * e[1], heads * HEAD_DIM, compute, 1.0),
                             .out = tensor(e[0] * e[1], heads * HEAD_DIM, compute),
                             .lse = tensor(e[0] * e[1], heads, DTYPE_F32),
                             .sequences = sequences_of(e, past),
                             .max_q_rows = (int32_t)e[1],
                             .max_kv_rows = (int32_t)e[2],
                             .max_past = (int32_t)past,
                             .heads = (int)heads,
                             .kv_heads = (int)e[4],
                             .head_dim = HEAD_DIM,
                             .scale = 0.25f};
    a.k = random_tensor(e[0] * e[2], e[4] * HEAD_DIM, compute, 1.0);
    a.v = random_tensor(e[0] * e[2], e[4] * HEAD_DIM, compute, 1.0);
    if (past == 0) return a;
    a.past.k = random_tensor(e[0] * pages * PAGE_ROWS, e[4] * HEAD_DIM, compute, 1.0);
    a.past.v = random_tensor(e[0] * pages * PAGE_ROWS, e[4] * HEAD_DIM, compute, 1.0);
    a.past.table = tensor(e[0], pages, DTYPE_I32);
    a.past.page_rows = PAGE_ROWS;
    for (int64_t i = 0; i < e[0] * pages; i++) ((int32_t *)a.past.table.data)[i] = (int32_t)i;
    return a;
}

/* Element c of key or value u of sequence s, at this KV head. */
static inline double key_of(const struct op_attention *a, view past, view fresh, int64_t s, int64_t u, int64_t c) {
    const attention_sequence *sequence = (const attention_sequence *)a->sequences.data + s;
    if (u >= sequence->past) return element(fresh, (sequence->kv_row + u - sequence->past) * fresh.cols + c);
    return element(past, (s * a->past.table.cols * PAGE_ROWS + u) * past.cols + c);
}

/* Checks the output of one query at one head against plain sums over its visible keys. */
static inline void expect_attention(const struct op_attention *a, int64_t s, int64_t i, int64_t h) {
    const attention_sequence *sequence = (const attention_sequence *)a->sequences.data + s;
    int64_t row = sequence->q_row + i, first = h / GROUP * HEAD_DIM, keys = sequence->past + sequence->kv_rows;
    int64_t sees = sequence->past + i + 1 < keys ? sequence->past + i + 1 : keys;
    double sum = 0, out[HEAD_DIM] = {0};
    for (int64_t u = 0; u < sees; u++) {
        double score = 0;
        for (int64_t c = 0; c < HEAD_DIM; c++)
            score += element(a->q, row * a->q.cols + h * HEAD_DIM + c) * key_of(a, a->past.k, a->k, s, u, first + c);
        double weight = exp(0.25 * score);
        sum += weight;
        for (int64_t c = 0; c < HEAD_DIM; c++) out[c] += weight * key_of(a, a->past.v, a->v, s, u, first + c);
    }
    if (sum == 0) assert_true(element(a->lse, row * a->heads + h) == (double)-INFINITY);
    if (sum > 0) check_near("lse", a->lse, row * a->heads + h, log(sum), 0.05);
    for (int64_t c = 0; c < HEAD_DIM; c++)
        check_near("out", a->out, row * a->q.cols + h * HEAD_DIM + c, sum > 0 ? out[c] / sum : 0, sum > 0 ? 0.05 : 0);
}

static inline void attention_extents(device *d, const int64_t *e, dtype compute) {
    struct op_attention a = attention_of(e, e[3], compute);
    if (e[2] == 0) a.k = a.v = ABSENT;
    RUN(d, attention, a);
    for (int64_t s = 0; s < e[0]; s++)
        for (int64_t i = 0; i < e[1]; i++)
            for (int64_t h = 0; h < a.heads; h++) expect_attention(&a, s, i, h);
}

/* The gradients of the values of a head must sum to the dout of those queries that see a key. */
static inline void attention_backward_extents(device *d, const int64_t *e, dtype compute) {
    if (e[3] > 0) return; /* no past */
    struct op_attention a = attention_of(e, 0, compute);
    RUN(d, attention, a);
    a.dout = random_tensor(a.q.rows, a.q.cols, DTYPE_F32, 1.0),
    a.dq = random_tensor(a.q.rows, a.q.cols, DTYPE_F32, 1.0);
    a.dk = random_tensor(a.k.rows, a.k.cols, DTYPE_F32, 1.0), a.dv = random_tensor(a.k.rows, a.k.cols, DTYPE_F32, 1.0);
    double want = 0, got = 0;
    for (int64_t i = 0; i < elements(a.dv); i++) want += element(a.dv, i);
    for (int64_t i = 0; i < elements(a.dout) && e[2] > 0; i++) want += element(a.dout, i);
    view dq = copy_tensor(a.dq);
    RUN(d, attention_backward, a);
    for (int64_t i = 0; i < elements(a.dv); i++) got += element(a.dv, i);
    if (fabs(got - want) > 0.02 * (double)(elements(a.dout) + 1))
        fail_msg("dv: expected a sum of %g, found %g", want, got);
    for (int64_t i = 0; i < elements(a.dk); i++) assert_true(isfinite(element(a.dk, i)));
    for (int64_t i = 0; i < elements(a.dq); i++) check_near("dq", a.dq, i, element(dq, i), e[2] > 0 ? 100 : 0);
}

#endif
