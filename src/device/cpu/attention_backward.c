/* Attention backward: FlashAttention-2 (Dao 2023, algorithm 2) on a CPU, for lists of new rows only.
 *
 * A task is one KV head of one sequence and a part of its tiles of keys. For each tile it passes over the blocks of
 * queries that see the tile, recomputes their weights from the saved logsumexp, and adds
 *   dV += P^T dO,   dS = P * (dO V^T - delta),   dK += dS^T Q,   dQ += dS K,     delta = sum of dO * O over head_dim.
 * Rows of dk and dv belong to one task, and so does dq while a head is one task. If there are fewer heads than
 * threads, each part adds to a dq of its own; these are summed in the order of the parts. */
#include "device/cpu/attention.h"

#include <omp.h>

enum { BLOCK_ROWS = ATTENTION_KEYS }; /* queries times group */

struct block {
    struct attention_head head;
    int64_t first, rows, all_rows; /* rows of the block; all rows of the head */
    view dq;                       /* dq of this part */
    const float *deltas;           /* [rows, heads] */
    float *q, *dout;               /* [BLOCK_ROWS, padded_dim]; q times scale */
    float *dq_panel;               /* [TILE_ROWS, padded_dim] */
    float *k;                      /* [ATTENTION_KEYS, padded_dim] */
    float *k_columns, *v_columns;  /* [dim, ATTENTION_KEYS] */
    float *dk, *dv;                /* [ATTENTION_KEYS, padded_dim] */
    float p[BLOCK_ROWS * ATTENTION_KEYS], ds[BLOCK_ROWS * ATTENTION_KEYS];
    float lse[BLOCK_ROWS], delta[BLOCK_ROWS];
};

enum { BUFFERS = 8 };

static void block_carve(struct block *b, float *scratch, int64_t padded_dim) {
    float **buffers[BUFFERS] = {&b->q, &b->dout, &b->dq_panel, &b->k, &b->k_columns, &b->v_columns, &b->dk, &b->dv};
    for (int i = 0; i < BUFFERS; i++) *buffers[i] = scratch + i * ATTENTION_KEYS * padded_dim;
}

/* delta of one row: the sum of dout * out over head_dim. [rows, heads] */
static void form_delta(const struct op_attention *a, int64_t row, float *delta) {
    float out[ATTENTION_MAX_DIM];
    for (int64_t h = 0; h < a->heads; h++) {
        const float *dout = cpu_at(a->dout, row, h * a->head_dim);
        float sum = 0;
        tile_widen(out, cpu_at(a->out, row, h * a->head_dim), a->out.type, a->head_dim, 1.0f);
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < a->head_dim; c++) sum += dout[c] * out[c];
        delta[row * a->heads + h] = sum;
    }
}

/* The block's rows: q, dout, lse and delta. */
static void load_queries(struct block *b) {
    const struct op_attention *a = b->head.a;
    int64_t padded_rows = tile_round(b->rows, TILE_ROWS);
    attention_queries(b->q, &b->head, a->q, a->scale, b->first, b->rows, padded_rows);
    attention_queries(b->dout, &b->head, a->dout, 1.0f, b->first, b->rows, padded_rows);
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t row = b->head.sequence->q_row + (b->first + r) / b->head.group;
        int64_t head = b->head.kv_head * b->head.group + (b->first + r) % b->head.group;
        b->delta[r] = b->deltas[row * a->heads + head];
        b->lse[r] = *(float *)cpu_at(a->lse, row, head);
    }
}

/* One row in place: scores become weights P, dP becomes dS; both are zero where the row does not see the key. */
static void weights_row(struct block *b, int64_t r, int64_t key, int64_t keys) {
    struct cpu_range sees = attention_row_visible(&b->head, b->first + r, b->first + b->rows);
    float *p = b->p + r * ATTENTION_KEYS, *ds = b->ds + r * ATTENTION_KEYS;
    int64_t begin = sees.begin > key ? sees.begin - key : 0, end = sees.end - key < keys ? sees.end - key : keys;
    if (begin >= end) begin = end = ATTENTION_KEYS;
    float lse = b->lse[r], delta = b->delta[r];
    for (int64_t c = 0; c < begin; c++) p[c] = ds[c] = 0;
    for (int64_t c = begin; c < end; c++) {
        p[c] = cpu_exp(p[c] - lse);
        ds[c] = p[c] * (ds[c] - delta);
    }
    for (int64_t c = end; c < ATTENTION_KEYS; c++) p[c] = ds[c] = 0;
}

