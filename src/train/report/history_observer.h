/* The observer that records a run's history.
 *
 * A resumed run begins with the history in the checkpoint's trainer_state.json. That file contains no times, so that
 * the throughput of earlier processes comes from train_log.jsonl, if it is there. */
#ifndef TRAIN_REPORT_HISTORY_OBSERVER_H
#define TRAIN_REPORT_HISTORY_OBSERVER_H

#include "train/observer.h"
#include "train/report/history.h"

/* *out is valid as long as the observers; observers that are added afterwards may read it. */
int history_attach(observers *all, history **out);

#endif
