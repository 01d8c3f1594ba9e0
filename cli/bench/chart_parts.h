/* Parts of both kinds of charts: page, axes, ticks, text, colours. See chart.h. */
#ifndef CLI_BENCH_CHART_PARTS_H
#define CLI_BENCH_CHART_PARTS_H

#include <stdbool.h>
#include <stdio.h>

enum { CHART_WIDTH = 760 }; /* pixels */

/* Range of an axis. On a logarithmic axis, low, high and step are exponents of ten. */
typedef struct chart_axis {
    double low, high; /* ends of the axis */
    double step;      /* distance between ticks */
    bool logarithmic;
} chart_axis;

/* Returns an axis that includes no value yet. */
chart_axis chart_axis_empty(bool logarithmic);
/* Position of a value on the axis: 0 at low, 1 at high. Not finite if the value cannot be shown, such as 0 on a
 * logarithmic axis. */
double chart_axis_position(const chart_axis *a, double value);
/* Extends the axis to a value and its deviation. */
void chart_axis_include(chart_axis *a, double value, double deviation);
void chart_axis_round(chart_axis *a);      /* extends both ends to ticks */
int chart_axis_steps(const chart_axis *a); /* number of steps between the ends */
/* Writes <text ATTRIBUTES> with the number at tick i. */
void chart_put_tick(FILE *out, const chart_axis *a, int i, const char *attributes);

/* Returns whether a value has an error bar, which extends from *low to *high. The bar of a value that is not negative
 * does not go below 0, because times, speeds and losses are never negative. */
bool chart_error_bar(double value, double deviation, double *low, double *high);

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
