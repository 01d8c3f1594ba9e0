/* Shared by the attention files: visible keys of a query, addresses of keys, tiles.
 *
 * One KV head of a sequence serves `group` query heads. Its queries are rows of tiles: query i and head h of the
 * group are row i * group + h, so that a tile of keys is packed once for all of them, and rows are in the order of
 * i. */
#ifndef DEVICE_CPU_ATTENTION_H
#define DEVICE_CPU_ATTENTION_H

#include "device/cpu/cpu.h"
#include "device/cpu/tile.h"

#include <math.h>

enum {
    ATTENTION_KEYS = 96, /* keys per tile: a multiple of TILE_ROWS and TILE_COLS at every level */
    ATTENTION_FEW = 8,   /* with at most this many rows, keys are read in place (attention_few.c) */
    ATTENTION_MAX_DIM = 1024
};

static inline int attention_check(const struct op_attention *a) {
    REQUIRE(a->head_dim >= 1 && a->head_dim <= ATTENTION_MAX_DIM, LCKV_ERROR_UNSUPPORTED,
            "expected a head_dim from 1 to %d, found %d", ATTENTION_MAX_DIM, a->head_dim);
    return LCKV_OK;
}

/* One KV head of one sequence. */
struct attention_head {
    const struct op_attention *a;
    const attention_sequence *sequence;
    const int32_t *pages; /* the sequence's row of the page table */
    int64_t kv_head, group, dim, padded_dim /* to TILE_COLS */;
};

static inline struct attention_head attention_head(const struct op_attention *a, int64_t sequence, int64_t kv_head) {
    struct attention_head head = {.a = a, .kv_head = kv_head, .group = a->heads / a->kv_heads, .dim = a->head_dim};
    head.sequence = (const attention_sequence *)a->sequences.data + sequence;
    head.pages = a->past.k.data ? cpu_row(a->past.table, sequence) : NULL;
    head.padded_dim = tile_round(a->head_dim, TILE_COLS);
    return head;
}

static inline bool attention_is_few(const struct op_attention *a, int64_t q_rows) {
    return q_rows * (a->heads / a->kv_heads) <= ATTENTION_FEW;
}

/* The keys [begin, end) that query i sees, in the sequence's list. Both grow with i. */
static inline struct cpu_range attention_visible(const struct op_attention *a, const attention_sequence *s, int64_t i) {
    int64_t at = (int64_t)s->past + s->q_offset + i, keys = (int64_t)s->past + s->kv_rows;
    int64_t end = a->strict ? at : at + 1;
    int64_t begin = a->window > 0 && at >= a->window ? at - a->window + 1 : 0;
    end = end < keys ? end : keys;
    return (struct cpu_range){begin, end > begin ? end : begin};
}

/* The same for a row of the tiles; padding rows, from `rows` on, see nothing. */
static inline struct cpu_range attention_row_visible(const struct attention_head *head, int64_t row, int64_t rows) {
    if (row >= rows) return (struct cpu_range){INT64_MAX, INT64_MAX};
    return attention_visible(head->a, head->sequence, row / head->group);
}

/* The row of past.k and past.v with past row u. */
static inline int64_t attention_past_row(const struct attention_head *head, int64_t u) {
    int64_t page_rows = head->a->past.page_rows, sinks = head->sequence->sinks, first = 0;
    int shift = __builtin_ctz((unsigned)page_rows);
    if (u >= sinks) {
        u += head->sequence->skip - sinks;
        first = (sinks + page_rows - 1) >> shift;
    }
    return ((int64_t)head->pages[first + (u >> shift)] << shift) + (u & (page_rows - 1));
}

/* `what` selects keys or values. */
enum attention_what { ATTENTION_K, ATTENTION_V };

/* The row of key u of the list: of past.k and past.v, or of k and v. */
static inline int64_t attention_row(const struct attention_head *head, int64_t u) {
    int64_t past = head->sequence->past;
    return u < past ? attention_past_row(head, u) : head->sequence->kv_row + u - past;
}

/* Key u of the list, at the KV head. */
struct attention_key {
    const void *data;
    dtype type;
    const float *scale; /* of kv_int8; else NULL */
};

static inline struct attention_key attention_key(const struct attention_head *head, enum attention_what what,
                                                 int64_t u) {
    const struct op_attention *a = head->a;
    bool past = u < head->sequence->past;
    view from = what == ATTENTION_K ? (past ? a->past.k : a->k) : past ? a->past.v : a->v;
    int64_t row = attention_row(head, u);
    struct attention_key key = {cpu_at(from, row, head->kv_head * head->dim), from.type, NULL};
    if (from.type == DTYPE_KV_INT8) key.scale = (const float *)from.scales + row * a->kv_heads + head->kv_head;
    return key;
}

