/* Attention of a few queries over a long list of keys (decoding). Keys and values are read once, in place, as whole
 * rows of all KV heads in memory order, which gives the highest bandwidth.
 *
 * A task is a sequence and a split of its list. There are enough splits to keep the threads busy. For every query and
 * head, each split yields a maximum, a sum and weighted values; a second pass joins the splits in their order
 * (FlashAttention's partial softmaxes, split along the keys). */
#include "device/cpu/attention.h"
#include "device/cpu/attention_int8.h"
#include "device/cpu/attention_rows.h"

enum {
    MIN_SPLIT_KEYS = 128, /* minimum keys per split, so that joining pays off */
    TILE_BYTES = 3 << 13  /* maximum bytes of a tile's keys and values, half of the first-level cache */
};

/* The whole call. Rows are those of one KV head: query i, head h of the group is row i * group + h of `rows`. */
struct few {
    const struct op_attention *a;
    int64_t splits, rows, dim;                  /* dim: head_dim, padded to TILE_COLS */
    int64_t record;                             /* floats of a struct result */
    int64_t past_keys, new_keys;                /* maximum keys of a tile of past rows, and of new ones */
    bool bf16;                                  /* bf16 keys are multiplied by queries in bf16 */
    bool int8;                                  /* int8 keys are multiplied by queries of 15 bits */
    float *queries, *sink_queries;              /* [sequences, kv_heads, rows, dim] */
    uint16_t *bf16_queries, *bf16_sink_queries; /* the same */
    char *int8_queries, *int8_sink_queries;     /* [sequences, kv_heads, rows, int8_query_bytes(head_dim)] */
    float *results;                             /* [sequences, splits, kv_heads, rows, record] */
    float *weights;                             /* [threads, kv_heads, rows, KEYS] */
    float *scales; /* [threads, 2 tiles, keys and values, kv_heads padded to fours, KEYS] */
};

/* What a split has of a row. Values and sum are relative to the maximum. */
struct result {
    float *values;  /* [dim]: weighted values */
    float *sums;    /* [TILE_LANES]: their sum is that of the weights */
    float *maximum; /* of the scores */
};

/* The first row of queries of a sequence and KV head. */
static int64_t query_row(const struct few *f, int64_t sequence, int64_t kv_head) {
    return (sequence * f->a->kv_heads + kv_head) * f->rows;
}

/* The scales of a tile: of keys or of values. */
static int64_t scale_floats(const struct few *f) {
    return tile_round(f->a->kv_heads, 4) * KEYS;
}

static struct result result_at(const struct few *f, float *record) {
    return (struct result){record, record + f->dim, record + f->dim + TILE_LANES};
}

static struct result result_of(const struct few *f, int64_t sequence, int64_t split, int64_t kv_head, int64_t row) {
    int64_t at = ((sequence * f->splits + split) * f->a->kv_heads + kv_head) * f->rows + row;
    return result_at(f, f->results + at * f->record);
}

static struct result next_result(const struct few *f, struct result of) {
    return result_at(f, of.values + f->record);
}

/* ---------------------------------------------------------------- one split */

/* Keys that are processed together. Their rows contain all KV heads. */
struct tile {
    int64_t key, keys;
    view k, v;
    int64_t at[KEYS];           /* first bytes of the rows of k and v, padded with the last key's */
    float *k_scales, *v_scales; /* [kv_heads, KEYS] of keys and values in int8, padded with zeros */
};

struct split {
    const struct few *f;
    int64_t sequence, split, rows;        /* rows in use, of f->rows */
    struct attention_head head;           /* of KV head 0 */
    struct cpu_range sees[ATTENTION_FEW]; /* of each row */
    float *weights;                       /* [kv_heads, f->rows, KEYS]; first the scores */
    float *scales;                        /* [2 tiles, keys and values, kv_heads padded to fours, KEYS] */
};

static float *weights_of(const struct split *p, int64_t kv_head) {
    return p->weights + kv_head * p->f->rows * KEYS;
}

/* out[g][0..rows) = the scales of head g, for consecutive rows. Four rows are read in units of four heads, unless this
 * would read behind the last row. */
