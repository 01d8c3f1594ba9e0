/* Random models for tests, and forward passes through them. */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include "base/rng.h"
#include "model/decoder.h"

#include "expect.h"

#include <math.h>

enum { FIXTURE_VOCAB = 37 };

typedef struct fixture {
    device *device;
    model *model;
    graph *graph;
    kv_cache *cache;
    batch *batch;
} fixture;

/* Creates a model whose weights are large enough that each layer matters: initializer_range 0.25 at hidden_size 24.
 * `extra` is appended to config.json, for example ",\"layer_types\":\"1_1\"". */
static inline void fixture_open_as(fixture *f, const char *device_name, int layers, const char *extra, dtype compute,
                                   weight_format format, bool with_tape) {
    char text[1024];
    json_t *tree;
    model_config *c;
    params *p;
    *f = (fixture){0};
    snprintf(text, sizeof text,
             "{\"model_type\":\"lckv-llama\",%s\"num_attention_heads\":4,"
             "\"num_key_value_heads\":2,\"num_hidden_layers\":%d,\"vocab_size\":%d,"
             "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0."
             "25%s%s}",
             strstr(extra, "hidden_size") ? "" : "\"hidden_size\":24,\"intermediate_size\":36,\"head_dim\":6,", layers,
             FIXTURE_VOCAB, strstr(extra, "eos_token_id") ? "" : ",\"eos_token_id\":null", extra);
    OK(json_parse(text, strlen(text), "fixture", &tree));
    OK(config_from_json(tree, "fixture", NULL, &c));
    json_decref(tree);
    OK(device_open(device_name, 2, &f->device));
    OK(params_create(c, NULL, NULL, &p));
    params_choose_types(p, DTYPE_F32, format);
    OK(params_allocate_as_typed(p, f->device));
    OK(params_randomize(p, c, 7));
    OK(model_create(f->device, c, p, &f->model));
    OK(graph_create(f->device, compute, with_tape, &f->graph));
    OK(batch_create(f->device, (batch_limits){1, 1, 0}, &f->batch));
}

static inline void fixture_open_on(fixture *f, const char *device_name, int layers, const char *extra, dtype compute,
                                   bool with_tape) {
    fixture_open_as(f, device_name, layers, extra, compute, WEIGHT_FLOAT, with_tape);
}

static inline void fixture_open(fixture *f, int layers, const char *extra, dtype compute, bool with_tape) {
    fixture_open_on(f, "cpu", layers, extra, compute, with_tape);
}

/* Whether there is a GPU; prints the reason if not. */
static inline bool fixture_has_gpu(void) {
    device *d;
    int status = device_open("cuda", 0, &d);
    if (status < 0) printf("skipped: %s\n", lckv_last_error());
    device_close(d);
    return status >= 0;
}

static inline void fixture_cache(fixture *f, kv_cache_options o) {
    kv_cache_free(f->cache);
    o.type = kv_cache_type_for(f->graph->compute, o.type);
    OK(kv_cache_create(f->model, &o, &f->cache));
}

static inline void fixture_close(fixture *f) {
    batch_free(f->batch);
    kv_cache_free(f->cache);
    graph_free(f->graph);
    model_free(f->model);
    device_close(f->device);
}

static inline void fixture_ids(int32_t *ids, int count, uint64_t stream) {
    for (int i = 0; i < count; i++) ids[i] = (int32_t)(rng_uniform(11, stream, (uint64_t)i) * FIXTURE_VOCAB);
}

/* Logits of the wanted rows of a batch. */
static inline void fixture_run(fixture *f, const batch_entry *entries, int count, float *logits) {
    tensor *hidden, *out;
    f->graph->recording = false;
    OK(batch_fill(f->batch, f->cache, entries, count));
    OK(decoder_forward(f->model, f->graph, f->batch, f->cache, &hidden));
    if (f->cache) kv_cache_commit(f->cache);
    if (hidden) {
        OK(decoder_logits(f->model, f->graph, hidden, &out));
        OK(f->device->memory.copy_out(f->device, logits, out->value.data, view_bytes(out->value)));
        OK(f->device->memory.wait(f->device));
        tensor_release(f->graph, hidden);
        tensor_release(f->graph, out);
    }
    /* all tensors were released */
    if (pool_in_use(f->graph->pool)) fail_msg("%zu bytes of tensors were not released", pool_in_use(f->graph->pool));
    OK(graph_reset(f->graph));
}

/* Runs one token at a time through the cache. */
static inline void fixture_tokens(fixture *f, int id, const int32_t *ids, int count, float *logits) {
    for (int i = 0; i < count; i++) {
        batch_entry e = {.ids = ids + i, .rows = 1, .wanted = 1, .cache_id = id};
        fixture_run(f, &e, 1, logits + i * FIXTURE_VOCAB);
    }
}

/* Tolerance of logits. They are sums of at most a few thousand f32 products of values around 1, over at most about
 * twenty layer executions: 2^-23 * sqrt(24 * 36 * 20) is 2e-5. Ten times that leaves room for the softmax. A wrong mask
 * or position changes logits by tenths. */
static inline void assert_close(const float *a, const float *b, int count, double tolerance, const char *what) {
    for (int i = 0; i < count; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance))
            fail_msg("%s: element %d: %g against %g", what, i, (double)a[i], (double)b[i]);
}

enum { MANY = 64 };
#define CLOSE 2e-4

/* The id with the largest of FIXTURE_VOCAB logits; the first one if several are equal. */
static inline int32_t argmax(const float *logits) {
    int32_t best = 0;
    for (int32_t i = 1; i < FIXTURE_VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

#endif
