/* Charts as standalone SVG for light and dark pages. Equal input gives equal bytes.
 *
 * Two kinds. Lines: series of points over two linear or logarithmic axes, with a legend below. Rows: one named value
 * per row, as bars from 0 or as points, with the name on the left and the number on the right, so that labels never
 * overlap. Both draw deviations as error bars. Pictures of layer maps (layer_picture.h) and the training report are
 * drawn elsewhere. */
#ifndef CLI_BENCH_CHART_H
#define CLI_BENCH_CHART_H

#include <stdbool.h>

/* ---------------------------------------------------------------- lines */

/* A point. It is skipped if it is not finite, or has no logarithm on a logarithmic axis. */
typedef struct chart_point {
    double x, y;
    double deviation; /* length of the error bar above and below y; 0 or NAN: none */
} chart_point;

typedef struct chart_series {
    const char *name;          /* legend entry; none if NULL or if there are no points */
    const chart_point *points; /* [count] */
    int count;
} chart_series;

typedef struct chart_lines {
    const char *title, *x_title, *y_title;
    const chart_series *series; /* [count] */
    int count;
    bool log_y;   /* logarithmic y axis */
    double level; /* y of a dashed line; NAN: none */
} chart_lines;

/* Draws the chart. Release with free(). */
char *chart_lines_svg(const chart_lines *c);

/* ---------------------------------------------------------------- rows */

typedef struct chart_row {
    const char *name;
    double value;     /* nothing is drawn if it is not finite */
    double deviation; /* length of the error bar in both directions; 0 or NAN: none */
    int hue;          /* index of the colour; colours repeat */
} chart_row;

typedef struct chart_group {
    const char *name;      /* heading of its rows; NULL: none */
    const chart_row *rows; /* [count] */
    int count;
} chart_group;

typedef struct chart_rows {
    const char *title, *value_title;
    const chart_group *groups; /* [count] */
    int count;
    bool bars;    /* bars from 0, with one scale per group if sizes differ a lot; false: points */
    int decimals; /* decimals of the printed numbers */
    double level; /* value of a dashed line; NAN: none */
} chart_rows;

/* Draws the chart. Release with free(). */
char *chart_rows_svg(const chart_rows *c);

#endif
