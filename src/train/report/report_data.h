/* What the report of a run draws: the JSON that its script reads. */
#ifndef TRAIN_REPORT_REPORT_DATA_H
#define TRAIN_REPORT_REPORT_DATA_H

#include "train/report/history.h"

enum { REPORT_MOST_POINTS = 2000 };

/* What the caller knows of a run. */
typedef struct report_labels {
    char *name;
    char *command; /* NULL: unknown */
    bool finished;
} report_labels;

/* One line of JSON that may stand inside a page: no '<' is in it. Of a long run, neighbours are put together until
 * REPORT_MOST_POINTS logged steps at most are left: means, at the last one's step. Release *out with
 * free(). */
int report_data(const lckv_trainer *t, const history *h, const report_labels *labels, char **out);

#endif