static void copy_scales(float *out, view v, int64_t heads, int64_t row, int64_t rows) {
    const float *from = (const float *)v.scales + row * heads, *end = (const float *)v.scales + v.rows * heads;
    int64_t i = 0, depth = tile_round(heads, 4);
    for (; i + 4 <= rows && depth <= end - (from + 3 * heads); i += 4, from += 4 * heads) {
        const float *four[4] = {from, from + heads, from + 2 * heads, from + 3 * heads};
        tile_transpose4(out + i, KEYS, four, depth);
    }
    for (; i < rows; i++, from += heads)
        for (int64_t g = 0; g < heads; g++) out[g * KEYS + i] = from[g];
}

static void tile_begin(struct tile *t, const struct split *p, int64_t key, int64_t end) {
    const struct op_attention *a = p->f->a;
    bool past = key < p->head.sequence->past;
    t->key = key, t->keys = 0;
    t->k = past ? a->past.k : a->k, t->v = past ? a->past.v : a->v;
    if (key >= end) return;
    t->keys = attention_tile_end(&p->head, key, end, past ? p->f->past_keys : p->f->new_keys) - key;
    int64_t row_bytes = (int64_t)dtype_row_bytes(t->k.type, t->k.cols), row = 0, run;
    bool int8 = t->k.type == DTYPE_KV_INT8;
    for (int64_t j = 0; j < t->keys; j += run) {
        run = attention_run(&p->head, key + j, t->keys - j);
        row = attention_row(&p->head, key + j);
        for (int64_t i = 0; i < run; i++) t->at[j + i] = (row + i) * row_bytes;
        if (int8) copy_scales(t->k_scales + j, t->k, a->kv_heads, row, run);
        if (int8) copy_scales(t->v_scales + j, t->v, a->kv_heads, row, run);
        row += run - 1;
    }
    for (int64_t j = t->keys; j % TILE_LANES != 0; j++) {
        t->at[j] = row * row_bytes;
        for (int64_t g = 0; g < a->kv_heads && int8; g++) t->k_scales[g * KEYS + j] = t->v_scales[g * KEYS + j] = 0;
    }
}

/* The part of each row that belongs to a KV head. */
static const char *part_of(const struct few *f, view v, int64_t kv_head) {
    return cpu_at(v, 0, kv_head * f->a->head_dim);
}

/* Row r of the queries of KV head 0 that a tile is multiplied by. */
static const void *queries_for(const struct split *p, const struct tile *t, bool bf16, bool int8, int64_t r) {
    const struct few *f = p->f;
    bool sinks = attention_meets_sinks(&p->head, t->key);
    int64_t row = query_row(f, p->sequence, 0) + r;
    if (bf16) return (sinks ? f->bf16_sink_queries : f->bf16_queries) + row * f->dim;
    if (int8) return (sinks ? f->int8_sink_queries : f->int8_queries) + row * int8_query_bytes(f->a->head_dim);
    return (sinks ? f->sink_queries : f->queries) + row * f->dim;
}

static void score_tile(const struct split *p, const struct tile *t) {
    const struct few *f = p->f;
    int64_t kv_heads = f->a->kv_heads;
    bool bf16 = f->bf16 && t->k.type == DTYPE_BF16, int8 = f->int8 && t->k.type == DTYPE_KV_INT8;
    score_function *const *kinds = bf16 ? score_bf16_kinds : int8 ? score_int8_kinds : score_kinds[t->k.type];
    struct scored a = {.k = t->k.data,
                       .at = t->at,
                       .ahead = t->v.data,
                       .keys = t->keys,
                       .heads = kv_heads,
                       .rows = f->rows,
                       .dim = f->a->head_dim,
                       .scale = f->a->scale};
    for (int64_t r = 0; r < p->rows; r += SCORE_ROWS, a.ahead = NULL) {
        int64_t rows = p->rows - r < SCORE_ROWS ? p->rows - r : SCORE_ROWS;
        a.scores = p->weights + r * KEYS;
        a.q = queries_for(p, t, bf16, int8, r);
        kinds[rows - 1](&a);
    }
    for (int64_t g = 0; g < kv_heads && t->k.type == DTYPE_KV_INT8; g++)
        multiply_columns(weights_of(p, g), p->rows, t->k_scales + g * KEYS, t->keys);
}

/* Scores of keys that a row does not see become -INFINITY, and so do those after the last key. */
static void hide_keys(const struct tile *t, struct cpu_range sees, float *scores) {
    int64_t begin = sees.begin - t->key, end = sees.end - t->key, n = tile_round(t->keys, TILE_LANES);
    for (int64_t j = 0; j < begin && j < n; j++) scores[j] = -INFINITY;
    for (int64_t j = end < 0 ? 0 : end < t->keys ? end : t->keys; j < n; j++) scores[j] = -INFINITY;
}

