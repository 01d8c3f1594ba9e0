/* Calling the caller's callback (lckv_train_options), which may stop the run. */
#ifndef TRAIN_CALLBACK_H
#define TRAIN_CALLBACK_H

#include "train/trainer.h"

/* Calls the callback and agrees with the other ranks: if one has to stop, all stop. `status` is the result of the
 * observers, which only one rank has. Returns LCKV_ERROR_INTERRUPTED if the callback stops the run. */
int trainer_report(const lckv_trainer *t, const lckv_train_progress *progress, int status);

/* Reports the progress of reading data to a callback (NULL: none); false if it stops the run. `fraction` is 0 to 1. */
bool callback_reading(lckv_train_callback callback, void *user, double fraction);

/* The same for the trainer `user`, as the go_on function of readers. */
bool trainer_reading(void *user, double fraction);

#endif
