/* The options of a training run: their defaults (lckv_train_defaults) and what each may be. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include "base/status.h"

/* Fails with LCKV_ERROR_ARGUMENT, naming the option, where one is out of range or contradicts another. */
int train_options_check(const lckv_train_options *o);

#endif
