/* Attention of a few queries over a long list of keys (decoding). Keys and values are read once, in place, as whole
 * rows of all KV heads in memory order, which gives the highest bandwidth.
 *
 * A task is a sequence and a split of its list. There are enough splits to keep the threads busy. For every query and
 * head, each split yields a maximum, a sum and weighted values; a second pass joins the splits in their order
 * (FlashAttention's partial softmaxes, split along the keys). */
#include "device/cpu/attention.h"
#include "device/cpu/attention_rows.h"

enum { MIN_SPLIT_KEYS = 128 }; /* minimum keys per split, so that joining pays off */

/* The whole call. Rows are those of one KV head: query i, head h of the group is row i * group + h of `rows`. */
struct few {
    const struct op_attention *a;
    int64_t splits, rows, which;   /* rows: a whole number of those of score_kinds[which] */
    int64_t record;                /* floats of one row's result: maximum, sum, weighted values */
    float *queries, *sink_queries; /* [sequences, kv_heads, rows, head_dim], times scale */
    float *results;                /* [sequences, splits, kv_heads, rows, record] */
    float *weights;                /* [threads, kv_heads, ROWS_MAX, KEYS] */
};

static float *queries_of(const struct few *f, float *queries, int64_t sequence, int64_t kv_head) {
    return queries + (sequence * f->a->kv_heads + kv_head) * f->rows * f->a->head_dim;
}

static float *result_of(const struct few *f, int64_t sequence, int64_t split, int64_t kv_head, int64_t row) {
    return f->results + (((sequence * f->splits + split) * f->a->kv_heads + kv_head) * f->rows + row) * f->record;
}

/* ---------------------------------------------------------------- one split */

/* Keys that are processed together: addresses of their rows, which contain all KV heads. */
struct tile {
    int64_t key, keys;
    const char *k[KEYS], *v[KEYS]; /* padded with the last key */
    dtype type;
    const float *k_scales[KEYS], *v_scales[KEYS]; /* rows of scales, if the type has some */
};

struct split {
    const struct few *f;
    int64_t sequence, split, rows;        /* rows in use, of f->rows */
    struct attention_head head;           /* of KV head 0: pointers to its keys are pointers to whole rows */
    struct cpu_range sees[ATTENTION_FEW]; /* of each row */
    float *weights;                       /* [kv_heads, ROWS_MAX, KEYS]; first the scores */
};

/* The key in the next row of the pages. */
static inline struct attention_key next_key(struct attention_key k, size_t row_bytes, int64_t kv_heads) {
    k.data = (const char *)k.data + row_bytes;
    if (k.scale) k.scale += kv_heads;
    return k;
}

static struct tile tile_at(const struct split *p, int64_t key, int64_t end) {
    struct tile t = {.key = key, .keys = attention_tile_end(&p->head, key, end, KEYS) - key};
    if (key >= end) return (struct tile){.key = end};
    struct attention_key k = {0}, v = {0};
    size_t row_bytes = dtype_row_bytes(p->f->a->past.k.type, p->f->a->past.k.cols);
    for (int64_t j = 0; j < KEYS; j++) {
        if (j < t.keys && (j == 0 || !attention_key_follows(&p->head, key + j))) {
            k = attention_key(&p->head, ATTENTION_K, key + j), v = attention_key(&p->head, ATTENTION_V, key + j);
        } else if (j < t.keys) {
            k = next_key(k, row_bytes, p->f->a->kv_heads), v = next_key(v, row_bytes, p->f->a->kv_heads);
        }
        t.k[j] = k.data, t.v[j] = v.data;
        t.k_scales[j] = k.scale, t.v_scales[j] = v.scale;
    }
    t.type = k.type;
    return t;
}

/* Prefetches the parts of the next tile's rows at `offset`: they are too short, and spread over pages, for the
 * processor to do so. */
static void prefetch(const struct tile *next, const char *const *rows, size_t offset, size_t bytes) {
    for (int64_t j = 0; j < next->keys; j++)
        for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(rows[j] + offset + i);
}

