/* Memory and FLOPs of serving, foreseen: the batcher's steps themselves, on the counting device. See
 * lckv_memory_for_serving() in lckv.h. Leaves out: training (train/memory.c), memory of the host, and what a device's
 * libraries take for themselves. */
#include "base/options.h"
#include "generate/batcher.h"
#include "train/initial_model.h"

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

enum { LEAST_LENGTH = 3 }; /* a token of the prompt, and a step that makes one from another */

static int add_sequences(batcher *b, const lckv_serving_shape *shape, sequence **all, const int32_t *prompt,
                         int64_t vocab_size) {
    sample_row greedy = {.repetition_penalty = 1, .top_p = 1};
    for (int64_t i = 0; i < shape->sequences; i++) {
        TRY(sequence_create(prompt, shape->prompt_length, vocab_size, &greedy, &all[i]));
        all[i]->ignore_eos = true;
        all[i]->most = shape->length < LEAST_LENGTH ? LEAST_LENGTH : shape->length;
        TRY(batcher_add(b, all[i]));
    }
    return LCKV_OK;
}

static bool all_are_read(sequence *const *all, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (all[i]->count == all[i]->prompt_count) return false;
    return true;
}

/* Reads all prompts, then makes a token for each sequence; the counting device chooses id 0 always. */
static int run_serving(device *d, batcher *b, sequence *const *all, int64_t count, lckv_memory *out) {
    do {
        TRY(batcher_step(b));
    } while (!all_are_read(all, count));
    double before = d->counts.flops;
    if (!batcher_idle(b)) TRY(batcher_step(b));
    out->flops = d->counts.flops - before;
    return LCKV_OK;
}

/* A cache of the size that lckv_engine_create() chooses where none is given. */
static int plan_cache(const model *m, const lckv_serving_shape *shape, batcher_options *options, lckv_memory *out) {
    kv_cache_options cache = kv_cache_defaults();
    kv_cache_need need;
    cache.type = options->compute;
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

static int count_config(device *d, const model_config *config, const lckv_serving_shape *shape, lckv_memory *out) {
    model *m;
    TRY(start_empty(d, config, weight_type(config), &m));
    out->weights = (int64_t)d->counts.memory;
    int status = count_serving(d, m, shape, out);
    out->total = (int64_t)d->counts.peak;
    out->activations = out->total - out->weights - out->kv_cache_reserved;
    model_free(m);
    return status;
}

static int check_shape(const lckv_serving_shape *s) {
    REQUIRE(s->sequences >= 1 && s->length >= 1 && s->sequences <= 1 << 20 && s->length <= INT32_MAX / 2,
            LCKV_ERROR_ARGUMENT, "expected 1 to %d sequences of 1 to %d tokens, found %lld of %lld", 1 << 20,
            INT32_MAX / 2, (long long)s->sequences, (long long)s->length);
    REQUIRE(s->prompt_length >= 0 && (s->prompt_length < s->length || s->length == 1), LCKV_ERROR_ARGUMENT,
            "prompt_length should be less than length (%lld), found %lld", (long long)s->length,
            (long long)s->prompt_length);
    return LCKV_OK;
}

/* So long that no sequence has ended when the last one is read: the first ones make a token in each step until then. */
static int64_t prompt_length_of(const lckv_serving_shape *s) {
    enum { STEP_TOKENS = 2048, PIECE_TOKENS = 64 }; /* as batcher.h and lckv_engine_defaults() have them */
    int64_t longest = (s->length - 2) * STEP_TOKENS / (STEP_TOKENS + s->sequences);
    if (longest > PIECE_TOKENS) return longest / PIECE_TOKENS * PIECE_TOKENS;
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
