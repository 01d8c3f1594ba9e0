/* Logits of the plan, token by token, with the sink cache, and after a past; greedy continuations. */
#include "golden.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW = 12, SINKS = 3, SECOND = 15, STEPS = 16, SHORT = 5, LONG = 24 }; /* as in reference/goldens.py */

int golden_read(golden *g, view v, float *host) {
    device *d = g->device;
    TRY(d->memory.copy_out(d, host, v.data, view_bytes(v)));
    return d->memory.wait(d);
}

/* A sequence in a cache, with its ids. */
typedef struct run {
    kv_cache *cache;
    batch *batch;
    int id;
} run;

static int run_begin(golden *g, int64_t window, int64_t sinks, run *r) {
    kv_cache_options o = kv_cache_defaults();
    o.type = kv_cache_type_for(g->compute, g->kv_type);
    o.window_length = window;
    o.sinks = sinks;
    o.page_rows = 4; /* small pages, so that forty tokens need several */
    *r = (run){0};
    TRY(kv_cache_create(g->model, &o, &r->cache));
    TRY(batch_create(g->device, (batch_limits){1, 1, 0}, &r->batch));
    return kv_cache_add(r->cache, &r->id);
}

static void run_end(run *r) {
    batch_free(r->batch);
    kv_cache_free(r->cache);
}

static int run_entry(golden *g, run *r, batch_entry e, float *logits) {
    tensor *hidden, *out;
    e.cache_id = r->id;
    TRY(batch_fill(r->batch, r->cache, &e, 1));
    g->graph->recording = false;
    TRY(decoder_forward(g->model, g->graph, r->batch, r->cache, &hidden));
    kv_cache_commit(r->cache);
    if (e.wanted) {
        TRY(decoder_logits(g->model, g->graph, hidden, &out));
        TRY(golden_read(g, out->value, logits));
    }
    return graph_reset(g->graph);
}

/* One call; logits of the last `wanted` tokens. */
static int run_ids(golden *g, run *r, const int32_t *ids, int32_t count, int32_t wanted, bool planned, float *logits) {
    return run_entry(g, r, (batch_entry){.ids = ids, .rows = count, .wanted = wanted, .planned = planned}, logits);
}

/* Runs the first tokens one per call. RoPE types that depend on the length use the total length. */
static int run_tokens(golden *g, run *r, const int32_t *ids, int32_t count, float *logits) {
    int64_t vocab = g->model->config->vocab_size;
    for (int32_t i = 0; i < count; i++)
        TRY(run_entry(g, r, (batch_entry){.ids = ids + i, .rows = 1, .wanted = 1, .length = count},
                      logits + i * vocab));
    return LCKV_OK;
}

/* Calls a check that needs a sequence and a buffer for logits. */
typedef int (*check)(golden *g, run *r, float *logits);

static int with_run(golden *g, int64_t window, int64_t sinks, check body) {
    run r;
    float *logits = calloc((size_t)(g->length * g->model->config->vocab_size), sizeof *logits);
    int status = run_begin(g, window, sinks, &r);
    if (status >= 0) status = body(g, &r, logits);
    run_end(&r);
    free(logits);
    return status;
}

static int sequential_and_second(golden *g, run *r, float *logits) {
    int64_t vocab = g->model->config->vocab_size;
    int32_t reversed[SECOND];
    TRY(run_tokens(g, r, g->ids, g->length, logits));
    golden_compare(g, "sequential.logits", logits, g->length * vocab);
    for (int i = 0; i < SECOND; i++) reversed[i] = g->ids[SECOND - 1 - i];
    TRY(run_ids(g, r, reversed, SECOND, SECOND, true, logits));
    golden_compare(g, "second.logits", logits, SECOND * vocab);
    return LCKV_OK;
}

static int streaming(golden *g, run *r, float *logits) {
    TRY(run_tokens(g, r, g->ids, g->length, logits));
    golden_compare(g, "streaming.logits", logits, g->length * g->model->config->vocab_size);
    return LCKV_OK;
}

int golden_streaming(golden *g) {
    return with_run(g, WINDOW, SINKS, streaming);
}

/* ---------------------------------------------------------------- greedy continuation */

static int32_t largest(const float *logits, int64_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static int continue_prompt(golden *g, run *r, int32_t prompt, const char *name, float *logits) {
    const model_config *c = g->model->config;
    int32_t found[STEPS];
    if (c->map.loops && prompt <= c->forward_passes + c->backward_passes) {
        TRY(run_tokens(g, r, g->ids, prompt, logits));
        memmove(logits, logits + (prompt - 1) * c->vocab_size, (size_t)c->vocab_size * sizeof *logits);
    } else {
        TRY(run_ids(g, r, g->ids, prompt, 1, true, logits));
    }
    for (int i = 0; i < STEPS; i++) {
        found[i] = largest(logits, c->vocab_size);
        TRY(run_ids(g, r, &found[i], 1, 1, false, logits));
    }
    golden_compare_ids(g, name, found, STEPS);
    return LCKV_OK;
}

static int short_prompt(golden *g, run *r, float *logits) {
    return continue_prompt(g, r, SHORT, "generate.short.tokens", logits);
}

static int long_prompt(golden *g, run *r, float *logits) {
    return continue_prompt(g, r, LONG, "generate.long.tokens", logits);
}

int golden_generate(golden *g) {
    golden_expected(g, "generate.margin"); /* in f32 the choice must equal that of f64; otherwise it may differ */
    if (!golden_is_exact(g)) return LCKV_OK;
    TRY(with_run(g, 0, 0, short_prompt));
    return with_run(g, 0, 0, long_prompt);
}

int golden_sequential(golden *g) {
    return with_run(g, 0, 0, sequential_and_second);
}
