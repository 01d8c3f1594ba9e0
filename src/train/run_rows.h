/* The data of instruction tuning: what the options of a run name, read into its trainer. See lckv_tuning in lckv.h. */
#ifndef TRAIN_RUN_ROWS_H
#define TRAIN_RUN_ROWS_H

#include "train/trainer.h"

/* The tokenizer and its chat template, which are needed before a row is read. Nothing without o->tuning. */
int tuning_data_begin(lckv_trainer *t, const lckv_train_options *o);

/* Rows of files. */
int tuning_data_rows(lckv_trainer *t, const lckv_train_options *o, const char *const *paths, int count,
                     tuning_rows *out);

/* Examples of rows first .. first + count - 1, of `most` of them at most (0: all). */
int tuning_data_set(const lckv_trainer *t, const lckv_train_options *o, const tuning_rows *rows, int64_t first,
                    int64_t count, int64_t most, tuning_set *out);

/* What the tuned checkpoint's chat template is to be where that is not the tokenizer's own; see trainer.h. */
int tuning_data_choose_template(lckv_trainer *t, const lckv_train_options *o);

#endif
