/* train_log.jsonl: one JSON object a line for each logged step, readable while the run goes on. */
#ifndef TRAIN_TRAIN_LOG_H
#define TRAIN_TRAIN_LOG_H

#include "base/status.h"

#include <stdio.h>

typedef struct train_log {
    FILE *stream;
    char *path;
} train_log;

typedef struct train_log_line {
    int64_t step;
    double loss, grad_norm, learning_rate, tokens_per_second;
} train_log_line;

/* A fresh FOLDER/train_log.jsonl. */
int train_log_open(const char *folder, train_log *out);
int train_log_write(train_log *log, const train_log_line *line);
void train_log_close(train_log *log); /* all zeros is fine */

#endif
