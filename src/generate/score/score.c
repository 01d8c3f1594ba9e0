/* Scoring, see score.h. */
#include "generate/score/score.h"

#include "generate/batcher/prefill.h"
#include "generate/score/score_top.h"
#include "model/decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Maximum number of logits that exist at a time. */
enum { MAX_LOGITS = 1 << 24 };

typedef struct scorer {
    const model *model;
    const score_options *options;
    const int32_t *ids;
    int64_t count;
    int32_t *labels; /* [count] the next id; -1 for the last one */
    graph *graph;
    plan plan; /* with options->iterations */
    batch *batch;
    kv_cache *cache; /* NULL: all ids run in one call */
    int cache_id;
    view scale;    /* f32 [1, 1]: 1 */
    view index;    /* i32 [count, 1]: 0, 1, .., to split hidden states into groups of rows; absent without logits */
    float *nll;    /* [count] host */
    float *logits; /* [count, vocab_size] of the caller, or NULL */
    float *part;   /* [part_rows, vocab_size] logits of a group of rows, of which only the top ones are stored */
    int64_t part_rows;
} scorer;

static int check_ids(const int32_t *ids, int64_t count, int64_t vocab_size) {
    REQUIRE(count >= 1 && count <= INT32_MAX / 2, LCKV_ERROR_ARGUMENT, "expected 1 to %d tokens to score, found %lld",
            INT32_MAX / 2, (long long)count);
    for (int64_t i = 0; i < count; i++)
        REQUIRE(ids[i] >= 0 && ids[i] < vocab_size, LCKV_ERROR_ARGUMENT,
                "token %lld is %d; the model has ids 0 to %lld", (long long)i, (int)ids[i], (long long)vocab_size - 1);
    return LCKV_OK;
}

static int send(device *d, const void *host, int64_t rows, dtype type, view *out) {
    *out = (view){NULL, rows, 1, type};
    TRY(d->memory.alloc(d, view_bytes(*out), &out->data));
    TRY(d->memory.copy_in(d, out->data, host, view_bytes(*out)));
    return d->memory.wait(d);
}

static int make_index(scorer *s) {
    int32_t *numbers = malloc((size_t)s->count * sizeof *numbers);
    REQUIRE(numbers, LCKV_ERROR_MEMORY, "no memory to score %lld tokens", (long long)s->count);
    for (int64_t i = 0; i < s->count; i++) numbers[i] = (int32_t)i;
    int status = send(s->model->device, numbers, s->count, DTYPE_I32, &s->index);
    free(numbers);
    return status;
}

/* Number of rows whose logits exist at a time. */
static int64_t rows_at_once(const scorer *s) {
    int64_t rows = MAX_LOGITS / s->model->config->vocab_size;
    return rows < 1 ? 1 : rows < s->count ? rows : s->count;
}

static int make_part(scorer *s) {
    s->part_rows = rows_at_once(s);
    s->part = malloc((size_t)s->part_rows * (size_t)s->model->config->vocab_size * sizeof *s->part);
    REQUIRE(s->part, LCKV_ERROR_MEMORY, "no memory for the logits of %lld tokens", (long long)s->part_rows);
    return LCKV_OK;
}

static int make_cache(scorer *s) {
    const score_options *o = s->options;
    kv_cache_options cache = kv_cache_defaults();
    cache.type = kv_cache_type_for(o->compute, o->kv_type);
    cache.rows = o->window_length ? o->window_length + 1 : s->count;
    cache.window_length = o->window_length;
    cache.sinks = o->sinks;
    TRY(kv_cache_create(s->model, &cache, &s->cache));
    return kv_cache_add(s->cache, &s->cache_id);
}

static int begin(scorer *s, bool in_one_call) {
    device *d = s->model->device;
    size_t n = (size_t)s->count;
    s->cache_id = -1;
    s->labels = malloc(n * sizeof *s->labels);
    s->nll = malloc(n * sizeof *s->nll);
    REQUIRE(s->labels && s->nll, LCKV_ERROR_MEMORY, "no memory to score %lld tokens", (long long)s->count);
    memcpy(s->labels, s->ids + 1, (n - 1) * sizeof *s->labels);
    s->labels[n - 1] = -1;
    TRY(graph_create(d, s->options->compute, false, &s->graph));
    TRY(batch_create(d, (batch_limits){.rows = in_one_call ? (int32_t)n : 1, .sequences = 1}, &s->batch));
    s->batch->watch = s->options->watch;
    s->batch->kv_type = s->options->kv_type;
    s->batch->tolerance = s->options->tolerance;
    int iterations = s->options->iterations ? s->options->iterations : model_default_iterations(s->model);
    TRY(plan_make(&s->model->config->map, iterations - 1, 1, &s->plan));
    s->batch->plan = &s->plan;
    TRY(send(d, &(float){1}, 1, DTYPE_F32, &s->scale));
    if (s->logits || s->options->top) TRY(make_index(s));
    if (s->options->top && !s->logits) TRY(make_part(s));
    return in_one_call ? LCKV_OK : make_cache(s);
}

static void end(scorer *s) {
    device *d = s->model->device;
    kv_cache_free(s->cache);
    batch_free(s->batch);
    plan_free(&s->plan);
    graph_free(s->graph);
    d->memory.release(d, s->scale.data);
    d->memory.release(d, s->index.data);
    free(s->part);
    free(s->labels);
    free(s->nll);
}