static void score_tile(const struct split *p, const struct tile *t, const struct tile *next) {
    const struct few *f = p->f;
    int64_t dim = f->a->head_dim, kv_heads = f->a->kv_heads, rows = score_kinds[f->which].rows;
    size_t slice = (size_t)dim * dtype_element_bytes(t->type);
    bool sinks = attention_meets_sinks(&p->head, t->key);
    for (int64_t g = 0; g < kv_heads; g++) {
        const float *queries = queries_of(f, sinks ? f->sink_queries : f->queries, p->sequence, g);
        float *scores = p->weights + g * ROWS_MAX * KEYS;
        prefetch(next, next->k, (size_t)g * slice, slice);
        for (int64_t r = 0; r < f->rows; r += rows)
            for (int64_t j = 0; j < t->keys; j += TILE_LANES / rows)
                score_kinds[f->which].of[t->type](scores + r * KEYS + j, queries + r * dim, t->k + j, (size_t)g * slice,
                                                  dim);
        if (t->type == DTYPE_KV_INT8) multiply_columns(scores, f->rows, t->k_scales, g);
    }
}

/* Turns the scores of one row into weights relative to its running maximum; zeros for keys that it does not see. */
static void softmax_row(const struct split *p, const struct tile *t, int64_t kv_head, int64_t row) {
    float *result = result_of(p->f, p->sequence, p->split, kv_head, row);
    float *weights = p->weights + (kv_head * ROWS_MAX + row) * KEYS;
    int64_t begin = p->sees[row].begin - t->key, end = p->sees[row].end - t->key;
    int64_t n = tile_round(t->keys, TILE_LANES);
    for (int64_t j = 0; j < begin && j < n; j++) weights[j] = -INFINITY;
    for (int64_t j = end < 0 ? 0 : end < t->keys ? end : t->keys; j < n; j++) weights[j] = -INFINITY;
    float factor = attention_rescale(&result[0], tile_largest(weights, n));
    float maximum = result[0] == -INFINITY ? 0 : result[0];
    for (int64_t j = 0; j < n; j++) weights[j] = cpu_exp(weights[j] - maximum);
    result[1] = result[1] * factor + tile_sum_of(weights, n);
    if (factor != 1.0f)
        for (int64_t c = 0; c < p->f->a->head_dim; c++) result[2 + c] *= factor;
}

static void add_values(const struct split *p, const struct tile *t, const struct tile *next) {
    const struct few *f = p->f;
    size_t slice = (size_t)f->a->head_dim * dtype_element_bytes(t->type);
    int which = 0;
    while (value_kinds[which].rows < p->rows) which++;
    for (int64_t g = 0; g < f->a->kv_heads; g++) {
        struct weighted a = {.out = result_of(f, p->sequence, p->split, g, 0) + 2,
                             .weights = p->weights + g * ROWS_MAX * KEYS,
                             .v = t->v,
                             .offset = (size_t)g * slice,
                             .record = f->record,
                             .keys = t->keys,
                             .dim = f->a->head_dim};
        prefetch(next, next->v, (size_t)g * slice, slice);
        if (t->type == DTYPE_KV_INT8) multiply_columns(p->weights + g * ROWS_MAX * KEYS, p->rows, t->v_scales, g);
        value_kinds[which].of[t->type](&a);
    }
}

static void run_split(struct split *p) {
    const struct few *f = p->f;
    for (int64_t g = 0; g < f->a->kv_heads; g++)
        for (int64_t r = 0; r < f->rows; r++) {
            float *result = result_of(f, p->sequence, p->split, g, r);
            memset(result, 0, (size_t)f->record * sizeof *result);
            result[0] = -INFINITY;
        }
    for (int64_t r = 0; r < p->rows; r++) p->sees[r] = attention_row_visible(&p->head, r, p->rows);
    int64_t begin = p->sees[0].begin, end = p->sees[p->rows - 1].end;
    struct cpu_range mine = cpu_share(end - begin, (int)f->splits, (int)p->split);
    struct tile t = tile_at(p, begin + mine.begin, begin + mine.end);
    while (t.keys > 0) {
        struct tile next = tile_at(p, t.key + t.keys, begin + mine.end);
        score_tile(p, &t, &next);
        for (int64_t g = 0; g < f->a->kv_heads; g++)
            for (int64_t r = 0; r < p->rows; r++) softmax_row(p, &t, g, r);
        add_values(p, &t, &next);
        t = next;
    }
}

/* ---------------------------------------------------------------- all splits */

/* The number of queries of a sequence if this file handles it, else 0. */
static int64_t few_rows(const struct op_attention *a, int64_t sequence) {
    int64_t q_rows = ((const attention_sequence *)a->sequences.data)[sequence].q_rows;
    return attention_is_few(a, q_rows) ? q_rows : 0;
}

