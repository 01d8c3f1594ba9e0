/* Memory and FLOPs of a run, foreseen: the trainer's step and the batcher's steps themselves, on the counting device.
 * See lckv_memory_for_training() and lckv_memory_for_serving() in lckv.h. Leaves out: memory of the host, and what a
 * device's libraries take for themselves. */
#include "generate/batcher.h"
#include "train/start.h"
#include "train/stepper.h"

#include <stdlib.h>

static int64_t in_use(const device *d) {
    return (int64_t)d->counts.memory;
}

/* ---------------------------------------------------------------- training */

static int64_t bytes_of_gradients(const params *p) {
    int64_t bytes = 0;
    for (int i = 0; i < p->count; i++) bytes += (int64_t)view_bytes(p->table[i].tensor.grad);
    return bytes;
}

/* One step over batch_size blocks of zeros: what is in a token costs nothing. */
static int count_step(stepper *s, lckv_memory *out) {
    int64_t tokens = (int64_t)s->batch_size * s->block_size;
    int32_t *ids = calloc((size_t)tokens, sizeof *ids);
    blocks data = {.block_size = s->block_size, .count = s->batch_size, .ids = ids};
    int64_t *chosen = calloc((size_t)s->batch_size, sizeof *chosen);
    device *d = s->model->device;
    double before = d->counts.flops;
    step_result result;
    int status = ids && chosen ? stepper_step(s, &data, chosen, s->batch_size, 0, &result)
                               : fail(LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)tokens);
    out->flops = d->counts.flops - before;
    free(ids);
    free(chosen);
    return status;
}

static int count_training(device *d, model *m, int batch_size, int32_t block_size, bool bf16, lckv_memory *out) {
    optimizer_options options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .max_grad_norm = 1};
    stepper *s;
    TRY(stepper_create(m, bf16 ? DTYPE_BF16 : DTYPE_F32, batch_size, block_size, &options, &s));
    int64_t kept = in_use(d);
    for (int i = 0; i < m->params->count; i++) out->weights += (int64_t)view_bytes(m->params->table[i].tensor.value);
    out->gradients = bytes_of_gradients(m->params);
    out->optimizer = kept - out->weights - out->gradients;
    int status = count_step(s, out);
    out->total = (int64_t)d->counts.peak;
    out->activations = out->total - kept;
    stepper_free(s);
    return status;
}

int lckv_memory_for_training(const lckv_config *config, int64_t batch_size, int64_t block_size, bool bf16,
                             lckv_memory *out) {
    device *d;
    model *m;
    *out = (lckv_memory){0};
    REQUIRE(batch_size >= 1 && block_size >= 2 && batch_size <= INT32_MAX / 2 / block_size, LCKV_ERROR_ARGUMENT,
            "a batch should have blocks of 2 tokens or more and at most %d tokens, found %lld blocks of %lld",
            INT32_MAX / 2, (long long)batch_size, (long long)block_size);
    TRY(device_open("count", 0, &d));
    int status = start_empty(d, config, DTYPE_F32, &m);
    if (status >= 0) {
        status = count_training(d, m, (int)batch_size, (int32_t)block_size, bf16, out);
        model_free(m);
    }
    device_close(d);
    return status;
}

/* ---------------------------------------------------------------- serving */

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

int lckv_memory_for_serving(const lckv_config *config, int64_t sequences, int64_t length, bool bf16, lckv_memory *out) {
    device *d;
    model *m;
    *out = (lckv_memory){0};
    REQUIRE(sequences >= 1 && length >= 1 && sequences <= 1 << 20 && length <= INT32_MAX / 2, LCKV_ERROR_ARGUMENT,
            "expected 1 to %d sequences of 1 to %d tokens, found %lld of %lld", 1 << 20, INT32_MAX / 2,
            (long long)sequences, (long long)length);
    TRY(device_open("count", 0, &d));
    int status = start_empty(d, config, weight_type(config), &m);
    if (status >= 0) {
        out->weights = in_use(d);
        status = count_serving(d, m, (int)sequences, length, bf16, out);
        out->total = (int64_t)d->counts.peak;
        out->activations = out->total - out->weights - out->kv_cache;
        model_free(m);
    }
    device_close(d);
    return status;
}
