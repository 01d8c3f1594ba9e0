/* The data of report.html: the JSON that its script reads. */
#ifndef TRAIN_REPORT_REPORT_DATA_H
#define TRAIN_REPORT_REPORT_DATA_H

#include "train/report/history.h"
#include "train/run_view.h"

enum { REPORT_MAX_POINTS = 2000 };

typedef struct report_labels {
    char *name;
    char *command; /* NULL: unknown */
    bool finished;
} report_labels;

/* One line of JSON without '<', which can be embedded in a page. If there are more than REPORT_MAX_POINTS logged steps,
 * neighbours are averaged; a point then has the step of its last one. Release *out with free(). */
int report_data(const run_view *run, const history *h, const report_labels *labels, char **out);

#endif
