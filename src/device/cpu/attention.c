/* Attention forward: FlashAttention-2 (Dao 2023, algorithm 1) on a CPU.
 *
 * A task is a block of queries of one sequence and KV head. It passes once over the keys that the block sees, one
 * tile at a time, with a running maximum and sum per row, and stores at most TILE_ROWS by ATTENTION_KEYS scores.
 * Only one task writes a row of out, so the bits do not depend on the thread that runs it. Tiles that no row of a
 * panel sees are skipped. attention_few.c handles sequences with few queries. */
#include "device/cpu/attention.h"

#include <omp.h>

enum {
    BLOCK_ROWS = 192
}; /* rows that share a packed tile: many, so that packing costs little; a multiple of
    * TILE_ROWS */

/* Buffers of a thread in the device's scratch memory. */
struct block {
    struct attention_head head;
    int64_t first, rows; /* of the head's rows */
    float *q, *q_sink;   /* [BLOCK_ROWS, padded_dim], times scale */
    float *o;            /* [BLOCK_ROWS, padded_dim] */
    float *k;            /* [dim, ATTENTION_KEYS] */
    float *v;            /* [ATTENTION_KEYS, padded_dim] */
    float scores[TILE_ROWS * ATTENTION_KEYS];
    float maximum[BLOCK_ROWS], sum[BLOCK_ROWS];
};

static size_t block_floats(const struct op_attention *a) {
    size_t padded_dim = (size_t)tile_round(a->head_dim, TILE_COLS);
    return padded_dim * (3 * BLOCK_ROWS + 2 * ATTENTION_KEYS);
}

static void block_carve(struct block *b, float *scratch, int64_t padded_dim) {
    b->q = scratch;
    b->q_sink = b->q + BLOCK_ROWS * padded_dim;
    b->o = b->q_sink + BLOCK_ROWS * padded_dim;
    b->k = b->o + BLOCK_ROWS * padded_dim;
    b->v = b->k + ATTENTION_KEYS * padded_dim;
}

static void block_begin(struct block *b) {
    const struct op_attention *a = b->head.a;
    int64_t padded_rows = tile_round(b->rows, TILE_ROWS);
    attention_queries(b->q, &b->head, a->q, a->scale, b->first, b->rows, padded_rows);
    if (a->q_sink.data && b->head.sequence->sinks > 0)
        attention_queries(b->q_sink, &b->head, a->q_sink, a->scale, b->first, b->rows, padded_rows);
    memset(b->o, 0, (size_t)(padded_rows * b->head.padded_dim) * sizeof *b->o);
    for (int64_t r = 0; r < padded_rows; r++) b->maximum[r] = -INFINITY, b->sum[r] = 0;
}

/* Turns the scores of one row, in whole tile columns, into weights relative to the row's running maximum. Columns
 * that the row does not see, and those after the tile's keys, become zeros. */
static void softmax_row(struct block *b, int64_t r, float *scores, struct cpu_range columns, int64_t key,
                        int64_t keys) {
    struct cpu_range sees = attention_row_visible(&b->head, b->first + r, b->first + b->rows);
    int64_t begin = sees.begin - key > columns.begin ? sees.begin - key : columns.begin;
    int64_t end = sees.end - key < keys ? sees.end - key : keys, padded_dim = b->head.padded_dim;
    float nothing = end > begin ? -INFINITY : 0;
    if (end <= begin) begin = end = columns.end;
    for (int64_t c = columns.begin; c < begin; c++) scores[c] = nothing;
    for (int64_t c = end; c < columns.end; c++) scores[c] = nothing;
    if (end == begin) return;
    float *row = scores + columns.begin, *o = b->o + r * padded_dim;
    int64_t n = columns.end - columns.begin;
    float factor = attention_rescale(&b->maximum[r], tile_largest(row, n)), maximum = b->maximum[r];
    b->sum[r] = b->sum[r] * factor + tile_sum(tile_exp(row, n, maximum));
    if (factor != 1.0f)
        for (int64_t c = 0; c < padded_dim; c++) o[c] *= factor;
}

