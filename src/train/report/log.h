/* train_log.jsonl: one JSON object a line for each logged step, skipped step and evaluation, readable while the run
 * goes on. A watcher (observer.h). */
#ifndef TRAIN_REPORT_LOG_H
#define TRAIN_REPORT_LOG_H

#include "train/report/history.h"

/* A fresh OUTPUT_DIR/train_log.jsonl is begun when the run is. */
int train_log_watch(watchers *all);

/* What the log that is in the folder knows of the speed of the steps of `h`. */
int train_log_read_speeds(const char *output_dir, history *h);

#endif
