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

/* FLOPs of the forward and backward pass of one example of block_size tokens, without the optimizer. `lora` NULL: all
 * weights are trained. Of `like`, compute, block_size and exact are used. */
int training_flops_per_example(const model_config *config, const lckv_lora *lora, const stepper_options *like,
                               double *flops);

#endif