/* P and dS of TILE_ROWS rows from r on, and their dq. */
static void panel(struct block *b, int64_t r, struct cpu_range columns, int64_t key, int64_t keys) {
    int64_t dim = b->head.dim, padded_dim = b->head.padded_dim;
    float *p = b->p + r * ATTENTION_KEYS, *ds = b->ds + r * ATTENTION_KEYS;
    for (int64_t c = columns.begin; c < columns.end; c += TILE_COLS) {
        tile_product(p + c, ATTENTION_KEYS, false, b->q + r * padded_dim, padded_dim, 1, b->k_columns + c,
                     ATTENTION_KEYS, dim);
        tile_product(ds + c, ATTENTION_KEYS, false, b->dout + r * padded_dim, padded_dim, 1, b->v_columns + c,
                     ATTENTION_KEYS, dim);
    }
    for (int64_t i = 0; i < TILE_ROWS; i++) weights_row(b, r + i, key, keys);
    if (b->dq.data == NULL) return;
    for (int64_t c = 0; c < padded_dim; c += TILE_COLS)
        tile_product(b->dq_panel + c, padded_dim, false, ds + columns.begin, ATTENTION_KEYS, 1,
                     b->k + columns.begin * padded_dim + c, padded_dim, columns.end - columns.begin);
    for (int64_t i = 0; i < TILE_ROWS && r + i < b->rows; i++) {
        int64_t row = b->head.sequence->q_row + (b->first + r + i) / b->head.group;
        int64_t head = b->head.kv_head * b->head.group + (b->first + r + i) % b->head.group;
        float *restrict dq = cpu_at(b->dq, row, head * dim);
        const float *restrict from = b->dq_panel + i * padded_dim;
        for (int64_t c = 0; c < dim; c++) dq[c] += b->head.a->scale * from[c];
    }
}

/* The same for rows that see no key of the tile. */
static void no_weights(struct block *b, int64_t r) {
    memset(b->p + r * ATTENTION_KEYS, 0, TILE_ROWS * ATTENTION_KEYS * sizeof *b->p);
    memset(b->ds + r * ATTENTION_KEYS, 0, TILE_ROWS * ATTENTION_KEYS * sizeof *b->ds);
}

/* dv += P^T dout and dk += dS^T q, TILE_ROWS keys at a time, over the rows that see any of these keys. */
static void add_keys(struct block *b, int64_t key, int64_t keys) {
    int64_t padded_dim = b->head.padded_dim, begin = 0, end = 0;
    for (int64_t u = 0; u < keys; u += TILE_ROWS) {
        while (begin < b->rows && attention_row_visible(&b->head, b->first + begin, b->all_rows).end <= key + u)
            begin++;
        while (end < b->rows &&
               attention_row_visible(&b->head, b->first + end, b->all_rows).begin < key + u + TILE_ROWS)
            end++;
        if (end <= begin) continue;
        for (int64_t c = 0; c < padded_dim; c += TILE_COLS) {
            int64_t at = begin * ATTENTION_KEYS + u, from = begin * padded_dim + c;
            tile_product(b->dv + u * padded_dim + c, padded_dim, true, b->p + at, 1, ATTENTION_KEYS, b->dout + from,
                         padded_dim, end - begin);
            tile_product(b->dk + u * padded_dim + c, padded_dim, true, b->ds + at, 1, ATTENTION_KEYS, b->q + from,
                         padded_dim, end - begin);
        }
    }
}

/* Adds the sums of a tile to the gradient, if it is wanted. */
static void store_keys(const struct block *b, view gradient, const float *from, int64_t key, int64_t end) {
    if (gradient.data == NULL) return;
    for (int64_t u = key; u < end; u++, from += b->head.padded_dim) {
        float *restrict to = cpu_at(gradient, b->head.sequence->kv_row + u, b->head.kv_head * b->head.dim);
        for (int64_t c = 0; c < b->head.dim; c++) to[c] += from[c];
    }
}

static void tile_of_keys(struct block *b, int64_t key, int64_t end) {
    const struct op_attention *a = b->head.a;
    size_t bytes = (size_t)(ATTENTION_KEYS * b->head.padded_dim) * sizeof(float);
    attention_rows(b->k, &b->head, ATTENTION_V, key, end);
    attention_columns(b->v_columns, &b->head, b->k, end - key);
    attention_rows(b->k, &b->head, ATTENTION_K, key, end);
    attention_columns(b->k_columns, &b->head, b->k, end - key);
    memset(b->dk, 0, bytes);
    memset(b->dv, 0, bytes);
    for (b->first = 0; b->first < b->all_rows; b->first += BLOCK_ROWS) {
        b->rows = b->all_rows - b->first < BLOCK_ROWS ? b->all_rows - b->first : BLOCK_ROWS;
        struct cpu_range top = attention_row_visible(&b->head, b->first, b->all_rows);
        struct cpu_range bottom = attention_row_visible(&b->head, b->first + b->rows - 1, b->all_rows);
        if (bottom.end <= key || top.begin >= end) continue;
        load_queries(b);
        for (int64_t r = 0; r < b->rows; r += TILE_ROWS) {
            int64_t last = r + TILE_ROWS < b->rows ? r + TILE_ROWS - 1 : b->rows - 1;
            struct cpu_range columns =
                attention_tile_columns(attention_row_visible(&b->head, b->first + r, b->all_rows),
                                       attention_row_visible(&b->head, b->first + last, b->all_rows), key, end - key);
            if (columns.end > columns.begin)
                panel(b, r, columns, key, end - key);
            else
                no_weights(b, r);
        }
        if (a->dk.data || a->dv.data) add_keys(b, key, end - key);
    }
    store_keys(b, a->dk, b->dk, key, end);
    store_keys(b, a->dv, b->dv, key, end);
}