/* Whether every row sees every key, and keys are whole vectors. Ranges of keys grow with the row. */
static bool all_seen(const struct split *p, const struct tile *t) {
    return t->keys % TILE_LANES == 0 && p->sees[p->rows - 1].begin <= t->key && p->sees[0].end >= t->key + t->keys;
}

/* The maximum of a row so far becomes that of the scores too, and what it has so far becomes relative to it. */
static void raise_maximum(const struct split *p, struct result result, const float *scores, int64_t n) {
    float factor = attention_rescale(result.maximum, tile_largest(scores, n));
    for (int64_t c = 0; c < p->f->dim; c++) result.values[c] *= factor;
    for (int64_t i = 0; i < TILE_LANES; i++) result.sums[i] *= factor;
}

/* Turns scores into weights relative to the running maximum of each row. First the maxima of all rows, which are short
 * chains of operations that wait for each other, then the exponentials. */
static void softmax_tile(const struct split *p, const struct tile *t) {
    int64_t kv_heads = p->f->a->kv_heads, n = tile_round(t->keys, TILE_LANES);
    bool all = all_seen(p, t);
    for (int64_t g = 0; g < kv_heads; g++) {
        struct result result = result_of(p->f, p->sequence, p->split, g, 0);
        float *scores = weights_of(p, g);
        for (int64_t r = 0; r < p->rows; r++, scores += KEYS, result = next_result(p->f, result)) {
            if (!all) hide_keys(t, p->sees[r], scores);
            if (tile_exceeds(scores, n, *result.maximum)) raise_maximum(p, result, scores, n);
        }
    }
    for (int64_t g = 0; g < kv_heads; g++) {
        struct result result = result_of(p->f, p->sequence, p->split, g, 0);
        float *scores = weights_of(p, g);
        for (int64_t r = 0; r < p->rows; r++, scores += KEYS, result = next_result(p->f, result)) {
            float maximum = *result.maximum == -INFINITY ? 0 : *result.maximum;
            tile_store(result.sums, tile_load(result.sums) + tile_exp(scores, n, maximum));
        }
    }
}

static void add_values(const struct split *p, const struct tile *t, const struct tile *next) {
    const struct few *f = p->f;
    int64_t kv_heads = f->a->kv_heads;
    struct ahead ahead = {
        next->k.data, next->at, next->keys, (int64_t)dtype_row_bytes(next->k.type, next->k.cols), 0, 0};
    for (int64_t g = 0; g < kv_heads; g++) {
        struct weighted a = {.out = result_of(f, p->sequence, p->split, g, 0).values,
                             .weights = weights_of(p, g),
                             .v = part_of(f, t->v, g),
                             .at = t->at,
                             .ahead = &ahead,
                             .record = f->record,
                             .keys = t->keys,
                             .dim = f->a->head_dim};
        if (t->v.type == DTYPE_KV_INT8) multiply_columns(weights_of(p, g), p->rows, t->v_scales + g * KEYS, t->keys);
        value_kinds[t->v.type][p->rows - 1](&a);
    }
}

static void run_split(struct split *p) {
    const struct few *f = p->f;
    for (int64_t g = 0; g < f->a->kv_heads; g++)
        for (int64_t r = 0; r < p->rows; r++) {
            struct result result = result_of(f, p->sequence, p->split, g, r);
            memset(result.values, 0, (size_t)f->record * sizeof *result.values);
            *result.maximum = -INFINITY;
        }
    for (int64_t r = 0; r < p->rows; r++) p->sees[r] = attention_row_visible(&p->head, r, p->rows);
    int64_t begin = p->sees[0].begin, end = p->sees[p->rows - 1].end;
    struct cpu_range mine = cpu_share(end - begin, (int)f->splits, (int)p->split);
    int64_t scales = scale_floats(f);
    struct tile tiles[2] = {{.k_scales = p->scales, .v_scales = p->scales + scales},
                            {.k_scales = p->scales + 2 * scales, .v_scales = p->scales + 3 * scales}};
    struct tile *t = &tiles[0], *next = &tiles[1];
    tile_begin(t, p, begin + mine.begin, begin + mine.end);
    while (t->keys > 0) {
        tile_begin(next, p, t->key + t->keys, begin + mine.end);
        score_tile(p, t);
        softmax_tile(p, t);
        add_values(p, t, next);
        struct tile *done = t;
        t = next, next = done;
    }
}

