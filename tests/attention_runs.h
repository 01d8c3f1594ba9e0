/* Attention ops with random inputs: cases, and their tensors on the host and as doubles. Memory that must not be read
 * contains NaN. */
#ifndef TESTS_ATTENTION_RUNS_H
#define TESTS_ATTENTION_RUNS_H

#include "device_check.h"

enum { MAX_SEQUENCES = 4, MAX_KEYS = 1024, MAX_DIM = 256 };

struct attention_case {
    int heads, kv_heads, dim;
    bool strict;
    int64_t window;
    int page_rows; /* 0: no past */
    bool q_sink;
    int count;
    struct {
        int32_t q_rows, kv_rows, q_offset, past, sinks, skip;
    } sequence[MAX_SEQUENCES];
};

static const struct attention_case cases[] = {
    /* training: many rows, every mask, odd sizes */
    {4, 2, 16, false, 0, 0, false, 2, {{37, 37, 0, 0, 0, 0}, {1, 1, 0, 0, 0, 0}}},
    {4, 4, 64, false, 0, 0, false, 1, {{211, 211, 0, 0, 0, 0}}},
    {2, 1, 80, true, 0, 0, false, 2, {{101, 101, 0, 0, 0, 0}, {99, 99, 0, 0, 0, 0}}},
    {6, 2, 8, false, 13, 0, false, 2, {{120, 120, 0, 0, 0, 0}, {7, 7, 0, 0, 0, 0}}},
    {3, 3, 12, true, 1, 0, false, 1, {{40, 40, 0, 0, 0, 0}}},
    {3, 1, 32, true, 130, 0, false, 3, {{300, 300, 0, 0, 0, 0}, {0, 5, 0, 0, 0, 0}, {64, 64, 0, 0, 0, 0}}},
    {16, 1, 128, false, 0, 0, false, 1, {{25, 25, 0, 0, 0, 0}}},
    {5, 5, 7, false, 97, 0, false, 1, {{193, 193, 0, 0, 0, 0}}},
    {2, 1, 16, true, 0, 0, false, 1, {{409, 409, 0, 0, 0, 0}}},
    {2, 1, 40, false, 50, 0, false, 1, {{333, 333, 0, 0, 0, 0}}},
    {6, 2, 64, true, 70, 0, false, 3, {{150, 150, 0, 0, 0, 0}, {0, 5, 0, 0, 0, 0}, {64, 64, 0, 0, 0, 0}}},
    {8, 1, 64, false, 0, 0, false, 2, {{200, 200, 0, 0, 0, 0}, {3, 3, 0, 0, 0, 0}}},
    {3, 1, 128, false, 0, 0, false, 2, {{140, 140, 0, 0, 0, 0}, {65, 65, 0, 0, 0, 0}}},
    /* queries that start after the first new row; queries of which some see nothing; no new rows */
    {4, 2, 16, false, 0, 0, false, 2, {{1, 150, 149, 0, 0, 0}, {20, 53, 33, 0, 0, 0}}},
    {2, 2, 24, true, 0, 0, false, 2, {{2, 0, 0, 0, 0, 0}, {30, 10, 0, 0, 0, 0}}},
    {4, 2, 64, false, 90, 0, false, 2, {{70, 223, 153, 0, 0, 0}, {20, 53, 33, 0, 0, 0}}},
    /* a past: whole, windowed, with sinks that q or q_sink reads, skipped rows, no new rows */
    {4, 2, 16, false, 0, 16, false, 3, {{1, 1, 0, 200, 0, 0}, {40, 40, 0, 77, 0, 0}, {3, 3, 0, 0, 0, 0}}},
    {8, 2, 64, false, 20, 16, false, 2, {{1, 1, 0, 61, 0, 0}, {50, 50, 0, 33, 0, 0}}},
    {5, 1, 128, false, 0, 8, false, 2, {{60, 60, 0, 77, 0, 0}, {40, 40, 0, 0, 0, 0}}},
    {4, 4, 16, true, 0, 4, true, 3, {{1, 0, 0, 31, 4, 3}, {1, 1, 0, 3, 3, 0}, {33, 33, 0, 120, 6, 1}}},
    {8, 1, 48, false, 0, 8, true, 2, {{1, 1, 0, 900, 5, 7}, {2, 2, 0, 100, 100, 0}}},
    {6, 3, 20, false, 25, 8, true, 2, {{1, 1, 0, 60, 20, 2}, {17, 17, 0, 60, 20, 5}}},
    {2, 2, 16, true, 0, 8, false, 1, {{12, 12, 0, 9, 4, 4}}},
    /* decoding: whole pages, groups of eight and of sixteen rows */
    {16, 2, 64, false, 0, 16, false, 3, {{1, 1, 0, 700, 0, 0}, {1, 1, 0, 255, 0, 0}, {2, 2, 0, 31, 0, 0}}},
    {8, 1, 128, false, 0, 32, false, 2, {{1, 1, 0, 610, 0, 0}, {1, 1, 0, 40, 0, 0}}},
    {8, 1, 64, false, 300, 16, false, 2, {{1, 1, 0, 801, 0, 0}, {1, 1, 0, 5, 0, 0}}},
    {8, 1, 64, false, 0, 16, false, 3, {{1, 1, 0, 41, 0, 0}, {1, 1, 0, 16, 0, 0}, {2, 2, 0, 3, 0, 0}}},
    {8, 2, 120, true, 0, 16, false, 2, {{1, 1, 0, 50, 0, 0}, {1, 1, 0, 0, 0, 0}}},
    /* decoding: 1 to 8 rows per KV head, whole and partial tiles, sizes that are not whole vectors */
    {4, 4, 64, false, 0, 16, false, 2, {{1, 1, 0, 128, 0, 0}, {1, 1, 0, 47, 0, 0}}},
    {4, 2, 33, false, 0, 16, false, 3, {{1, 1, 0, 300, 0, 0}, {2, 2, 0, 64, 0, 0}, {1, 150, 149, 0, 0, 0}}},
    {9, 3, 64, false, 0, 16, false, 2, {{1, 1, 0, 515, 0, 0}, {2, 2, 0, 96, 0, 0}}},
    {9, 3, 64, false, 70, 16, true, 2, {{1, 1, 0, 300, 4, 3}, {2, 2, 0, 200, 20, 0}}},
    {8, 2, 64, true, 100, 16, false, 2, {{1, 1, 0, 333, 0, 0}, {2, 2, 0, 130, 0, 0}}},
    {10, 2, 100, false, 0, 8, false, 1, {{1, 1, 0, 150, 0, 0}}},
    {12, 2, 72, true, 0, 16, false, 2, {{1, 1, 0, 90, 0, 0}, {1, 1, 0, 17, 0, 0}}},
    {7, 1, 24, false, 33, 4, false, 2, {{1, 1, 0, 99, 0, 0}, {1, 1, 0, 3, 0, 0}}},
    {2, 2, 1, false, 0, 16, false, 1, {{1, 1, 0, 100, 0, 0}}},
    /* other heads; more new rows than queries; prompts and decoding in one call */
    {8, 2, 32, false, 0, 16, false, 3, {{1, 1, 0, 300, 0, 0}, {30, 30, 0, 70, 0, 0}, {2, 2, 0, 33, 0, 0}}},
    {6, 2, 96, true, 40, 16, false, 3, {{1, 1, 0, 200, 0, 0}, {30, 30, 0, 70, 0, 0}, {2, 2, 0, 33, 0, 0}}},
    {4, 1, 256, false, 100, 8, false, 2, {{1, 1, 0, 150, 0, 0}, {20, 20, 0, 40, 0, 0}}},
    {2, 1, 64, false, 0, 16, false, 2, {{2, 40, 38, 100, 0, 0}, {1, 1, 0, 17, 0, 0}}},
    {16, 2, 128, false, 60, 4, false, 2, {{1, 1, 0, 90, 0, 0}, {80, 80, 0, 133, 7, 2}}},
    {16, 1, 128, true, 0, 16, true, 2, {{1, 0, 0, 500, 4, 3}, {1, 1, 0, 40, 20, 5}}},
    {4, 2, 64, false, 0, 16, true, 3, {{1, 1, 0, 70, 40, 9}, {2, 2, 0, 30, 30, 0}, {1, 1, 0, 0, 0, 0}}},
};
enum { CASES = sizeof cases / sizeof *cases, DEAD_ROWS = 3 };