/* Adds the dq of the parts in their order. */
static void sum_parts(const struct op_attention *a, int64_t row, const float *dqs, int64_t parts) {
    float *restrict to = cpu_row(a->dq, row);
    for (int64_t part = 0; part < parts; part++) {
        const float *restrict from = dqs + (part * a->dq.rows + row) * a->dq.cols;
        for (int64_t c = 0; c < a->dq.cols; c++) to[c] += from[c];
    }
}

/* The whole call. */
struct work {
    const struct op_attention *a;
    int64_t parts;
    bool own_dq;                /* of each part */
    size_t floats;              /* of a thread's buffers */
    float *deltas, *dqs, *mine; /* [rows, heads], [parts, rows, heads * head_dim], [threads, floats] */
};

static void run_task(const struct work *w, int64_t task) {
    const struct op_attention *a = w->a;
    int64_t heads = a->sequences.rows * a->kv_heads, part = task / heads;
    struct block b = {.head = attention_head(a, task / a->kv_heads % a->sequences.rows, task % a->kv_heads)};
    b.dq = a->dq, b.deltas = w->deltas;
    if (w->own_dq) b.dq.data = w->dqs + part * a->dq.rows * a->dq.cols;
    b.all_rows = b.head.sequence->q_rows * b.head.group;
    block_carve(&b, w->mine + (size_t)omp_get_thread_num() * w->floats, b.head.padded_dim);
    int64_t keys = b.head.sequence->kv_rows;
    for (int64_t key = part * ATTENTION_KEYS; key < keys; key += w->parts * ATTENTION_KEYS)
        tile_of_keys(&b, key, keys - key < ATTENTION_KEYS ? keys : key + ATTENTION_KEYS);
}

/* Rows of sequences only; others are padding. */
static void run(const struct work *w, int threads) {
    const struct op_attention *a = w->a;
    const attention_sequence *s = a->sequences.data;
#pragma omp parallel num_threads(threads)
    {
        for (int64_t i = 0; i < a->sequences.rows; i++) {
#pragma omp for schedule(static)
            for (int64_t row = s[i].q_row; row < s[i].q_row + s[i].q_rows; row++) form_delta(a, row, w->deltas);
        }
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < w->parts * a->sequences.rows * a->kv_heads; task++) run_task(w, task);
        for (int64_t i = 0; i < a->sequences.rows && w->own_dq; i++) {
#pragma omp for schedule(static)
            for (int64_t row = s[i].q_row; row < s[i].q_row + s[i].q_rows; row++) sum_parts(a, row, w->dqs, w->parts);
        }
    }
}

int CPU_ENTRY(cpu_attention_backward)(device *d, const struct op_attention *a) {
    TRY(attention_check(a));
    if (a->k.data == NULL || a->heads == 0 || a->sequences.rows == 0) return LCKV_OK;
    int threads = cpu_parts(d, attention_work(a));
    int64_t heads = a->sequences.rows * a->kv_heads, tiles = (a->max_kv_rows + ATTENTION_KEYS - 1) / ATTENTION_KEYS;
    int64_t wanted = (threads + heads - 1) / heads;
    struct work w = {.a = a, .parts = wanted < tiles ? wanted : tiles};
    w.own_dq = w.parts > 1 && a->dq.data;
    w.floats = (size_t)(BUFFERS * ATTENTION_KEYS * tile_round(a->head_dim, TILE_COLS));
    size_t deltas = (size_t)(a->q.rows * a->heads);
    size_t dqs = w.own_dq ? (size_t)(w.parts * a->dq.rows * a->dq.cols) : 0;
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (deltas + dqs + (size_t)threads * w.floats) * sizeof(float), &scratch));
    w.mine = scratch;
    w.deltas = w.mine + (size_t)threads * w.floats;
    w.dqs = w.deltas + deltas;
    memset(w.dqs, 0, dqs * sizeof(float));
    run(&w, threads);
    return LCKV_OK;
}