/* Queries of one sequence and KV head, once for all splits. */
static void prepare(const struct few *f, view from, float *queries, int64_t sequence, int64_t kv_head) {
    struct attention_head head = attention_head(f->a, sequence, kv_head);
    head.padded_dim = head.dim;
    if (from.data)
        attention_queries(queries_of(f, queries, sequence, kv_head), &head, from, f->a->scale, 0,
                          head.sequence->q_rows * head.group, f->rows);
}

static void prepare_sequence(const struct few *f, int64_t sequence) {
    for (int64_t g = 0; g < f->a->kv_heads && few_rows(f->a, sequence) > 0; g++) {
        prepare(f, f->a->q, f->queries, sequence, g);
        prepare(f, f->a->q_sink, f->sink_queries, sequence, g);
    }
}

/* out = the values of all splits relative to the maximum of all, divided by the sum of all. */
static void join(const struct few *f, int64_t sequence, int64_t kv_head, int64_t row) {
    const struct op_attention *a = f->a;
    float maximum = -INFINITY, sum = 0, *into = result_of(f, sequence, 0, kv_head, row);
    for (int64_t i = 0; i < f->splits; i++) {
        float split_maximum = result_of(f, sequence, i, kv_head, row)[0];
        maximum = split_maximum > maximum ? split_maximum : maximum;
    }
    for (int64_t i = 0; i < f->splits; i++) {
        const float *result = result_of(f, sequence, i, kv_head, row);
        float factor = result[1] == 0 ? 0 : cpu_exp(result[0] - maximum);
        sum += factor * result[1];
        for (int64_t c = 0; c < a->head_dim; c++) into[2 + c] = (i > 0 ? into[2 + c] : 0) + factor * result[2 + c];
    }
    for (int64_t c = 0; c < a->head_dim; c++) into[2 + c] *= sum == 0 ? 0 : 1 / sum;
    const attention_sequence *s = (const attention_sequence *)a->sequences.data + sequence;
    int64_t group = a->heads / a->kv_heads, q_row = s->q_row + row / group, head = kv_head * group + row % group;
    cpu_narrow(cpu_at(a->out, q_row, head * a->head_dim), a->out.type, into + 2, a->head_dim);
    if (a->lse.data) *(float *)cpu_at(a->lse, q_row, head) = maximum + logf(sum);
}

static int carve(device *d, struct few *f, int threads) {
    const struct op_attention *a = f->a;
    int64_t queries = a->sequences.rows * a->kv_heads * f->rows * a->head_dim;
    int64_t results = a->sequences.rows * f->splits * a->kv_heads * f->rows * f->record;
    int64_t weights = (int64_t)threads * a->kv_heads * KEYS * ROWS_MAX;
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(2 * queries + results + weights) * sizeof(float), &scratch));
    f->queries = scratch;
    f->sink_queries = f->queries + queries;
    f->results = f->sink_queries + queries;
    f->weights = f->results + results;
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
    p.weights = f->weights + (int64_t)thread * a->kv_heads * ROWS_MAX * KEYS;
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

int CPU_ENTRY(attention_few)(device *d, const struct op_attention *a) {
    int64_t max_queries = 0, group = a->heads / a->kv_heads, keys = (int64_t)a->max_past + a->max_kv_rows;
    for (int64_t i = 0; i < a->sequences.rows; i++) {
        int64_t q_rows = few_rows(a, i);
        max_queries = q_rows > max_queries ? q_rows : max_queries;
    }
    if (max_queries == 0) return LCKV_OK;
    int parts = cpu_parts(d, 4 * attention_work(a)); /* these threads wake faster than those of OpenMP */
    if (a->window > 0 && keys > a->window) keys = a->window;
    struct few f = {.a = a, .record = 2 + a->head_dim};
    while (f.which + 1 < SCORE_KINDS && score_kinds[f.which].rows < max_queries * group) f.which++;
    f.rows = tile_round(max_queries * group, score_kinds[f.which].rows);
    int64_t worth = (keys + MIN_SPLIT_KEYS - 1) / MIN_SPLIT_KEYS, wanted = 4 * parts / a->sequences.rows;
    f.splits = wanted < worth ? wanted : worth;
    if (f.splits < 1 || parts == 1 || d->invariant_rows)
        f.splits = 1; /* the number of splits depends on all
                       * sequences */
    TRY(carve(d, &f, d->threads));
    run(d, &f);
    return LCKV_OK;
}
