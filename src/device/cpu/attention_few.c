/* Attention of a few queries on a long list of keys (decoding): keys and values are read once, in place, whole rows of
 * all KV heads in the order in which they lie, which is what memory gives fastest.
 *
 * A task is a sequence and a piece of its list; there are as many pieces as keep the threads busy. Each leaves, for
 * every query and head, the maximum, the sum and the weighted values of its piece; a second pass joins the pieces in
 * their order (FlashAttention's partial softmaxes, split along the keys). */
#include "device/cpu/attention.h"
#include "device/cpu/dots.h"

#include <omp.h>

enum {
    KEYS = 16,        /* read before their weights are used */
    LEAST_PIECE = 256 /* keys for which another task is worth its joining */
};

/* The whole call. Rows are those of each KV head: query i, head h of the group is row i * group + h of `rows`. */
struct few {
    const struct op_attention *a;
    int64_t pieces, rows, which;   /* rows as dots[which] takes them */
    int64_t record;                /* floats of one row's result: its maximum, its sum, its weighted values */
    float *queries, *sink_queries; /* [sequences, kv_heads, rows, head_dim], times scale */
    float *results;                /* [sequences, pieces, kv_heads, rows, record] */
    float *weights;                /* [threads, kv_heads, KEYS, DOTS_ROWS] */
};

static float *queries_of(const struct few *f, float *queries, int64_t sequence, int64_t kv_head) {
    return queries + (sequence * f->a->kv_heads + kv_head) * f->rows * f->a->head_dim;
}

static float *result_of(const struct few *f, int64_t sequence, int64_t piece, int64_t kv_head, int64_t row) {
    return f->results + (((sequence * f->pieces + piece) * f->a->kv_heads + kv_head) * f->rows + row) * f->record;
}

/* ---------------------------------------------------------------- one piece */

struct piece {
    const struct few *f;
    int64_t sequence, piece, q_rows;
    struct attention_head head; /* of KV head 0: pointers to keys are pointers to their whole rows */
    float *weights;
};

/* weights[kv_head][key][row] = scores of keys [key, key + n). */
static void scores(const struct piece *p, const float *queries, int64_t key, int64_t n) {
    const struct few *f = p->f;
    int64_t dim = f->a->head_dim, kv_heads = f->a->kv_heads, at_once = dots[f->which].outputs;
    memset(p->weights, 0, (size_t)(kv_heads * KEYS * DOTS_ROWS) * sizeof *p->weights);
    for (int64_t j = 0; j < n; j += at_once) {
        const char *rows[DOTS_MOST];
        const void *k[DOTS_MOST];
        dtype type = DTYPE_F32;
        for (int64_t o = 0; o < at_once; o++) /* behind the last: the last once more, not used */
            rows[o] = attention_key(&p->head, ATTENTION_K, key + (j + o < n ? j + o : n - 1), &type);
        for (int64_t g = 0; g < kv_heads; g++) {
            for (int64_t o = 0; o < at_once; o++) k[o] = rows[o] + (size_t)(g * dim) * dtype_bytes(type);
            dots[f->which].of[type](p->weights + (g * KEYS + j) * DOTS_ROWS, queries + g * f->rows * dim, dim, k, dim);
        }
    }
}

/* One row's scores become weights on its running maximum, those that it does not see zeros. */
static void softmax_row(const struct piece *p, int64_t kv_head, int64_t row, int64_t key, int64_t n) {
    float *column = p->weights + kv_head * KEYS * DOTS_ROWS + row, line[KEYS], sum = 0, most = -INFINITY;
    float *result = result_of(p->f, p->sequence, p->piece, kv_head, row);
    struct cpu_range sees = attention_visible(p->f->a, p->head.sequence, row / p->head.group);
    for (int64_t j = 0; j < KEYS; j++) {
        bool seen = j < n && key + j >= sees.begin && key + j < sees.end;
        line[j] = seen ? column[j * DOTS_ROWS] : -INFINITY;
        most = line[j] > most ? line[j] : most;
    }
    float factor = attention_rescale(&result[0], most), shift = result[0] == -INFINITY ? 0 : result[0];
    for (int64_t j = 0; j < KEYS; j++) line[j] = cpu_exp(line[j] - shift);
    for (int64_t j = 0; j < KEYS; j++) sum += line[j], column[j * DOTS_ROWS] = line[j];
    result[1] = result[1] * factor + sum;
    if (factor != 1.0f)
        for (int64_t c = 0; c < p->f->a->head_dim; c++) result[2 + c] *= factor;
}

