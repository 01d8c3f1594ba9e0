/* The files report.html and report.js, embedded by the build (scripts/cmake/embed.cmake). */
#ifndef TRAIN_REPORT_REPORT_PARTS_H
#define TRAIN_REPORT_REPORT_PARTS_H

#include <stddef.h>

typedef struct report_part {
    const char *name;          /* "report" */
    const unsigned char *text; /* [bytes] */
    size_t bytes;
} report_part;

extern const report_part report_parts[]; /* page, script */
extern const int report_part_count;

#endif