/* TILE_ROWS rows from r on with the tile's keys in `columns`. */
static void panel(struct block *b, const float *q, int64_t r, struct cpu_range columns, int64_t key, int64_t keys) {
    int64_t dim = b->head.dim, padded_dim = b->head.padded_dim;
    for (int64_t c = columns.begin; c < columns.end; c += TILE_COLS)
        tile_product(b->scores + c, ATTENTION_KEYS, false, q + r * padded_dim, padded_dim, 1, b->k + c, ATTENTION_KEYS,
                     dim);
    for (int64_t i = 0; i < TILE_ROWS; i++) softmax_row(b, r + i, b->scores + i * ATTENTION_KEYS, columns, key, keys);
    for (int64_t c = 0; c < padded_dim; c += TILE_COLS)
        tile_product(b->o + r * padded_dim + c, padded_dim, true, b->scores + columns.begin, ATTENTION_KEYS, 1,
                     b->v + columns.begin * padded_dim + c, padded_dim, columns.end - columns.begin);
}

/* The tile of keys [key, end): packed once, then used by every panel of the block that sees any of it. */
static void tile_of_keys(struct block *b, int64_t key, int64_t end) {
    const attention_sequence *s = b->head.sequence;
    attention_rows(b->v, &b->head, ATTENTION_K, key, end);
    attention_columns(b->k, &b->head, b->v, end - key);
    attention_rows(b->v, &b->head, ATTENTION_V, key, end);
    for (int64_t r = 0; r < b->rows; r += TILE_ROWS) {
        int64_t last = r + TILE_ROWS < b->rows ? r + TILE_ROWS - 1 : b->rows - 1;
        struct cpu_range columns =
            attention_tile_columns(attention_visible(b->head.a, s, (b->first + r) / b->head.group),
                                   attention_visible(b->head.a, s, (b->first + last) / b->head.group), key, end - key);
        if (columns.end > columns.begin)
            panel(b, attention_meets_sinks(&b->head, key) ? b->q_sink : b->q, r, columns, key, end - key);
    }
}

static void block_end(const struct block *b) {
    const struct op_attention *a = b->head.a;
    for (int64_t r = 0; r < b->rows; r++) {
        float *o = b->o + r * b->head.padded_dim;
        int64_t row = b->head.sequence->q_row + (b->first + r) / b->head.group;
        int64_t head = b->head.kv_head * b->head.group + (b->first + r) % b->head.group;
        float factor = b->sum[r] == 0 ? 0 : 1 / b->sum[r];
        for (int64_t c = 0; c < b->head.dim; c++) o[c] *= factor;
        cpu_narrow(cpu_at(a->out, row, head * b->head.dim), a->out.type, o, b->head.dim);
        if (a->lse.data) *(float *)cpu_at(a->lse, row, head) = b->maximum[r] + logf(b->sum[r]);
    }
}

static void run_block(struct block *b) {
    const attention_sequence *s = b->head.sequence;
    block_begin(b);
    int64_t key = attention_visible(b->head.a, s, b->first / b->head.group).begin, end;
    int64_t keys = attention_visible(b->head.a, s, (b->first + b->rows - 1) / b->head.group).end;
    for (; key < keys; key = end) {
        end = attention_tile_end(&b->head, key, keys, ATTENTION_KEYS);
        tile_of_keys(b, key, end);
    }
    block_end(b);
}

int CPU_ENTRY(cpu_attention)(device *d, const struct op_attention *a) {
    TRY(attention_check(a));
    if (a->heads == 0 || a->sequences.rows == 0) return LCKV_OK;
    TRY(CPU_ENTRY(attention_few)(d, a));
    if (attention_is_few(a, a->max_q_rows)) return LCKV_OK;
    int64_t group = a->heads / a->kv_heads, blocks = (a->max_q_rows * group + BLOCK_ROWS - 1) / BLOCK_ROWS;
    int64_t heads = a->sequences.rows * a->kv_heads;
    int parts = cpu_parts(d, attention_work(a));
    size_t floats = block_floats(a);
    float *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)parts * floats * sizeof *scratch, (void **)&scratch));
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t task = 0; task < heads * blocks; task++) { /* the last queries, which see most keys, come first */
        struct block b = {.head = attention_head(a, task / a->kv_heads % a->sequences.rows, task % a->kv_heads)};
        int64_t q_rows = b.head.sequence->q_rows;
        b.first = (blocks - 1 - task / heads) * BLOCK_ROWS;
        b.rows = q_rows * group - b.first < BLOCK_ROWS ? q_rows * group - b.first : BLOCK_ROWS;
        if (b.rows <= 0 || attention_is_few(a, q_rows)) continue;
        block_carve(&b, scratch + (size_t)omp_get_thread_num() * floats, b.head.padded_dim);
        run_block(&b);
    }
    return LCKV_OK;
}
