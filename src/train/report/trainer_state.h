/* trainer_state.json: progress and history of a run, with exactly the keys of transformers' TrainerState (4.45), which
 * reads the file.
 *
 * The file of a checkpoint contains no time and no path, so that a resumed run writes the same bytes as an
 * uninterrupted one. Evaluations therefore lack their duration. */
#ifndef TRAIN_REPORT_TRAINER_STATE_H
#define TRAIN_REPORT_TRAINER_STATE_H

#include "base/text/json.h"
#include "train/report/history.h"
#include "train/run_view.h"

/* Writes the file into `folder`. `home` is the folder in the path of the best checkpoint; "": its name alone. `last` is
 * one more entry for log_history, a borrowed reference; NULL: none. */
int trainer_state_write(const run_view *run, const history *h, const char *folder, const char *home, json_t *last);

/* Adds the history of the checkpoint `folder` to `h`; adds nothing if it has no trainer_state.json. */
int trainer_state_read(history *h, const char *folder);

#endif
