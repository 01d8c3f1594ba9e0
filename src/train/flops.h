/* What training needs to compute, whatever computes it: told by the counting device. */
#ifndef TRAIN_FLOPS_H
#define TRAIN_FLOPS_H

#include "config/model_config.h"
#include "device/dtype.h"
#include "lckv.h"

/* FLOPs of one block forward and backward, the optimizer's left out. `lora` NULL: all weights learn. */
int flops_of_block(const model_config *config, const lckv_lora *lora, dtype compute, int32_t block_size, double *flops);

#endif
