/* Measuring a cost table, see cost_measure.h.
 *
 * Each number of rows has its own batcher, whose sequences sample nothing. To measure at a depth, rows are added to the
 * KV cache without computing them: the time of a step does not depend on their values. */
#include "generate/batcher/cost_measure.h"

#include "base/clock.h"
#include "generate/batcher/batcher_call.h"
#include "generate/batcher/sampler.h"

#include <stdlib.h>

/* Depths are 0 and DEPTH. Depth is measured only where the KV cache takes at most DEPTH_BYTES, on a CPU HOST_BYTES. */
enum { DEPTH = 512, MAX_ROWS = 1024, HOST_MAX_ROWS = 256, SOME_CHUNKS = 4, WARM_STEPS = 3, TIMED_STEPS = 6 };
static const double DEPTH_BYTES = 4e9, HOST_BYTES = 160e6;

typedef struct measurement {
    const model *model;
    const batcher_options *like;
    cost_table *table;
    lckv_encoding form;
    int sequences;
    int64_t width; /* rows of a sequence in one step */
    batcher *batcher;
    sequence **all; /* [sequences] */
} measurement;

static bool is_recording(const measurement *x) {
    return x->model->device->recording.begin != NULL;
}

/* Steps before the measurement: a device that records runs a step normally, records it, and replays it. */
static int warm_steps(const measurement *x) {
    return is_recording(x) ? WARM_STEPS : 1;
}

static int timed_steps(const measurement *x) {
    if (is_recording(x)) return TIMED_STEPS;
    return x->sequences * x->width > 64 ? 1 : 2; /* long steps vary less */
}

/* Tokens that the steps of one depth read; a step may be launched ahead. */
static int64_t tokens_read(const measurement *x) {
    return x->width * (warm_steps(x) + timed_steps(x) + 2);
}

/* ---------------------------------------------------------------- sequences */

static int add_sequences(measurement *x, int64_t length) {
    const sample_row greedy = sampler_greedy();
    int64_t vocab_size = x->model->config->vocab_size;
    int32_t *ids = malloc((size_t)length * sizeof *ids);
    REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)length);
    int status = LCKV_OK;
    for (int i = 0; i < x->sequences && status >= 0; i++) {
        for (int64_t j = 0; j < length; j++) ids[j] = (int32_t)((i * 7919 + j * 104729) % vocab_size);
        status = sequence_create(ids, length, vocab_size, &greedy, &x->all[i]);
        if (status < 0) break;
        x->all[i]->encoding = x->form == LCKV_ENCODING_PLAN ? LCKV_ENCODING_AUTO : LCKV_ENCODING_SEQUENTIAL;
        x->all[i]->max_count = length;
        status = batcher_add(x->batcher, x->all[i]);
    }
    free(ids);
    return status;
}

static void remove_sequences(measurement *x) {
    for (int i = 0; i < x->sequences; i++) {
        if (x->all[i]) batcher_remove(x->batcher, x->all[i]);
        sequence_free(x->all[i]);
        x->all[i] = NULL;
    }
}