/* The number of keys from key u of the list on, at most `limit`, whose rows follow one another in memory. */
static inline int64_t attention_run(const struct attention_head *head, int64_t u, int64_t limit) {
    int64_t sinks = head->sequence->sinks, past = head->sequence->past, page_rows = head->a->past.page_rows;
    if (u >= past) return limit;
    int64_t at = u < sinks ? u : u + head->sequence->skip - sinks, run = page_rows - (at & (page_rows - 1));
    if (u < sinks && sinks - u < run) run = sinks - u;
    if (past - u < run) run = past - u;
    return run < limit ? run : limit;
}

/* Keys or values [begin, end) as rows of f32, padded_dim apart, padded with zeros; padded to whole TILE_COLS with
 * rows of zeros. */
static inline void attention_rows(float *out, const struct attention_head *head, enum attention_what what,
                                  int64_t begin, int64_t end) {
    int64_t padding = tile_round(end - begin, TILE_COLS) - (end - begin);
    for (int64_t u = begin; u < end; u++, out += head->padded_dim) {
        struct attention_key key = attention_key(head, what, u);
        tile_widen(out, key.data, key.type, head->dim, key.scale ? *key.scale : 1.0f);
        for (int64_t c = head->dim; c < head->padded_dim; c++) out[c] = 0;
    }
    memset(out, 0, (size_t)(padding * head->padded_dim) * sizeof *out);
}

/* Such rows as columns [dim, ATTENTION_KEYS]. */
static inline void attention_columns(float *out, const struct attention_head *head, const float *rows, int64_t keys) {
    for (int64_t u = 0; u < keys; u += 4, rows += 4 * head->padded_dim) {
        const float *four[4] = {rows, rows + head->padded_dim, rows + 2 * head->padded_dim,
                                rows + 3 * head->padded_dim};
        tile_transpose4(out + u, ATTENTION_KEYS, four, head->dim);
    }
}

/* Row r of the head's queries, or of a tensor of the same layout. */
static inline const void *attention_query(const struct attention_head *head, view from, int64_t r) {
    int64_t i = head->sequence->q_row + r / head->group, h = head->kv_head * head->group + r % head->group;
    return cpu_at(from, i, h * head->dim);
}

/* Rows [row, row + rows) of the head's queries (or of a tensor of the same layout) times `factor`, as in
 * attention_rows(); padded with zeros to `padded_rows`. */
static inline void attention_queries(float *out, const struct attention_head *head, view from, float factor,
                                     int64_t row, int64_t rows, int64_t padded_rows) {
    int64_t dim = head->dim;
    for (int64_t r = row; r < row + rows; r++, out += head->padded_dim) {
        tile_widen(out, attention_query(head, from, r), from.type, dim, factor);
        for (int64_t c = dim; c < head->padded_dim; c++) out[c] = 0;
    }
    memset(out, 0, (size_t)((padded_rows - rows) * head->padded_dim) * sizeof *out);
}

/* The columns of the tile of keys that begins at `key` that rows seeing [first.begin, last.end) need, in whole
 * TILE_COLS. */
static inline struct cpu_range attention_tile_columns(struct cpu_range first, struct cpu_range last, int64_t key,
                                                      int64_t keys) {
    int64_t begin = first.begin > key ? first.begin - key : 0, end = last.end - key < keys ? last.end - key : keys;
    return (struct cpu_range){begin / TILE_COLS * TILE_COLS, end <= begin ? 0 : tile_round(end, TILE_COLS)};
}

/* Joins partial softmaxes of a row over two sets of keys (Dao 2023, section 3.1): `sum` and `o` are relative to
 * exp(score - maximum). Returns the factor of the older sums relative to the larger of both maxima. */
static inline float attention_rescale(float *maximum, float new_maximum) {
    float before = *maximum;
    if (!(new_maximum > before)) return 1.0f;
    *maximum = new_maximum;
    return cpu_exp(before - new_maximum);
}

/* The end of the keys that are processed together from `key` on: after at most `limit` keys, at `end`, and where keys
 * of another type (the new rows) or for another query (after the sinks) begin. */
static inline int64_t attention_tile_end(const struct attention_head *head, int64_t key, int64_t end, int64_t limit) {
    const attention_sequence *s = head->sequence;
    if (key < s->past && end > s->past) end = s->past;
    if (head->a->q_sink.data && key < s->sinks && end > s->sinks) end = s->sinks;
    return end - key < limit ? end : key + limit;
}

static inline bool attention_meets_sinks(const struct attention_head *head, int64_t key) {
    return head->a->q_sink.data && key < head->sequence->sinks;
}

/* The amount of work, for cpu_parts(). */
static inline int64_t attention_work(const struct op_attention *a) {
    int64_t keys = (int64_t)a->max_past + a->max_kv_rows;
    return a->sequences.rows * a->max_q_rows * keys * a->heads * a->head_dim / TILE_LANES;
}

int CPU_ENTRY(attention_few)(device *d, const struct op_attention *a);

#endif
