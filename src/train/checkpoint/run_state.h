/* training_state.json of a checkpoint: how far a run is, and under what its bits repeat.
 *
 * No clock and no path is in it: a run that was stopped and gone on with writes the same bytes as one that never was.
 */
#ifndef TRAIN_CHECKPOINT_RUN_STATE_H
#define TRAIN_CHECKPOINT_RUN_STATE_H

#include "train/trainer.h"

int run_state_write(const lckv_trainer *t, const char *folder);

/* Puts a trainer where the one was that wrote it. Where something differs on which bits depend (threads, processor,
 * data, batch), it says so in one line and goes on. */
int run_state_read(lckv_trainer *t, const char *folder);

#endif
