/* The files that transformers' scripts leave in an output folder, under their names and keys (run_clm.py, 4.45):
 *
 *   training_args.json    when the run begins: what was asked for (training_args.h)
 *   trainer_state.json    when it has ended (trainer_state.h)
 *   train_results.json, eval_results.json, all_results.json (both)
 *
 * A watcher (observer.h). Leaves out: what a checkpoint gets of it (history.h). */
#ifndef TRAIN_REPORT_RESULTS_H
#define TRAIN_REPORT_RESULTS_H

#include "train/report/history.h"

/* `h` is a watcher that was added before. */
int results_watch(watchers *all, const history *h, const lckv_train_options *options);

#endif
