/* The data of a training run: which documents are for training, which for validation, and the blocks they make.
 *
 * Leaves out: reading and encoding (corpus.h), cutting (blocks.h). */
#ifndef TRAIN_RUN_DATA_H
#define TRAIN_RUN_DATA_H

#include "train/trainer.h"

/* Tokens of a block. */
int32_t train_data_block_size(const lckv_trainer *t, const lckv_train_options *o);

/* Reads what the options name into t->train and t->validation; the model's config and the tokenizer's folder are known
 * by then. No blocks where some are needed is LCKV_ERROR_FORMAT. */
int train_data_read(lckv_trainer *t, const lckv_train_options *o);
void train_data_free(lckv_trainer *t);

#endif
