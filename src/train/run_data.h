/* The data of a training run: finds the sources that the options name, reads them, splits off validation documents, and
 * cuts blocks.
 *
 * Leaves out: encoding documents (data/corpus.h), cutting (data/blocks.h), and instruction data (run_rows.h). */
#ifndef TRAIN_RUN_DATA_H
#define TRAIN_RUN_DATA_H

#include "train/trainer.h"

/* Reads the data into t->train and t->validation. t->config, t->block_size and the tokenizer's folder are set.
 * LCKV_ERROR_FORMAT if the data gives no block. */
int train_data_read(lckv_trainer *t, const lckv_train_options *o);
void train_data_free(lckv_trainer *t);

#endif
