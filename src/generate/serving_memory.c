/* Memory and FLOPs of serving: runs the batcher's steps on the counting device. See lckv_memory_for_serving() in
 * lckv.h.
 *
 * Host memory, and memory that the libraries of a device allocate for themselves, are not included. */
#include "base/options.h"
#include "generate/batcher/batcher.h"
#include "generate/batcher/sampler.h"
#include "model/model.h"
#include "model/ranks/rank_part.h"

#include <stdlib.h>

static dtype weight_type(const model_config *c) {
    switch (c->torch_dtype) {
    case CONFIG_DTYPE_BF16:
        return DTYPE_BF16;
    case CONFIG_DTYPE_F16:
        return DTYPE_F16;
    case CONFIG_DTYPE_F32:
        break;
    }
    return DTYPE_F32;
}

enum { MIN_LENGTH = 3 }; /* a prompt token, and a decode step from one new token to the next */

static int add_sequences(batcher *b, const lckv_serving_shape *shape, sequence **all, const int32_t *prompt,
                         int64_t vocab_size) {
    sample_row greedy = sampler_greedy();
    for (int64_t i = 0; i < shape->sequences; i++) {
        TRY(sequence_create(prompt, shape->prompt_length, vocab_size, &greedy, &all[i]));
        all[i]->ignore_eos = true;
        all[i]->max_count = shape->length < MIN_LENGTH ? MIN_LENGTH : shape->length;
        TRY(batcher_add(b, all[i]));
    }
    return LCKV_OK;
}

static bool all_prompts_read(sequence *const *all, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (all[i]->count == all[i]->prompt_count) return false;
    return true;
}

/* Reads all prompts, then runs one decode step. The counting device always chooses id 0. */
static int run_serving(device *d, batcher *b, sequence *const *all, int64_t count, lckv_memory *out) {
    do {
        TRY(batcher_step(b));
    } while (!all_prompts_read(all, count));
    double before = d->counts.flops;
    if (!batcher_idle(b)) TRY(batcher_step(b));
    out->flops = d->counts.flops - before;
    return LCKV_OK;
}

/* The KV cache has the size that lckv_engine_create() chooses by default. */
static int plan_cache(const model *m, const lckv_serving_shape *shape, batcher_options *options, lckv_memory *out) {
    kv_cache_options cache = kv_cache_defaults();
    kv_cache_need need;
    TRY(kv_cache_choose_type(m->device, options->compute, shape->kv_dtype, &options->kv_type));
    cache.type = options->kv_type;
    cache.window_length = options->window_length;
    cache.sinks = options->sinks;
    TRY(kv_cache_bytes_for(m, &cache, shape->sequences, shape->length, &need));
    REQUIRE(need.reserved < 0x1p61, LCKV_ERROR_ARGUMENT, "a KV cache of %g bytes is out of range", need.reserved);
    out->kv_cache = (int64_t)need.held;
    out->kv_cache_plain = (int64_t)need.plain;
    options->cache_bytes = (size_t)need.reserved;
    return LCKV_OK;
}

static int count_serving(device *d, const model *m, const lckv_serving_shape *shape, lckv_memory *out) {
    batcher_options options = {.compute = shape->bf16 ? DTYPE_BF16 : DTYPE_F32,
                               .window_length = shape->window_length,
                               .sinks = shape->window_length ? shape->num_sink_tokens : 0,
                               .sequences = (int)shape->sequences};
    TRY(plan_cache(m, shape, &options, out));
    int32_t *prompt = calloc((size_t)shape->prompt_length, sizeof *prompt);
    sequence **all = calloc((size_t)shape->sequences, sizeof(sequence *));
    batcher *b = NULL;
    int status = prompt && all ? batcher_create(m, &options, &b)
                               : fail(LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)shape->length);
    if (status >= 0) status = add_sequences(b, shape, all, prompt, m->config->vocab_size);
    if (status >= 0) status = run_serving(d, b, all, shape->sequences, out);
    if (status >= 0) out->kv_cache_reserved = batcher_cache_bytes(b);
    batcher_free(b);
    for (int64_t i = 0; all && i < shape->sequences; i++) sequence_free(all[i]);
    free(all);
    free(prompt);
    return status;
}

static int count_model(device *d, const model_config *config, const lckv_serving_shape *shape, lckv_memory *out) {
    model *m;
    TRY(model_create_empty(d, config, weight_type(config), &m));
    out->weights = (int64_t)d->counts.memory;
    int status = count_serving(d, m, shape, out);
    out->total = (int64_t)d->counts.peak;
    out->activations = out->total - out->weights - out->kv_cache_reserved;
    model_free(m);
    return status;
}

static int count_config(device *d, const model_config *config, const lckv_serving_shape *shape, lckv_memory *out) {
    model_config *part;
    if (shape->tensor_parallel < 2) return count_model(d, config, shape, out);
    TRY(rank_part_config(config, 0, (int)shape->tensor_parallel, &part));
    int status = count_model(d, part, shape, out);
    config_free(part);
    return status;
}

static int check_shape(const lckv_serving_shape *s) {
    REQUIRE(s->sequences >= 1 && s->length >= 1 && s->sequences <= 1 << 20 && s->length <= INT32_MAX / 2,
            LCKV_ERROR_ARGUMENT, "expected 1 to %d sequences of 1 to %d tokens, found %lld of %lld", 1 << 20,
            INT32_MAX / 2, (long long)s->sequences, (long long)s->length);
    REQUIRE(s->prompt_length >= 0 && (s->prompt_length < s->length || s->length == 1), LCKV_ERROR_ARGUMENT,
            "prompt_length should be less than length (%lld), found %lld", (long long)s->length,
            (long long)s->prompt_length);
    REQUIRE(s->tensor_parallel >= 0 && s->tensor_parallel <= RANK_PART_MAX_RANKS, LCKV_ERROR_ARGUMENT,
            "tensor_parallel: expected 0 to %d, found %lld", RANK_PART_MAX_RANKS, (long long)s->tensor_parallel);
    return LCKV_OK;
}

/* Default prompt length: short enough that no sequence has ended when the last prompt is read, because the first
 * sequences decode one token per step until then. */
static int64_t prompt_length_of(const lckv_serving_shape *s) {
    enum { STEP_TOKENS = 2048, CHUNK_TOKENS = 64 }; /* the defaults of batcher.h and lckv_engine_defaults() */
    int64_t longest = (s->length - 2) * STEP_TOKENS / (STEP_TOKENS + s->sequences);
    if (longest > CHUNK_TOKENS) return longest / CHUNK_TOKENS * CHUNK_TOKENS;
    return longest > 1 ? longest : 1;
}

void lckv_serving_shape_init(lckv_serving_shape *shape, size_t struct_size) {
    const lckv_serving_shape defaults = {.struct_size = sizeof defaults};
    options_give(shape, struct_size, &defaults, sizeof defaults);
}

int lckv_memory_for_serving(const lckv_config *config, const lckv_serving_shape *shape, lckv_memory *out) {
    device *d;
    lckv_serving_shape s;
    *out = (lckv_memory){0};
    TRY(OPTIONS_TAKE(&s, shape, lckv_serving_shape_defaults));
    TRY(check_shape(&s));
    if (!s.prompt_length) s.prompt_length = prompt_length_of(&s);
    TRY(device_open("count", 0, &d));
    int status = count_config(d, config, &s, out);
    device_close(d);
    if (status < 0) *out = (lckv_memory){0};
    return status;
}
