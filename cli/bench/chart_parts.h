/* What both forms of charts are made of: the page, axes and their ticks, text, colours. See chart.h. */
#ifndef CLI_BENCH_CHART_PARTS_H
#define CLI_BENCH_CHART_PARTS_H

#include <stdbool.h>
#include <stdio.h>

enum { CHART_WIDTH = 760 }; /* pixels */

/* A logarithmic axis has low, high and step in powers of ten. */
typedef struct chart_axis {
    double low, high, step;
    bool logarithmic;
} chart_axis;

/* An axis that covers nothing yet. */
chart_axis chart_axis_empty(bool logarithmic);
double chart_axis_place(const chart_axis *a, double value); /* 0 at low, 1 at high; not finite where there is none */
/* A value, and with it what lies within its deviation. */
void chart_axis_include(chart_axis *a, double value, double deviation);
void chart_axis_round(chart_axis *a); /* ends on ticks */
int chart_axis_steps(const chart_axis *a);
/* <text ATTRIBUTES> with the number at tick i. */
void chart_put_tick(FILE *out, const chart_axis *a, int i, const char *attributes);

/* Whether a point has error bars; then from *low to *high. Of times, speeds and losses none is negative: the bars of a
 * value that is not end at 0. */
bool chart_deviates(double value, double deviation, double *low, double *high);

/* The head of the file, the page and the title. */
void chart_put_page(FILE *out, int height, const char *title);
void chart_put_escaped(FILE *out, const char *text);
/* Pixels that a text of 12 px takes at most. */
int chart_text_width(const char *text);

/* Colours that read on white and on near-black. Indices beyond them begin again, hollow or dashed. */
const char *chart_hue(int index);
bool chart_is_hollow(int index);
void chart_put_dot(FILE *out, double x, double y, double radius, int index);

#endif