/* Adds `depth` rows to each sequence without computing them. */
static int deepen(measurement *x, int64_t depth) {
    kv_cache *cache = x->batcher->cache;
    for (int i = 0; i < x->sequences && depth; i++) {
        int status = kv_cache_prepare(cache, x->all[i]->cache_id, (int32_t)depth);
        if (status < 0) kv_cache_rollback(cache);
        TRY(status);
        x->all[i]->cached += depth;
    }
    kv_cache_commit(cache);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- steps */

static int run_steps(measurement *x, int steps) {
    for (int i = 0; i < steps; i++) TRY(batcher_step(x->batcher));
    return LCKV_OK;
}

/* Seconds of a step: their mean where steps overlap, else the shortest one. */
static int time_steps(measurement *x, double *seconds) {
    device *d = x->model->device;
    int together = is_recording(x) ? timed_steps(x) : 1;
    *seconds = 0;
    for (int i = 0; i < timed_steps(x); i += together) {
        TRY(d->memory.wait(d));
        double begin = clock_seconds();
        TRY(run_steps(x, together));
        TRY(d->memory.wait(d));
        double each = (clock_seconds() - begin) / together;
        if (!i || each < *seconds) *seconds = each;
    }
    return LCKV_OK;
}

static int measure_at(measurement *x, int64_t depth) {
    lckv_step_cost step = {.encoding = x->form, .rows = x->sequences * x->width};
    TRY(add_sequences(x, depth + tokens_read(x)));
    TRY(run_steps(x, 1)); /* starts the sequences */
    TRY(deepen(x, depth));
    TRY(run_steps(x, warm_steps(x) - 1));
    step.depth = x->all[0]->cached;
    TRY(time_steps(x, &step.seconds));
    if (step.seconds > 0) cost_table_add(x->table, step);
    remove_sequences(x);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- batchers */

/* A depth at which `x` can be measured besides 0; 0: none. */
static int64_t second_depth(const measurement *x) {
    int64_t chunk = x->like->chunk_tokens, depth = (DEPTH + chunk - 1) / chunk * chunk;
    kv_cache_options cache = kv_cache_defaults();
    kv_cache_need need;
    bool host = x->model->device->host_memory;
    if (host && x->form == LCKV_ENCODING_PLAN && x->sequences > 1) return 0;
    cache.type = kv_cache_type_for(x->like->compute, x->like->kv_type);
    if (depth + tokens_read(x) > x->model->config->positions) return 0;
    if (kv_cache_bytes_for(x->model, &cache, x->sequences, depth + tokens_read(x), &need) < 0) return 0;
    return need.reserved <= (host ? HOST_BYTES : DEPTH_BYTES) ? depth : 0;
}

/* Memory that was never written is shared on some systems, and would be read too fast. */
static int write_cache(const measurement *x) {
    device *d = x->model->device;
    for (int s = 0; s < x->model->config->map.slots; s++) {
        struct kv_pages pages = kv_cache_pages(x->batcher->cache, s, s);
        TRY(d->memory.zero(d, pages.k.data, view_bytes(pages.k)));
        TRY(d->memory.zero(d, pages.v.data, view_bytes(pages.v)));
        if (pages.k.scales) TRY(d->memory.zero(d, pages.k.scales, view_scale_bytes(pages.k)));
        if (pages.v.scales) TRY(d->memory.zero(d, pages.v.scales, view_scale_bytes(pages.v)));
    }
    return LCKV_OK;
}

static int measure_all(measurement *x) {
    int64_t depth = second_depth(x);
    batcher_options o = {.compute = x->like->compute,
                         .kv_type = x->like->kv_type,
                         .sequences = x->sequences,
                         .step_tokens = x->sequences * x->width,
                         .chunk_tokens = x->like->chunk_tokens,
                         .encoding_iterations = x->like->encoding_iterations,
                         .rows = x->sequences * (depth + tokens_read(x)),
                         .overlap = x->like->overlap};
    if (tokens_read(x) > x->model->config->positions) return LCKV_OK;
    x->all = calloc((size_t)x->sequences, sizeof(sequence *));
    REQUIRE(x->all, LCKV_ERROR_MEMORY, "no memory for %d sequences", x->sequences);
    TRY(batcher_create(x->model, &o, &x->batcher));
    TRY(write_cache(x));
    TRY(measure_at(x, 0));
    return depth ? measure_at(x, depth) : LCKV_OK;
}

static int measure_form(const measurement *base, lckv_encoding form, int sequences) {
    measurement x = *base;
    x.form = form;
    x.sequences = sequences;
    x.width = form == LCKV_ENCODING_PLAN ? base->like->chunk_tokens : 1;
    int status = measure_all(&x);
    if (x.batcher) remove_sequences(&x);
    batcher_free(x.batcher);
    free(x.all);
    return status == LCKV_ERROR_MEMORY ? LCKV_OK : status;
}

int cost_table_measure(const model *m, const batcher_options *like, cost_table *out) {
    measurement base = {.model = m, .like = like, .table = out};
    bool host = m->device->host_memory;
    int64_t chunks = like->step_tokens / like->chunk_tokens;
    *out = (cost_table){0};
    for (int rows = 1; rows <= (host ? HOST_MAX_ROWS : MAX_ROWS); rows *= rows == 1 ? 16 : 4)
        TRY(measure_form(&base, LCKV_ENCODING_SEQUENTIAL, rows));
    TRY(measure_form(&base, LCKV_ENCODING_PLAN, 1));
    if (chunks >= SOME_CHUNKS) TRY(measure_form(&base, LCKV_ENCODING_PLAN, SOME_CHUNKS));
    if (chunks > SOME_CHUNKS && !host) TRY(measure_form(&base, LCKV_ENCODING_PLAN, (int)chunks));
    return LCKV_OK;
}
