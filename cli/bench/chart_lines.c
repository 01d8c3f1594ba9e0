/* Charts with series of points over two axes; see chart.h. */
#include "cli/bench/chart.h"
#include "cli/bench/chart_parts.h"

#include "cli/output/output.h"

#include <math.h>
#include <stdlib.h>

/* Pixels. */
enum { PLOT_HEIGHT = 270, LEFT = 72, RIGHT = 28, TOP = 56, BOTTOM = 60, LEGEND_LINE = 20, MARK = 30 };
enum { PLOT_WIDTH = CHART_WIDTH - LEFT - RIGHT };

typedef struct drawing {
    const chart_lines *chart;
    FILE *out;
    chart_axis x, y;
} drawing;

static void set_scales(drawing *d) {
    const chart_lines *c = d->chart;
    d->x = chart_axis_empty(false);
    d->y = chart_axis_empty(c->log_y);
    for (int i = 0; i < c->count; i++)
        for (int j = 0; j < c->series[i].count; j++) {
            const chart_point *p = &c->series[i].points[j];
            chart_axis_include(&d->x, p->x, 0);
            chart_axis_include(&d->y, p->y, p->deviation);
        }
    chart_axis_include(&d->y, c->level, 0);
    chart_axis_round(&d->x);
    chart_axis_round(&d->y);
}

static double x_of(const drawing *d, double value) {
    return LEFT + chart_axis_position(&d->x, value) * PLOT_WIDTH;
}

static double y_of(const drawing *d, double value) {
    return TOP + PLOT_HEIGHT - chart_axis_position(&d->y, value) * PLOT_HEIGHT;
}

static bool can_be_shown(const drawing *d, const chart_point *p) {
    return isfinite(chart_axis_position(&d->x, p->x)) && isfinite(chart_axis_position(&d->y, p->y));
}

/* ---------------------------------------------------------------- axes */

static void draw_y_axis(const drawing *d) {
    char where[96];
    int steps = chart_axis_steps(&d->y);
    for (int i = 0; i <= steps; i++) {
        double y = TOP + PLOT_HEIGHT - (double)i / steps * PLOT_HEIGHT;
        fprintf(d->out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, LEFT + PLOT_WIDTH,
                y, y);
        snprintf(where, sizeof where, "x=\"%d\" y=\"%.1f\" text-anchor=\"end\" dy=\"4\"", LEFT - 8, y);
        chart_put_tick(d->out, &d->y, i, where);
    }
    fprintf(d->out, "<text x=\"16\" y=\"%d\">", TOP - 12);
    chart_put_escaped(d->out, d->chart->y_title);
    fputs("</text>\n", d->out);
}

