/* training_args.json: what a run was asked to do, by which version and which command. For people and scripts; nothing
 * here reads it. */
#ifndef TRAIN_REPORT_TRAINING_ARGS_H
#define TRAIN_REPORT_TRAINING_ARGS_H

#include "base/json.h"
#include "base/status.h"

/* The file's object, under the names of lckv_train_options; NULL where there is no memory. */
json_t *training_args(const lckv_train_options *o);

#endif
