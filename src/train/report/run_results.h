/* The files that transformers' scripts write to an output folder, with their names and keys (run_clm.py, 4.45):
 *
 *   training_args.json    at the beginning (training_args.h)
 *   trainer_state.json    at the end (trainer_state.h)
 *   train_results.json, eval_results.json, all_results.json   at the end
 *
 * Leaves out: files in checkpoints (history_observer.h). */
#ifndef TRAIN_REPORT_RUN_RESULTS_H
#define TRAIN_REPORT_RUN_RESULTS_H

#include "train/observer.h"
#include "train/report/history.h"

/* Adds the observer. `h` belongs to an observer that was added before. */
int run_results_attach(observers *all, const history *h, const lckv_train_options *options);

#endif
