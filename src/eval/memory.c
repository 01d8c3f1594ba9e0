/* Memory and FLOPs of serving, foreseen: the batcher's steps themselves, on the counting device. See
 * lckv_memory_for_serving() in lckv.h. Leaves out: training (train/memory.c), memory of the host, and what a device's
 * libraries take for themselves. */
#include "generate/batcher.h"
#include "train/start.h"

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

static int add_sequences(batcher *b, sequence **all, int count, const int32_t *prompt, int64_t length,
                         int64_t vocab_size) {
    sample_row greedy = {.repetition_penalty = 1, .top_p = 1};
    for (int i = 0; i < count; i++) {
        TRY(sequence_create(prompt, length, vocab_size, &greedy, &all[i]));
        all[i]->ignore_eos = true;
        all[i]->encoding = LCKV_ENCODING_PLAN;
        TRY(batcher_add(b, all[i]));
    }
    return LCKV_OK;
}

/* Reads all prompts, then makes a token for each sequence; the counting device chooses id 0 always. */
static int run_serving(device *d, batcher *b, sequence **all, int count, lckv_memory *out) {
    for (bool reading = true; reading;) {
        TRY(batcher_step(b));
        reading = false;
        for (int i = 0; i < count; i++) reading |= all[i]->count == all[i]->prompt_count;
    }
    double before = d->counts.flops;
    TRY(batcher_step(b));
    out->flops = d->counts.flops - before;
    out->kv_cache = batcher_cache_bytes(b);
    return LCKV_OK;
}

static int count_serving(device *d, const model *m, int count, int64_t length, bool bf16, lckv_memory *out) {
    batcher_options options = {.compute = bf16 ? DTYPE_BF16 : DTYPE_F32, .sequences = count, .rows = count * length};
    int64_t prompt_count = length > 2 ? length - 2 : 1;
    int32_t *prompt = calloc((size_t)prompt_count, sizeof *prompt);
    sequence **all = calloc((size_t)count, sizeof(sequence *));
    batcher *b = NULL;
    int status = prompt && all ? batcher_create(m, &options, &b)
                               : fail(LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)length);
    if (status >= 0) status = add_sequences(b, all, count, prompt, prompt_count, m->config->vocab_size);
    if (status >= 0) status = run_serving(d, b, all, count, out);
    batcher_free(b);
    for (int i = 0; all && i < count; i++) sequence_free(all[i]);
    free(all);
    free(prompt);
    return status;
}

static int count_config(device *d, const model_config *config, int sequences, int64_t length, bool bf16,
                        lckv_memory *out) {
    model *m;
    TRY(start_empty(d, config, weight_type(config), &m));
    out->weights = (int64_t)d->counts.memory;
    int status = count_serving(d, m, sequences, length, bf16, out);
    out->total = (int64_t)d->counts.peak;
    out->activations = out->total - out->weights - out->kv_cache;
    model_free(m);
    return status;
}

int lckv_memory_for_serving(const lckv_config *config, int64_t sequences, int64_t length, bool bf16, lckv_memory *out) {
    device *d;
    *out = (lckv_memory){0};
    REQUIRE(sequences >= 1 && length >= 1 && sequences <= 1 << 20 && length <= INT32_MAX / 2, LCKV_ERROR_ARGUMENT,
            "expected 1 to %d sequences of 1 to %d tokens, found %lld of %lld", 1 << 20, INT32_MAX / 2,
            (long long)sequences, (long long)length);
    TRY(device_open("count", 0, &d));
    int status = count_config(d, config, (int)sequences, length, bf16, out);
    device_close(d);
    return status;
}
