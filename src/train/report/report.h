/* report.html in the output folder: the curves of a run in one self-contained file for a browser. It is written at each
 * checkpoint and evaluation, and at the end.
 *
 * The page is report.html beside this file; its script report.js draws the data of report_data.h. */
#ifndef TRAIN_REPORT_REPORT_H
#define TRAIN_REPORT_REPORT_H

#include "train/observer.h"
#include "train/report/history.h"

/* Adds the observer. `h` belongs to an observer that was added before. */
int report_attach(observers *all, const history *h, const lckv_train_options *options);

#endif
