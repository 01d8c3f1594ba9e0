/* report.html in the output folder: the curves of a run in one file that needs no other, for a browser. A watcher
 * (observer.h); the file is written anew at each checkpoint and evaluation and when the run has ended.
 *
 * report.html and report.js beside this file are the page and its script, which draws what report_data.h tells. */
#ifndef TRAIN_REPORT_REPORT_H
#define TRAIN_REPORT_REPORT_H

#include "train/report/history.h"

/* `h` is a watcher that was added before. */
int report_watch(watchers *all, const history *h, const lckv_train_options *options);

#endif