/* ---------------------------------------------------------------- all splits */

/* The number of queries of a sequence if this file handles it, else 0. */
static int64_t few_rows(const struct op_attention *a, int64_t sequence) {
    int64_t q_rows = ((const attention_sequence *)a->sequences.data)[sequence].q_rows;
    return attention_is_few(a, q_rows) ? q_rows : 0;
}

/* Queries of one sequence and KV head, once for all splits. */
static void prepare(const struct few *f, view from, float *queries, uint16_t *bf16_queries, char *int8_queries,
                    int64_t sequence, int64_t kv_head) {
    struct attention_head head = attention_head(f->a, sequence, kv_head);
    int64_t row = query_row(f, sequence, kv_head), rows = head.sequence->q_rows * head.group;
    int64_t bytes = int8_query_bytes(head.dim);
    if (!from.data) return;
    if (queries) attention_queries(queries + row * f->dim, &head, from, 1, 0, rows, rows);
    for (int64_t r = 0; r < rows && int8_queries; r++)
        int8_query_store(int8_queries + (row + r) * bytes, attention_query(&head, from, r), from.type, head.dim);
    for (int64_t r = 0; r < rows && bf16_queries; r++) {
        uint16_t *to = bf16_queries + (row + r) * f->dim;
        memcpy(to, attention_query(&head, from, r), (size_t)head.dim * sizeof *to);
        memset(to + head.dim, 0, (size_t)(f->dim - head.dim) * sizeof *to);
    }
}

static void prepare_sequence(const struct few *f, int64_t sequence) {
    for (int64_t g = 0; g < f->a->kv_heads && few_rows(f->a, sequence) > 0; g++) {
        prepare(f, f->a->q, f->queries, f->bf16_queries, f->int8_queries, sequence, g);
        prepare(f, f->a->q_sink, f->sink_queries, f->bf16_sink_queries, f->int8_sink_queries, sequence, g);
    }
}

/* out = the values of all splits relative to the maximum of all, divided by the sum of all. */
static void join(const struct few *f, int64_t sequence, int64_t kv_head, int64_t row) {
    const struct op_attention *a = f->a;
    float maximum = -INFINITY, sum = 0, *into = result_of(f, sequence, 0, kv_head, row).values;
    for (int64_t i = 0; i < f->splits; i++) {
        float split_maximum = *result_of(f, sequence, i, kv_head, row).maximum;
        maximum = split_maximum > maximum ? split_maximum : maximum;
    }
    for (int64_t i = 0; i < f->splits; i++) {
        struct result result = result_of(f, sequence, i, kv_head, row);
        float split_sum = tile_sum(tile_load(result.sums)), factor = 0;
        if (split_sum != 0) factor = cpu_exp(*result.maximum - maximum);
        sum += factor * split_sum;
        for (int64_t c = 0; c < a->head_dim; c++) into[c] = (i > 0 ? into[c] : 0) + factor * result.values[c];
    }
    for (int64_t c = 0; c < a->head_dim; c++) into[c] *= sum == 0 ? 0 : 1 / sum;
    const attention_sequence *s = (const attention_sequence *)a->sequences.data + sequence;
    int64_t group = a->heads / a->kv_heads, q_row = s->q_row + row / group, head = kv_head * group + row % group;
    cpu_narrow(cpu_at(a->out, q_row, head * a->head_dim), a->out.type, into, a->head_dim);
    if (a->lse.data) *(float *)cpu_at(a->lse, q_row, head) = maximum + logf(sum);
}

/* Whether keys are multiplied by queries in f32. */
static bool need_f32(const struct few *f, view k) {
    return k.data && !(f->bf16 && k.type == DTYPE_BF16) && !(f->int8 && k.type == DTYPE_KV_INT8);
}

