/* Memory and FLOPs of training, foreseen: the trainer's step itself, on the counting device. See
 * lckv_memory_for_training() in lckv.h. Leaves out: memory of the host, and what a device's libraries take for
 * themselves. */
#include "base/options.h"
#include "data/blocks.h"
#include "train/initial_model.h"
#include "train/lora.h"
#include "train/step.h"

#include <stdlib.h>

static int64_t bytes_of_values(const params *p) {
    int64_t bytes = 0;
    for (int i = 0; i < p->count; i++) bytes += (int64_t)view_bytes(p->table[i].tensor.value);
    return bytes;
}

static int64_t bytes_of_gradients(const params *p) {
    int64_t bytes = 0;
    for (int i = 0; i < p->count; i++) bytes += (int64_t)view_bytes(p->table[i].tensor.grad);
    return bytes;
}

/* One step over batch_size blocks of zeros: what is in a token costs nothing. */
static int count_step(stepper *s, lckv_memory *out) {
    int64_t tokens = (int64_t)s->batch_size * s->block_size;
    int32_t *ids = calloc((size_t)tokens, sizeof *ids);
    blocks data = blocks_of_ids(ids, s->block_size, s->batch_size);
    int64_t *chosen = calloc((size_t)s->batch_size, sizeof *chosen);
    device *d = s->model->device;
    double before = d->counts.flops;
    step_result result;
    int status = ids && chosen ? stepper_step(s, &data.examples, chosen, s->batch_size, 0, &result)
                               : fail(LCKV_ERROR_MEMORY, "no memory for %lld tokens", (long long)tokens);
    out->flops = d->counts.flops - before;
    free(ids);
    free(chosen);
    return status;
}

static int count_training(device *d, model *m, const stepper_options *options, lckv_memory *out) {
    stepper *s;
    TRY(stepper_create(m, options, &s));
    int64_t kept = (int64_t)d->counts.memory;
    out->weights = bytes_of_values(m->params) + (m->adapter ? bytes_of_values(m->adapter->weights) : 0);
    out->gradients = bytes_of_gradients(model_trainable(m));
    out->optimizer = kept - out->weights - out->gradients;
    int status = count_step(s, out);
    out->total = (int64_t)d->counts.peak;
    out->activations = out->total - kept;
    stepper_free(s);
    return status;
}

static int count_config(device *d, const model_config *config, const lckv_lora *lora, const stepper_options *options,
                        lckv_memory *out) {
    model *m;
    TRY(start_empty(d, config, DTYPE_F32, &m));
    int status = lora_add(m, lora);
    if (status >= 0) status = count_training(d, m, options, out);
    model_free(m);
    return status;
}

void lckv_training_shape_init(lckv_training_shape *shape, size_t struct_size) {
    const lckv_training_shape defaults = {.struct_size = sizeof defaults};
    options_give(shape, struct_size, &defaults, sizeof defaults);
}

int lckv_memory_for_training(const lckv_config *config, const lckv_training_shape *given, lckv_memory *out) {
    lckv_training_shape taken;
    lckv_lora lora;
    const lckv_training_shape *shape = &taken;
    device *d;
    *out = (lckv_memory){0};
    TRY(OPTIONS_TAKE(&taken, given, lckv_training_shape_defaults));
    TRY(OPTIONS_TAKE(&lora, taken.lora, lckv_lora_defaults));
    REQUIRE(shape->batch_size >= 1 && shape->block_size >= 2 && shape->batch_size <= INT32_MAX / 2 / shape->block_size,
            LCKV_ERROR_ARGUMENT,
            "a batch should have blocks of 2 tokens or more and at most %d tokens, found %lld blocks of %lld",
            INT32_MAX / 2, (long long)shape->batch_size, (long long)shape->block_size);
    REQUIRE(shape->bf16 || !shape->bf16_weights, LCKV_ERROR_ARGUMENT, "weights in bfloat16 need bf16");
    const stepper_options options = {
        .compute = shape->bf16 ? DTYPE_BF16 : DTYPE_F32,
        .bf16_weights = shape->bf16_weights,
        .batch_size = (int)shape->batch_size,
        .block_size = (int32_t)shape->block_size,
        .gradient_checkpointing = shape->gradient_checkpointing,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .max_grad_norm = 1},
    };
    TRY(device_open("count", 0, &d));
    int status = count_config(d, config, shape->lora ? &lora : NULL, &options, out);
    device_close(d);
    return status;
}
