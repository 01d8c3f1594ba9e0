/* Writes a run's curves for TensorBoard, with the tags of transformers' Trainer (4.45): train/loss, train/grad_norm,
 * train/learning_rate, train/epoch, eval/loss and so on. lckv adds train/tokens_per_second and eval/perplexity. */
#ifndef TRAIN_REPORT_TENSORBOARD_H
#define TRAIN_REPORT_TENSORBOARD_H

#include "train/observer.h"

/* Adds the observer, which writes an event file (event_file.h) to logging_dir (NULL: OUTPUT_DIR/runs), in the subfolder
 * run_name unless that is NULL. */
int tensorboard_attach(observers *all, const lckv_train_options *options);

#endif