static int carve(device *d, struct few *f, int threads) {
    const struct op_attention *a = f->a;
    int64_t rows = a->sequences.rows * a->kv_heads * f->rows, queries = rows * f->dim;
    int64_t int8_bytes = f->int8 ? rows * int8_query_bytes(a->head_dim) : 0;
    int64_t results = a->sequences.rows * f->splits * a->kv_heads * f->rows * f->record;
    int64_t weights = (int64_t)threads * a->kv_heads * f->rows * KEYS, scales = (int64_t)threads * 4 * scale_floats(f);
    void *scratch;
    size_t floats = (size_t)(3 * queries + results + weights + scales);
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, floats * sizeof(float) + 2 * (size_t)int8_bytes, &scratch));
    f->weights = scratch;
    f->scales = f->weights + weights;
    f->results = f->scales + scales;
    float *all = f->results + results;
    if (need_f32(f, a->past.k) || need_f32(f, a->k)) f->queries = all, f->sink_queries = all + queries;
    if (f->bf16) f->bf16_queries = (uint16_t *)(all + 2 * queries), f->bf16_sink_queries = f->bf16_queries + queries;
    if (f->int8) f->int8_queries = (char *)(all + 3 * queries), f->int8_sink_queries = f->int8_queries + int8_bytes;
    return LCKV_OK;
}

static void join_sequence(const struct few *f, int64_t sequence) {
    for (int64_t g = 0; g < f->a->kv_heads; g++)
        for (int64_t r = 0; r < few_rows(f->a, sequence) * f->a->heads / f->a->kv_heads; r++) join(f, sequence, g, r);
}

/* A part is a sequence and a split. */
static void run_part(void *argument, int part, int thread) {
    const struct few *f = argument;
    const struct op_attention *a = f->a;
    struct split p = {.f = f, .sequence = part / f->splits, .split = part % f->splits};
    p.head = attention_head(a, p.sequence, 0);
    p.rows = few_rows(a, p.sequence) * p.head.group;
    p.weights = f->weights + (int64_t)thread * a->kv_heads * f->rows * KEYS;
    p.scales = f->scales + (int64_t)thread * 4 * scale_floats(f);
    if (p.rows == 0) return;
    if (f->splits == 1) prepare_sequence(f, p.sequence);
    run_split(&p);
    if (f->splits == 1) join_sequence(f, p.sequence);
}

/* Without splits, each part does all that its sequence needs. */
static void run(device *d, struct few *f) {
    int64_t sequences = f->a->sequences.rows;
    for (int64_t i = 0; i < sequences && f->splits > 1; i++) prepare_sequence(f, i);
    cpu_run(d, f->a->q.rows, (int)(sequences * f->splits), run_part, f);
    for (int64_t i = 0; i < sequences && f->splits > 1; i++) join_sequence(f, i);
}

/* Whole vectors of keys that fit into TILE_BYTES with their values. */
static int64_t tile_keys(view k) {
    if (!k.data) return 0;
    int64_t keys = TILE_BYTES / (2 * (int64_t)dtype_row_bytes(k.type, k.cols));
    return keys > KEYS ? KEYS : keys < TILE_LANES ? TILE_LANES : keys / TILE_LANES * TILE_LANES;
}

int CPU_ENTRY(attention_few)(device *d, const struct op_attention *a) {
    int64_t max_queries = 0, group = a->heads / a->kv_heads, keys = (int64_t)a->max_past + a->max_kv_rows;
    for (int64_t i = 0; i < a->sequences.rows; i++) {
        int64_t q_rows = few_rows(a, i);
        max_queries = q_rows > max_queries ? q_rows : max_queries;
    }
    if (max_queries == 0) return LCKV_OK;
    int parts = cpu_parts(d, 4 * attention_work(a)); /* these threads wake faster than those of OpenMP */
    if (a->window > 0 && keys > a->window) keys = a->window;
    struct cpu_state *state = d->own;
    struct few f = {.a = a, .rows = max_queries * group, .dim = tile_round(a->head_dim, TILE_COLS)};
    f.record = f.dim + 2 * TILE_LANES; /* whole vectors */
    f.bf16 = state->level >= CPU_AVX512_BF16 && a->q.type == DTYPE_BF16;
    f.int8 = f.bf16 && a->past.k.data && a->past.k.type == DTYPE_KV_INT8;
    f.past_keys = tile_keys(a->past.k), f.new_keys = tile_keys(a->k);
    int64_t worth = (keys + MIN_SPLIT_KEYS - 1) / MIN_SPLIT_KEYS, wanted = 4 * parts / a->sequences.rows;
    f.splits = wanted < worth ? wanted : worth;
    if (f.splits < 1 || parts == 1 || d->invariant_rows)
        f.splits = 1; /* the number of splits depends on all
                       * sequences */
    TRY(carve(d, &f, d->threads));
    run(d, &f);
    return LCKV_OK;
}