/* Adds the weighted values of keys [key, key + n). */
static void values(const struct piece *p, int64_t key, int64_t n) {
    const struct few *f = p->f;
    int64_t dim = f->a->head_dim, rows = p->q_rows * p->head.group;
    float wide[4][ATTENTION_MOST_DIM];
    for (int64_t j = 0; j < n; j += 4) {
        const char *from[4];
        const float *v[4];
        dtype type = DTYPE_F32;
        for (int64_t o = 0; o < 4; o++) /* behind the last: the last once more, by weights of zero */
            from[o] = attention_key(&p->head, ATTENTION_V, key + (j + o < n ? j + o : n - 1), &type);
        for (int64_t g = 0; g < f->a->kv_heads; g++) {
            for (int64_t o = 0; o < 4; o++) {
                const void *slice = from[o] + (size_t)(g * dim) * dtype_bytes(type);
                if (type != DTYPE_F32) cpu_widen(wide[o], slice, type, dim);
                v[o] = type == DTYPE_F32 ? slice : wide[o];
            }
            const float *weights = p->weights + (g * KEYS + j) * DOTS_ROWS;
            for (int64_t r = 0; r < rows; r++) {
                float four[4] = {weights[r], weights[DOTS_ROWS + r], weights[2 * DOTS_ROWS + r],
                                 weights[3 * DOTS_ROWS + r]};
                tile_add4(result_of(f, p->sequence, p->piece, g, r) + 2, four, v, dim);
            }
        }
    }
}

static void run_piece(const struct piece *p) {
    const struct few *f = p->f;
    const attention_sequence *s = p->head.sequence;
    int64_t rows = p->q_rows * p->head.group;
    for (int64_t g = 0; g < f->a->kv_heads; g++)
        for (int64_t r = 0; r < rows; r++) {
            float *result = result_of(f, p->sequence, p->piece, g, r);
            memset(result, 0, (size_t)f->record * sizeof *result);
            result[0] = -INFINITY;
        }
    int64_t begin = attention_visible(f->a, s, 0).begin, end = attention_visible(f->a, s, p->q_rows - 1).end;
    struct cpu_range mine = cpu_share(end - begin, (int)f->pieces, (int)p->piece);
    for (int64_t key = begin + mine.begin, n; key < begin + mine.end; key += n) {
        n = attention_tile_end(&p->head, key, begin + mine.end, KEYS) - key;
        float *queries = attention_meets_sinks(&p->head, key) ? f->sink_queries : f->queries;
        scores(p, queries_of(f, queries, p->sequence, 0), key, n);
        for (int64_t g = 0; g < f->a->kv_heads; g++)
            for (int64_t r = 0; r < rows; r++) softmax_row(p, g, r, key, n);
        values(p, key, n);
    }
}

/* ---------------------------------------------------------------- all pieces */

/* Queries of one sequence and KV head, once for all pieces. */
static void prepare(const struct few *f, view from, float *queries, int64_t sequence, int64_t kv_head) {
    struct attention_head head = attention_head(f->a, sequence, kv_head);
    head.padded_dim = head.dim;
    if (from.data)
        attention_queries(queries_of(f, queries, sequence, kv_head), &head, from, f->a->scale, 0,
                          head.sequence->q_rows * head.group, f->rows);
}

