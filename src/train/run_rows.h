/* Instruction data of a training run, see lckv_tuning in lckv.h. Leaves out: which files are read (run_data.h). */
#ifndef TRAIN_RUN_ROWS_H
#define TRAIN_RUN_ROWS_H

#include "train/trainer.h"

/* Opens the tokenizer and its chat template, before the first row is read. Does nothing without o->tuning. */
int tuning_data_begin(lckv_trainer *t, const lckv_train_options *o);

/* Reads the rows of these files. */
int tuning_data_rows(lckv_trainer *t, const lckv_train_options *o, const char *const *paths, int count,
                     tuning_rows *out);

/* Makes examples of rows first .. first + count - 1, but of at most `limit` rows (0: no limit). */
int tuning_data_set(const lckv_trainer *t, const lckv_train_options *o, const tuning_rows *rows, int64_t first,
                    int64_t count, int64_t limit, tuning_set *out);

/* Sets t->origin.chat_template if the trained checkpoint needs another chat template than the tokenizer's. */
int tuning_data_choose_template(lckv_trainer *t, const lckv_train_options *o);

#endif