static void draw_x_axis(const drawing *d) {
    char where[96];
    int steps = chart_axis_steps(&d->x);
    for (int i = 0; i <= steps; i++) {
        double x = LEFT + (double)i / steps * PLOT_WIDTH;
        snprintf(where, sizeof where, "x=\"%.1f\" y=\"%d\" text-anchor=\"middle\"", x, TOP + PLOT_HEIGHT + 20);
        chart_put_tick(d->out, &d->x, i, where);
    }
    fprintf(d->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", LEFT + PLOT_WIDTH / 2, TOP + PLOT_HEIGHT + 42);
    chart_put_escaped(d->out, d->chart->x_title);
    fputs("</text>\n", d->out);
}

/* ---------------------------------------------------------------- series */

static void put_dashes(const drawing *d, int series) {
    if (chart_is_hollow(series)) fputs(" stroke-dasharray=\"5 3\"", d->out);
}

static void draw_line(const drawing *d, int series) {
    const chart_series *s = &d->chart->series[series];
    fprintf(d->out, "<polyline class=\"line\" stroke=\"%s\"", chart_hue(series));
    put_dashes(d, series);
    fputs(" points=\"", d->out);
    for (int i = 0; i < s->count; i++)
        if (can_be_shown(d, &s->points[i]))
            fprintf(d->out, "%.1f,%.1f ", x_of(d, s->points[i].x), y_of(d, s->points[i].y));
    fputs("\"/>\n", d->out);
}

/* Ends of error bars that cannot be shown, such as 0 on a logarithmic axis, are drawn at the lower end of the axis. */
static void draw_error(const drawing *d, const chart_point *p, int series) {
    enum { CAP = 3 };
    double low, high, x = x_of(d, p->x), bottom = TOP + PLOT_HEIGHT;
    if (!chart_error_bar(p->y, p->deviation, &low, &high)) return;
    double from = y_of(d, low), to = y_of(d, high);
    if (!isfinite(from)) from = bottom;
    fprintf(d->out, "<path class=\"error\" stroke=\"%s\" d=\"M%.1f %.1fh%dm-%d 0V%.1fm-%d 0h%d\"/>\n",
            chart_hue(series), x - CAP, from, 2 * CAP, CAP, to, CAP, 2 * CAP);
}

/* Lines with many points have no markers. */
static void draw_points(const drawing *d, int series) {
    enum { FEW = 40 };
    const chart_series *s = &d->chart->series[series];
    for (int i = 0; i < s->count && s->count <= FEW; i++) {
        const chart_point *p = &s->points[i];
        if (!can_be_shown(d, p)) continue;
        draw_error(d, p, series);
        chart_put_dot(d->out, x_of(d, p->x), y_of(d, p->y), 3.5, series);
    }
}

static void draw_series(const drawing *d) {
    double level = y_of(d, d->chart->level);
    if (isfinite(level))
        fprintf(d->out, "<line class=\"level\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
                LEFT + PLOT_WIDTH, level, level);
    for (int i = 0; i < d->chart->count; i++) {
        draw_line(d, i);
        draw_points(d, i);
    }
}

/* ---------------------------------------------------------------- the legend */

static bool has_entry(const chart_series *s) {
    return s->name && s->count;
}

/* Number of legend columns, limited by the longest name. */
static int legend_columns(const chart_lines *c) {
    int widest = 1;
    for (int i = 0; i < c->count; i++) {
        int width = has_entry(&c->series[i]) ? chart_text_width(c->series[i].name) + MARK : 0;
        widest = width > widest ? width : widest;
    }
    int columns = PLOT_WIDTH / widest;
    return columns < 1 ? 1 : columns > 4 ? 4 : columns;
}

static int legend_lines(const chart_lines *c) {
    int entries = 0, columns = legend_columns(c);
    for (int i = 0; i < c->count; i++) entries += has_entry(&c->series[i]);
    return (entries + columns - 1) / columns;
}

static void draw_legend(const drawing *d) {
    int entry = 0, columns = legend_columns(d->chart);
    for (int i = 0; i < d->chart->count; i++) {
        if (!has_entry(&d->chart->series[i])) continue;
        int x = LEFT + entry % columns * (PLOT_WIDTH / columns);
        int y = TOP + PLOT_HEIGHT + BOTTOM + entry / columns * LEGEND_LINE;
        chart_put_dot(d->out, x + 4, y - 4, 4, i);
        fprintf(d->out, "<text x=\"%d\" y=\"%d\">", x + 16, y);
        chart_put_escaped(d->out, d->chart->series[i].name);
        fputs("</text>\n", d->out);
        entry++;
    }
}

char *chart_lines_svg(const chart_lines *c) {
    char *svg = NULL;
    size_t length;
    drawing d = {.chart = c, .out = need(open_memstream(&svg, &length))};
    set_scales(&d);
    chart_put_page(d.out, TOP + PLOT_HEIGHT + BOTTOM + legend_lines(c) * LEGEND_LINE, c->title);
    draw_y_axis(&d);
    draw_x_axis(&d);
    draw_series(&d);
    draw_legend(&d);
    fputs("</svg>\n", d.out);
    if (fclose(d.out)) svg = NULL;
    return need(svg);
}