static int read_nll(scorer *s, int64_t first, tensor *hidden) {
    device *d = s->model->device;
    tensor *nll;
    TRY(graph_tensor(s->graph, hidden->value.rows, 1, DTYPE_F32, &nll));
    TRY(decoder_loss(s->model, s->graph, s->batch, hidden, s->scale, (view){0}, nll->value, (view){0}));
    TRY(d->memory.copy_out(d, s->nll + first, nll->value.data, view_bytes(nll->value)));
    TRY(d->memory.wait(d));
    tensor_release(s->graph, nll);
    return LCKV_OK;
}

static void keep_top(const scorer *s, int64_t first, int64_t rows, const float *logits) {
    int64_t vocab_size = s->model->config->vocab_size, top = s->options->top;
    for (int64_t r = 0; r < rows; r++)
        score_top(logits + r * vocab_size, vocab_size, top, s->options->top_ids + (first + r) * top,
                  s->options->top_values + (first + r) * top);
}

/* Computes the logits of `rows` hidden states from row `at` on, and stores them from row first + at of the result on.
 */
static int read_logits_part(scorer *s, int64_t first, tensor *hidden, int64_t at, int64_t rows) {
    device *d = s->model->device;
    view index = {(int32_t *)s->index.data + at, rows, 1, DTYPE_I32};
    tensor *part, *logits;
    TRY(graph_gather_rows(s->graph, hidden, index, &part));
    TRY(decoder_logits(s->model, s->graph, part, &logits));
    float *to = s->logits ? s->logits + (first + at) * s->model->config->vocab_size : s->part;
    TRY(d->memory.copy_out(d, to, logits->value.data, view_bytes(logits->value)));
    TRY(d->memory.wait(d));
    if (s->options->top) keep_top(s, first + at, rows, to);
    tensor_release(s->graph, part);
    tensor_release(s->graph, logits);
    return LCKV_OK;
}

static int read_logits(scorer *s, int64_t first, tensor *hidden) {
    int64_t group = rows_at_once(s);
    for (int64_t at = 0; at < hidden->value.rows; at += group) {
        int64_t left = hidden->value.rows - at;
        TRY(read_logits_part(s, first, hidden, at, left < group ? left : group));
    }
    return LCKV_OK;
}

static int compute_rows(scorer *s, int64_t first) {
    tensor *hidden;
    TRY(decoder_forward(s->model, s->graph, s->batch, s->cache, &hidden));
    TRY(read_nll(s, first, hidden));
    return s->logits || s->options->top ? read_logits(s, first, hidden) : LCKV_OK;
}

/* Runs ids first to first + rows - 1 through the model. */
static int run_rows(scorer *s, int64_t first, int64_t rows) {
    batch_entry entry = {.ids = s->ids + first,
                         .labels = s->labels + first,
                         .rows = (int32_t)rows,
                         .wanted = (int32_t)rows,
                         .length = s->count,
                         .cache_id = s->cache_id,
                         .planned = !s->cache && s->model->config->map.loops > 0};
    TRY(batch_fill(s->batch, s->cache, &entry, 1));
    int status = compute_rows(s, first);
    if (s->cache && status >= 0) kv_cache_commit(s->cache);
    if (s->cache && status < 0) kv_cache_rollback(s->cache);
    int reset = graph_reset(s->graph);
    return status < 0 ? status : reset;
}

static int run(scorer *s, bool in_one_call) {
    TRY(begin(s, in_one_call));
    if (in_one_call) return run_rows(s, 0, s->count);
    for (int64_t i = 0; i < s->count; i++) {
        double fraction = (double)i / (double)s->count;
        bool go_on = !s->options->go_on || s->options->go_on(s->options->user, fraction);
        REQUIRE(go_on, LCKV_ERROR_INTERRUPTED, "interrupted after %lld of %lld tokens", (long long)i,
                (long long)s->count);
        TRY(run_rows(s, i, 1));
    }
    return LCKV_OK;
}

static int write_logprobs(const scorer *s, float *logprobs) {
    for (int64_t i = 0; i + 1 < s->count; i++) {
        REQUIRE(isfinite(s->nll[i]), LCKV_ERROR_NUMERIC, "the log-probability of token %lld (id %d) is not finite",
                (long long)i + 1, (int)s->ids[i + 1]);
        logprobs[i] = -s->nll[i];
        for (int64_t t = i * s->options->top; t < (i + 1) * s->options->top; t++)
            if (s->options->top_ids[t] == s->ids[i + 1]) logprobs[i] = s->options->top_values[t];
    }
    return LCKV_OK;
}

int score_ids(const model *m, const int32_t *ids, int64_t count, const score_options *options, float *logprobs,
              float *logits) {
    TRY(check_ids(ids, count, m->config->vocab_size));
    REQUIRE(options->top >= 0 && options->top <= m->config->vocab_size, LCKV_ERROR_ARGUMENT,
            "top_logprobs should be 0 to the %lld ids of the model, found %lld", (long long)m->config->vocab_size,
            (long long)options->top);
    TRY(prefill_check(options->iterations, options->tolerance));
    scorer s = {.model = m, .options = options, .ids = ids, .count = count, .logits = logits};
    bool in_one_call = !options->window_length && prefill_in_one_call(m, options->encoding, count);
    int status = run(&s, in_one_call);
    if (status >= 0) status = write_logprobs(&s, logprobs);
    end(&s);
    return status;
}
