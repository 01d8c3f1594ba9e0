/* Memory and FLOPs that training needs, computed before any work: the trainer's own step runs on the counting device.
 *
 * lckv_memory_for_training() of lckv.h is implemented here too. Leaves out: host memory beside the device's, and what
 * the device's libraries take. */
#ifndef TRAIN_TRAINING_COST_H
#define TRAIN_TRAINING_COST_H

#include "config/model_config.h"
#include "device/dtype.h"
#include "lckv.h"
#include "train/step/step.h"

/* What is added to a model before it is counted. */
typedef struct counted_parts {
    const lckv_lora *lora;     /* NULL: all weights are trained */
    int64_t loop_start_width;  /* of a learned start that is trained; 0: none */
    const collectives *divide; /* ranks that the weights are divided between; NULL: every rank has all of them */
} counted_parts;

/* FLOPs of the forward and backward pass of one example of block_size tokens, without the optimizer. Of `like`,
 * compute, block_size, exact, plan_share and iteration_weight are used. */
int training_flops_per_example(const model_config *config, const counted_parts *parts, const stepper_options *like,
                               double *flops);

#endif
