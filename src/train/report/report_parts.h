/* report.html and report.js, as they stand there; the build makes the table (scripts/cmake/embed.cmake). */
#ifndef TRAIN_REPORT_REPORT_PARTS_H
#define TRAIN_REPORT_REPORT_PARTS_H

#include <stddef.h>

typedef struct report_part {
    const char *name;          /* "report" */
    const unsigned char *text; /* [bytes] */
    size_t bytes;
} report_part;

extern const report_part report_parts[]; /* the page, the script */
extern const int report_part_count;

#endif