/* out = the pieces' values, each on the maximum of all, by the sum of all. */
static void join(const struct few *f, int64_t sequence, int64_t kv_head, int64_t row) {
    const struct op_attention *a = f->a;
    float most = -INFINITY, sum = 0, *into = result_of(f, sequence, 0, kv_head, row);
    for (int64_t i = 0; i < f->pieces; i++) {
        float piece_most = result_of(f, sequence, i, kv_head, row)[0];
        most = piece_most > most ? piece_most : most;
    }
    for (int64_t i = 0; i < f->pieces; i++) {
        const float *result = result_of(f, sequence, i, kv_head, row);
        float factor = result[1] == 0 ? 0 : cpu_exp(result[0] - most);
        sum += factor * result[1];
        for (int64_t c = 0; c < a->head_dim; c++) into[2 + c] = (i > 0 ? into[2 + c] : 0) + factor * result[2 + c];
    }
    for (int64_t c = 0; c < a->head_dim; c++) into[2 + c] *= sum == 0 ? 0 : 1 / sum;
    const attention_sequence *s = (const attention_sequence *)a->sequences.data + sequence;
    int64_t group = a->heads / a->kv_heads, q_row = s->q_row + row / group, head = kv_head * group + row % group;
    cpu_narrow(cpu_at(a->out, q_row, head * a->head_dim), a->out.type, into + 2, a->head_dim);
    if (a->lse.data) *(float *)cpu_at(a->lse, q_row, head) = most + logf(sum);
}

static int carve(device *d, struct few *f, int parts) {
    const struct op_attention *a = f->a;
    int64_t queries = a->sequences.rows * a->kv_heads * f->rows * a->head_dim;
    int64_t results = a->sequences.rows * f->pieces * a->kv_heads * f->rows * f->record;
    int64_t weights = (int64_t)parts * a->kv_heads * KEYS * DOTS_ROWS;
    void *scratch;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(2 * queries + results + weights) * sizeof(float), &scratch));
    f->queries = scratch;
    f->sink_queries = f->queries + queries;
    f->results = f->sink_queries + queries;
    f->weights = f->results + results;
    return LCKV_OK;
}

/* The number of queries of a sequence that belongs here, 0 for others. */
static int64_t few_rows(const struct op_attention *a, int64_t sequence) {
    int64_t q_rows = ((const attention_sequence *)a->sequences.data)[sequence].q_rows;
    return attention_is_few(a, q_rows) ? q_rows : 0;
}

static void run(const struct few *f, int parts) {
    const struct op_attention *a = f->a;
    int64_t sequences = a->sequences.rows;
#pragma omp parallel num_threads(parts)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < sequences * a->kv_heads; i++) {
            if (few_rows(a, i / a->kv_heads) == 0) continue;
            prepare(f, a->q, f->queries, i / a->kv_heads, i % a->kv_heads);
            prepare(f, a->q_sink, f->sink_queries, i / a->kv_heads, i % a->kv_heads);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < sequences * f->pieces; i++) {
            struct piece p = {.f = f, .sequence = i / f->pieces, .piece = i % f->pieces};
            p.q_rows = few_rows(a, p.sequence);
            p.head = attention_head(a, p.sequence, 0);
            p.weights = f->weights + (int64_t)omp_get_thread_num() * a->kv_heads * KEYS * DOTS_ROWS;
            if (p.q_rows > 0) run_piece(&p);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < sequences * a->kv_heads; i++)
            for (int64_t r = 0; r < few_rows(a, i / a->kv_heads) * a->heads / a->kv_heads; r++)
                join(f, i / a->kv_heads, i % a->kv_heads, r);
    }
}

int CPU_ENTRY(attention_few)(device *d, const struct op_attention *a) {
    int64_t most_queries = 0, group = a->heads / a->kv_heads, keys = (int64_t)a->max_past + a->max_kv_rows;
    for (int64_t i = 0; i < a->sequences.rows; i++) {
        int64_t q_rows = few_rows(a, i);
        most_queries = q_rows > most_queries ? q_rows : most_queries;
    }
    if (most_queries == 0) return LCKV_OK;
    int parts = cpu_parts(d, attention_work(a));
    if (a->window > 0 && keys > a->window) keys = a->window;
    struct few f = {.a = a, .which = dots_for(most_queries * group), .record = 2 + a->head_dim};
    f.rows = dots[f.which].rows;
    int64_t worth = (keys + LEAST_PIECE - 1) / LEAST_PIECE, wanted = 4 * parts / a->sequences.rows;
    f.pieces = wanted < worth ? wanted : worth;
    if (f.pieces < 1 || parts == 1) f.pieces = 1;
    TRY(carve(d, &f, parts));
    run(&f, parts);
    return LCKV_OK;
}
