/* trainer_state.json: where a run is and all that it has logged, in the words of transformers' TrainerState (4.45),
 * which reads it.
 *
 * Its keys are exactly those, since it takes no others. The one in a checkpoint holds no clock and no path, so that the
 * same run elsewhere ends with the same bytes: evaluations are without their duration. */
#ifndef TRAIN_REPORT_TRAINER_STATE_H
#define TRAIN_REPORT_TRAINER_STATE_H

#include "base/json.h"
#include "train/report/history.h"

/* Into `folder`. `home` and a slash stand before the name of the best checkpoint; "" for the name alone. `last`:
 * one more entry of the history, not taken over; NULL: none. */
int trainer_state_write(const lckv_trainer *t, const history *h, const char *folder, const char *home, json_t *last);

/* What `folder`, a checkpoint, has logged, added to `h`. A checkpoint without the file has logged nothing. */
int trainer_state_read(history *h, const char *folder);

#endif
