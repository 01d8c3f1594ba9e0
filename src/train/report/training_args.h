/* training_args.json: the options of a run, and the version and command that started it. lckv does not read the file.
 */
#ifndef TRAIN_REPORT_TRAINING_ARGS_H
#define TRAIN_REPORT_TRAINING_ARGS_H

#include "base/status.h"
#include "base/text/json.h"

/* The content of the file; its keys are the names in lckv_train_options. NULL if there is no memory. */
json_t *training_args(const lckv_train_options *o);

#endif
