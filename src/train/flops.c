/* FLOPs of a block, see flops.h. */
#include "train/flops.h"

#include "data/blocks.h"
#include "train/initial_model.h"
#include "train/lora.h"
#include "train/step.h"

#include <stdlib.h>

/* A step over `count` blocks of zeros: what is in a token costs nothing. */
static int count_step(stepper *s, const examples *data, int64_t count, double *flops) {
    static const int64_t ALL_THE_SAME[2] = {0};
    device *d = s->model->device;
    double before = d->counts.flops;
    step_result ignored;
    TRY(stepper_step(s, data, ALL_THE_SAME, count, 0, &ignored));
    *flops = d->counts.flops - before;
    return LCKV_OK;
}

/* The optimizer's part is the same in a step of one block and of two. */
static int count_blocks(model *m, dtype compute, int32_t block_size, int32_t *ids, double *flops) {
    const stepper_options options = {.compute = compute,
                                     .batch_size = 1,
                                     .block_size = block_size,
                                     .optimizer = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8}};
    blocks data = blocks_of_ids(ids, block_size, 1);
    double one = 0, two = 0;
    stepper *s;
    TRY(stepper_create(m, &options, &s));
    int status = count_step(s, &data.examples, 1, &one);
    if (status >= 0) status = count_step(s, &data.examples, 2, &two);
    *flops = two - one;
    stepper_free(s);
    return status;
}

int flops_of_block(const model_config *config, const lckv_lora *lora, dtype compute, int32_t block_size,
                   double *flops) {
    device *d;
    model *m;
    *flops = 0;
    TRY(device_open("count", 0, &d));
    int status = start_empty(d, config, DTYPE_F32, &m);
    if (status >= 0) {
        int32_t *ids = calloc((size_t)block_size, sizeof *ids);
        status = ids ? lora_add(m, lora) : fail(LCKV_ERROR_MEMORY, "no memory for %d tokens", block_size);
        if (status >= 0) status = count_blocks(m, compute, block_size, ids, flops);
        free(ids);
        model_free(m);
    }
    device_close(d);
    return status;
}
