/* A run as TensorBoard shows it: a watcher (observer.h) that writes an event file (event_file.h), under the tags of
 * transformers' Trainer (4.45): train/loss, train/grad_norm, train/learning_rate, train/epoch, eval/loss and so on, and
 * train/tokens_per_second, eval/perplexity besides. */
#ifndef TRAIN_REPORT_TENSORBOARD_H
#define TRAIN_REPORT_TENSORBOARD_H

#include "train/observer.h"

/* Into logging_dir (NULL: OUTPUT_DIR/runs), in it the folder run_name where that is not NULL. */
int tensorboard_watch(watchers *all, const lckv_train_options *options);

#endif
