/* The options of a training run: their defaults (lckv_train_defaults) and their valid values. */
#ifndef TRAIN_TRAIN_OPTIONS_H
#define TRAIN_TRAIN_OPTIONS_H

#include "base/status.h"

/* LCKV_ERROR_ARGUMENT, with the name of the option, if one is out of range or contradicts another. */
int train_options_check(const lckv_train_options *o);

#endif
