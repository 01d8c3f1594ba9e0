/* Charts as SVG that stand alone and suit light and dark pages: series of points, joined or not, over an axis of
 * numbers or of names; each axis plain or logarithmic. */
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include <stdbool.h>

typedef struct chart_point {
    double x, y;       /* one that is not finite, or has no logarithm where one is needed, is left out */
    const char *label; /* beside it; NULL: none */
} chart_point;

typedef struct chart_series {
    const char *name; /* in the legend; NULL, or without points: it has no entry */
    const chart_point *points;
    int count;
    bool joined;
} chart_series;

typedef struct chart {
    const char *title, *x_title, *y_title;
    const chart_series *series;
    int count;
    const char *const *names; /* [name_count] what stands at x = 0, 1, ..; NULL: numbers */
    int name_count;
    bool log_x, log_y;
    double level; /* a dashed line at this y; NAN: none */
} chart;

/* The caller's, free(). */
char *chart_svg(const chart *c);

#endif
