/* train_log.jsonl: one JSON object a line for each logged step, readable while the run goes on. A watcher (watch.h). */
#ifndef TRAIN_TRAIN_LOG_H
#define TRAIN_TRAIN_LOG_H

#include "train/watch.h"

/* A fresh OUTPUT_DIR/train_log.jsonl is begun when the run is. */
int train_log_watch(watchers *all);

#endif
