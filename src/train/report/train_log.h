/* train_log.jsonl: one JSON object per logged step, skipped step and evaluation. Each line is flushed, so that the file
 * can be read during the run. */
#ifndef TRAIN_REPORT_TRAIN_LOG_H
#define TRAIN_REPORT_TRAIN_LOG_H

#include "train/observer.h"
#include "train/report/history.h"

/* Adds the observer that writes OUTPUT_DIR/train_log.jsonl. A new run replaces the file; a resumed run keeps the lines
 * up to its checkpoint and appends. */
int train_log_attach(observers *all);

/* Sets the throughput of the steps in `h` that OUTPUT_DIR/train_log.jsonl has. */
int train_log_read_speeds(const char *output_dir, history *h);

#endif