/* A case with its tensors, their content as double, and for each sequence the list of keys as rows of k, v or pages. */
struct attention_run {
    const struct attention_case *c;
    double rounded; /* rounding of weights and dout on the device, relative */
    struct op_attention a;
    double *q, *q_sink, *dout, *k, *v, *past_k, *past_v;
    struct {
        bool past;
        int64_t row;
    } key[MAX_SEQUENCES][MAX_KEYS];
};

static inline double *as_double(view v) {
    double *x = malloc((size_t)(elements(v) + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < elements(v) && v.data; i++) x[i] = element(v, i);
    return x;
}

/* Row of key u of sequence i, at its KV head. */
static inline const double *key_row(const struct attention_run *r, int i, int64_t u, int64_t kv_head, bool value) {
    const double *rows = r->key[i][u].past ? (value ? r->past_v : r->past_k) : value ? r->v : r->k;
    return rows + (r->key[i][u].row * r->c->kv_heads + kv_head) * r->c->dim;
}

static inline const double *head_row(const struct attention_run *r, const double *rows, int64_t row, int64_t head) {
    return rows + (row * r->c->heads + head) * r->c->dim;
}

static inline double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static inline void randomize_row(view v, int64_t row) {
    for (int64_t c = 0; c < v.cols; c++) set_element(v, row * v.cols + c, random_normal());
}

/* A random row of pages; in int8 any integers, with scales that differ between heads. */
static inline void fill_past_row(view v, int64_t row) {
    if (v.type != DTYPE_KV_INT8) {
        randomize_row(v, row);
        return;
    }
    for (int64_t c = 0; c < v.cols; c++) ((int8_t *)v.data)[row * v.cols + c] = (int8_t)(random_below(255) - 127);
    for (int64_t g = 0; g < v.cols / v.group; g++)
        ((float *)v.scales)[row * (v.cols / v.group) + g] = (float)(0.02 * (0.25 + random_uniform()));
}

/* Fills the pages of sequence i: the rows of its past at the places that kv_pages gives. All others stay NaN. */
static inline void fill_pages(struct attention_run *r, int i, int32_t *table, int64_t *next_page) {
    const int32_t page_rows = r->c->page_rows, past = r->c->sequence[i].past, sinks = r->c->sequence[i].sinks;
    int32_t sink_pages = (sinks + page_rows - 1) / page_rows;
    int32_t pages = sink_pages + (past - sinks + r->c->sequence[i].skip + page_rows - 1) / page_rows;
    for (int32_t page = 0; page < pages; page++) table[page] = (int32_t)(*next_page -= 1);
    for (int32_t u = 0; u < past; u++) {
        int32_t at = u < sinks ? u : u - sinks + r->c->sequence[i].skip, first = u < sinks ? 0 : sink_pages;
        int64_t row = (int64_t)table[first + at / page_rows] * page_rows + at % page_rows;
        fill_past_row(r->a.past.k, row);
        fill_past_row(r->a.past.v, row);
        r->key[i][u].past = true, r->key[i][u].row = row;
    }
}

static inline void make_past(struct attention_run *r, dtype type) {
    const struct attention_case *c = r->c;
    int64_t pages = 0, max_pages = 0;
    for (int i = 0; i < c->count; i++) {
        int64_t own = (c->sequence[i].past + c->sequence[i].skip) / c->page_rows + 3;
        pages += own, max_pages = own > max_pages ? own : max_pages;
    }
    int64_t rows = pages * c->page_rows, cols = c->kv_heads * c->dim;
    bool int8 = type == DTYPE_KV_INT8;
    r->a.past = (struct kv_pages){.k = int8 ? tensor_of_heads(rows, cols, c->dim) : tensor(rows, cols, type),
                                  .v = int8 ? tensor_of_heads(rows, cols, c->dim) : tensor(rows, cols, type),
                                  .table = tensor(c->count, max_pages, DTYPE_I32),
                                  .page_rows = c->page_rows};
    for (int i = 0; i < c->count; i++) fill_pages(r, i, (int32_t *)r->a.past.table.data + i * max_pages, &pages);
}

/* Adds the new rows of sequence i to the list, after its past. */
static inline void fill_new(struct attention_run *r, int i, const attention_sequence *s) {
    for (int64_t q = s->q_row; q < s->q_row + s->q_rows; q++) {
        randomize_row(r->a.q, q);
        if (r->a.q_sink.data) randomize_row(r->a.q_sink, q);
        randomize_row(r->a.dout, q);
    }
    for (int64_t u = 0; u < s->kv_rows; u++) {
        randomize_row(r->a.k, s->kv_row + u);
        randomize_row(r->a.v, s->kv_row + u);
        r->key[i][s->past + u].row = s->kv_row + u;
    }
}

static inline struct attention_run *make_run(const struct attention_case *c, dtype compute, dtype past_type) {
    struct attention_run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->c = c;
    struct op_attention *a = &r->a;
    *a = (struct op_attention){.heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->dim, .strict = c->strict};
    a->window = c->window, a->scale = (float)(1 / sqrt(c->dim));
    a->sequences = tensor(c->count, sizeof(attention_sequence), DTYPE_U8);
    attention_sequence *s = a->sequences.data;
    int32_t q_rows = DEAD_ROWS, kv_rows = 0;
    for (int i = 0; i < c->count; i++) {
        s[i] = (attention_sequence){q_rows,
                                    c->sequence[i].q_rows,
                                    kv_rows,
                                    c->sequence[i].kv_rows,
                                    c->sequence[i].q_offset,
                                    c->sequence[i].past,
                                    c->sequence[i].sinks,
                                    c->sequence[i].skip};
        q_rows += s[i].q_rows, kv_rows += s[i].kv_rows;
        a->max_q_rows = s[i].q_rows > a->max_q_rows ? s[i].q_rows : a->max_q_rows;
        a->max_kv_rows = s[i].kv_rows > a->max_kv_rows ? s[i].kv_rows : a->max_kv_rows;
        a->max_past = s[i].past > a->max_past ? s[i].past : a->max_past;
    }
    q_rows += DEAD_ROWS, kv_rows += kv_rows > 0 ? DEAD_ROWS : 0;
    a->q = tensor(q_rows, c->heads * c->dim, compute);
    if (c->q_sink) a->q_sink = tensor(q_rows, c->heads * c->dim, compute);
    a->out = tensor(q_rows, c->heads * c->dim, compute);
    a->dout = tensor(q_rows, c->heads * c->dim, DTYPE_F32);
    a->lse = tensor(q_rows, c->heads, DTYPE_F32);
    if (kv_rows > 0) a->k = tensor(kv_rows, c->kv_heads * c->dim, compute);
    if (kv_rows > 0) a->v = tensor(kv_rows, c->kv_heads * c->dim, compute);
    if (c->page_rows > 0) make_past(r, past_type);
    for (int i = 0; i < c->count; i++) fill_new(r, i, s + i);
    r->q = as_double(a->q), r->q_sink = as_double(a->q_sink), r->dout = as_double(a->dout);
    r->k = as_double(a->k), r->v = as_double(a->v);
    r->past_k = as_double(a->past.k), r->past_v = as_double(a->past.v);
    return r;
}

static inline void free_run(struct attention_run *r) {
    double *all[] = {r->q, r->q_sink, r->dout, r->k, r->v, r->past_k, r->past_v};
    for (int i = 0; i < 7; i++) free(all[i]);
    free(r);
}

#endif
