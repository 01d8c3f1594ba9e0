/* Charts as SVG that stand alone and suit light and dark pages. Equal input gives equal bytes.
 *
 * Two forms. Lines: series of points over two axes, each plain or logarithmic, with a legend below. Rows: a value for
 * each name, one under the other, as bars from 0 or as points, with the name on the left and the number on the right,
 * so that no label meets another. Both draw deviations as error bars. Leaves out: pictures of layer maps, which are the
 * library's, and the report of a training run, which its page draws. */
#ifndef CLI_BENCH_CHART_H
#define CLI_BENCH_CHART_H

#include <stdbool.h>

/* ---------------------------------------------------------------- lines */

typedef struct chart_point {
    double x, y;      /* one that is not finite, or has no logarithm where one is needed, is left out */
    double deviation; /* of y, up and down; 0 or NAN: none */
} chart_point;

typedef struct chart_series {
    const char *name; /* in the legend; NULL, or without points: it has no entry */
    const chart_point *points;
    int count;
} chart_series;

typedef struct chart_lines {
    const char *title, *x_title, *y_title;
    const chart_series *series;
    int count;
    bool log_y;
    double level; /* a dashed line at this y; NAN: none */
} chart_lines;

/* The caller's, free(). */
char *chart_lines_svg(const chart_lines *c);

/* ---------------------------------------------------------------- rows */

typedef struct chart_row {
    const char *name;
    double value;     /* not finite: the row has no mark */
    double deviation; /* up and down; 0 or NAN: none */
    int hue;          /* index of a colour, which repeat */
} chart_row;

typedef struct chart_group {
    const char *name; /* above its rows; NULL: nothing */
    const chart_row *rows;
    int count;
} chart_group;

typedef struct chart_rows {
    const char *title, *value_title;
    const chart_group *groups;
    int count;
    bool bars;    /* from 0; groups of very different sizes each have a scale of their own. false: points */
    int decimals; /* of the printed numbers */
    double level; /* a dashed line at this value; NAN: none */
} chart_rows;

/* The caller's, free(). */
char *chart_rows_svg(const chart_rows *c);

#endif
