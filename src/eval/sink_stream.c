/* Perplexity through the sink cache, see sink_stream.h. */
#include "eval/sink_stream.h"

#include "model/decoder.h"

#include <math.h>
#include <stdlib.h>

struct sink_stream {
    const model *model;
    sink_stream_options options;
    graph *graph;
    batch *batch;
    kv_cache *cache;
    int cache_id;
    view scale; /* f32 [1, 1]: 1 */
};

static int build(sink_stream *s) {
    const sink_stream_options *o = &s->options;
    device *d = s->model->device;
    float one = 1;
    kv_cache_options cache = kv_cache_defaults();
    cache.type = kv_cache_type_for(o->compute, o->kv_type);
    cache.rows = o->window_length + 1;
    cache.window_length = o->window_length;
    cache.sinks = o->sinks;
    TRY(kv_cache_create(s->model, &cache, &s->cache));
    TRY(kv_cache_add(s->cache, &s->cache_id));
    TRY(graph_create(d, o->compute, false, &s->graph));
    TRY(batch_create(d, (batch_limits){.rows = 1, .sequences = 1}, &s->batch));
    s->scale = (view){NULL, 1, 1, DTYPE_F32};
    TRY(d->memory.alloc(d, sizeof one, &s->scale.data));
    TRY(d->memory.copy_in(d, s->scale.data, &one, sizeof one));
    return d->memory.wait(d);
}

int sink_stream_create(const model *m, const sink_stream_options *options, sink_stream **out) {
    *out = NULL;
    REQUIRE(options->start >= 0 && options->start <= INT64_MAX / 2, LCKV_ERROR_ARGUMENT,
            "start_position should be at least 0, found %lld", (long long)options->start);
    REQUIRE(options->window_length > 0, LCKV_ERROR_ARGUMENT, "streaming requires a window_length of at least 1");
    sink_stream *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for a stream");
    s->model = m;
    s->options = *options;
    int status = build(s);
    if (status < 0)
        sink_stream_free(s);
    else
        *out = s;
    return status;
}

void sink_stream_free(sink_stream *s) {
    if (!s) return;
    s->model->device->memory.release(s->model->device, s->scale.data);
    batch_free(s->batch);
    graph_free(s->graph);
    kv_cache_free(s->cache);
    free(s);
}

int64_t sink_stream_cache_bytes(const sink_stream *s) {
    return (int64_t)kv_cache_bytes(s->cache);
}

static int copy_logits(sink_stream *s, tensor *hidden, float *logits) {
    device *d = s->model->device;
    tensor *t;
    TRY(decoder_logits(s->model, s->graph, hidden, &t));
    TRY(d->memory.copy_out(d, logits, t->value.data, view_bytes(t->value)));
    return d->memory.wait(d);
}

static int forward(sink_stream *s, float *nll, float *logits) {
    device *d = s->model->device;
    tensor *hidden, *loss;
    TRY(decoder_forward(s->model, s->graph, s->batch, s->cache, &hidden));
    TRY(graph_tensor(s->graph, 1, 1, DTYPE_F32, &loss));
    TRY(decoder_loss(s->model, s->graph, s->batch, hidden, s->scale, (view){0}, loss->value, (view){0}));
    TRY(d->memory.copy_out(d, nll, loss->value.data, sizeof *nll));
    TRY(d->memory.wait(d));
    return logits ? copy_logits(s, hidden, logits) : LCKV_OK;
}

static int run(sink_stream *s, int32_t id, int32_t next, float *nll, float *logits) {
    batch_entry entry = {.ids = &id, .labels = &next, .rows = 1, .wanted = 1, .cache_id = s->cache_id};
    TRY(batch_fill(s->batch, s->cache, &entry, 1));
    int status = forward(s, nll, logits);
    if (status >= 0)
        kv_cache_commit(s->cache);
    else
        kv_cache_rollback(s->cache);
    int reset = graph_reset(s->graph);
    return status < 0 ? status : reset;
}

int sink_stream_step(sink_stream *s, int32_t id, int32_t next, double *nll, float *logits) {
    float found = NAN;
    int64_t vocab_size = s->model->config->vocab_size;
    REQUIRE(id >= 0 && id < vocab_size && next >= 0 && next < vocab_size, LCKV_ERROR_ARGUMENT,
            "expected ids from 0 to %lld, found %d and %d", (long long)vocab_size - 1, (int)id, (int)next);
    if (s->options.start && kv_cache_position(s->cache, s->cache_id) == s->options.sinks)
        TRY(kv_cache_skip(s->cache, s->cache_id, s->options.start));
    TRY(run(s, id, next, &found, logits));
    REQUIRE(isfinite(found), LCKV_ERROR_NUMERIC, "the log-probability of a token (id %d) is not finite", (int)next);
    *nll = (double)found;
    return LCKV_OK;
}
