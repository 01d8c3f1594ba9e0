/* Parts of both kinds of charts: page, axes, ticks, text, colours. See chart.h. */
#ifndef CLI_BENCH_CHART_PARTS_H
#define CLI_BENCH_CHART_PARTS_H

#include <stdbool.h>
#include <stdio.h>

enum { CHART_WIDTH = 760 }; /* pixels */

/* On a logarithmic axis, low, high and step are powers of ten. */
typedef struct chart_axis {
    double low, high, step;
    bool logarithmic;
} chart_axis;

/* An empty axis. */
chart_axis chart_axis_empty(bool logarithmic);
double chart_axis_place(const chart_axis *a,
                        double value); /* 0 at low, 1 at high; not finite if the value has no place */
/* Extends the axis to a value and its deviation. */
void chart_axis_include(chart_axis *a, double value, double deviation);
void chart_axis_round(chart_axis *a); /* extends both ends to ticks */
int chart_axis_steps(const chart_axis *a);
/* Writes <text ATTRIBUTES> with the number at tick i. */
void chart_put_tick(FILE *out, const chart_axis *a, int i, const char *attributes);

/* Whether a point has an error bar, from *low to *high. Bars of values that are not negative end at 0, because times,
 * speeds and losses are never negative. */
bool chart_deviates(double value, double deviation, double *low, double *high);

/* Writes the start of the file, the background and the title. */
void chart_put_page(FILE *out, int height, const char *title);
void chart_put_escaped(FILE *out, const char *text);
/* Upper bound of the width of a 12 px text in pixels. */
int chart_text_width(const char *text);

/* Colours that are readable on white and on near-black. Higher indices reuse them hollow or dashed. */
const char *chart_hue(int index);
bool chart_is_hollow(int index);
void chart_put_dot(FILE *out, double x, double y, double radius, int index);

#endif
