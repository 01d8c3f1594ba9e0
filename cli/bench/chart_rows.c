/* Charts with one named value per row; see chart.h. */
#include "cli/bench/chart.h"
#include "cli/bench/chart_parts.h"

#include "cli/output/output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pixels. */
enum { TOP = 54, BOTTOM = 36, EDGE = 16, GAP = 12, ROW = 22, GROUP = 26, BAR = 12, MAX_NAME_WIDTH = 300 };
enum { NUMBER_BYTES = 64 };

typedef struct drawing {
    const chart_rows *chart;
    FILE *out;
    int left, right; /* of the plot */
    bool own_scales; /* one scale per group */
    chart_axis axis;
} drawing;

/* ---------------------------------------------------------------- numbers and sizes */

static const char *number_of(const chart_rows *c, const chart_row *r, char out[NUMBER_BYTES]) {
    double low, high;
    if (!isfinite(r->value)) return "";
    int length = snprintf(out, NUMBER_BYTES, "%.*f", c->decimals, r->value);
    if (chart_error_bar(r->value, r->deviation, &low, &high))
        snprintf(out + length, NUMBER_BYTES - (size_t)length, " ± %.*f", c->decimals, r->deviation);
    return out;
}

/* The margins fit the longest name and the longest number. */
static void set_columns(drawing *d) {
    char text[NUMBER_BYTES];
    int names = 0, numbers = 0;
    for (int g = 0; g < d->chart->count; g++)
        for (int i = 0; i < d->chart->groups[g].count; i++) {
            const chart_row *r = &d->chart->groups[g].rows[i];
            int name = chart_text_width(r->name), number = chart_text_width(number_of(d->chart, r, text));
            names = name > names ? name : names;
            numbers = number > numbers ? number : numbers;
        }
    if (names > MAX_NAME_WIDTH) names = MAX_NAME_WIDTH;
    d->left = EDGE + names + GAP;
    d->right = CHART_WIDTH - EDGE - numbers - GAP;
}

static int height_of(const chart_rows *c) {
    int height = TOP + BOTTOM;
    for (int g = 0; g < c->count; g++) height += (c->groups[g].name ? GROUP : GROUP / 2) + c->groups[g].count * ROW;
    return height;
}

static void include_group(const drawing *d, const chart_group *g, chart_axis *a) {
    if (d->chart->bars) chart_axis_include(a, 0, 0);
    for (int i = 0; i < g->count; i++) chart_axis_include(a, g->rows[i].value, g->rows[i].deviation);
}

/* If sizes differ a lot, the bars of the smallest group would not be visible on a common scale. */
static bool need_own_scales(const drawing *d) {
    const double MAX_RATIO = 8;
    double smallest = INFINITY, largest = 0;
    for (int g = 0; g < d->chart->count; g++) {
        chart_axis a = chart_axis_empty(false);
        include_group(d, &d->chart->groups[g], &a);
        if (a.high <= 0) continue;
        smallest = fmin(smallest, a.high);
        largest = fmax(largest, a.high);
    }
    return d->chart->bars && largest > MAX_RATIO * smallest;
}

static void set_scale(drawing *d, const chart_group *groups, int count) {
    d->axis = chart_axis_empty(false);
    for (int g = 0; g < count; g++) include_group(d, &groups[g], &d->axis);
    if (!d->own_scales) chart_axis_include(&d->axis, d->chart->level, 0);
    chart_axis_round(&d->axis);
}

static double x_of(const drawing *d, double value) {
    return d->left + chart_axis_position(&d->axis, value) * (d->right - d->left);
}

/* ---------------------------------------------------------------- parts */

static void put_text(const drawing *d, const char *attributes, double x, double y, const char *text) {
    fprintf(d->out, "<text %s x=\"%.1f\" y=\"%.1f\">", attributes, x, y);
    chart_put_escaped(d->out, text);
    fputs("</text>\n", d->out);
}

/* Long names are cut at the start, because their ends differ more. */
static void put_name(const drawing *d, double y, const char *name) {
    char cut[MAX_NAME_WIDTH / 7 + 8];
    size_t max_bytes = MAX_NAME_WIDTH / 7, length = strlen(name);
    if (length > max_bytes && chart_text_width(name) > MAX_NAME_WIDTH) {
        const char *end = name + length - max_bytes + 1;
        while (((unsigned char)*end & 0xc0) == 0x80) end++;
        snprintf(cut, sizeof cut, "…%s", end);
        name = cut;
    }
    put_text(d, "text-anchor=\"end\"", d->left - GAP, y + 4, name);
}

static void draw_error(const drawing *d, const chart_row *r, double y) {
    enum { CAP = 3 };
    double low, high;
    if (!chart_error_bar(r->value, r->deviation, &low, &high)) return;
    double from = x_of(d, low), to = x_of(d, high);
    fprintf(d->out, "<path class=\"error%s\" stroke=\"%s\" d=\"M%.1f %.1fv%dm0 -%dH%.1fm0 -%dv%d\"/>\n",
            d->chart->bars ? " over" : "", chart_hue(r->hue), from, y - CAP, 2 * CAP, CAP, to, CAP, 2 * CAP);
}

static void draw_bar(const drawing *d, const chart_row *r, double y) {
    bool hollow = chart_is_hollow(r->hue);
    double from = x_of(d, 0), to = x_of(d, r->value);
    fprintf(d->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\" %s=\"%s\"%s/>\n", fmin(from, to),
            y - BAR / 2.0, fabs(to - from), BAR, hollow ? "stroke" : "fill", chart_hue(r->hue),
            hollow ? " fill=\"none\"" : "");
}

static void draw_row(const drawing *d, const chart_row *r, double y) {
    char text[NUMBER_BYTES];
    put_name(d, y, r->name);
    if (!isfinite(r->value)) return;
    if (d->chart->bars) draw_bar(d, r, y);
    draw_error(d, r, y);
    if (!d->chart->bars) chart_put_dot(d->out, x_of(d, r->value), y, 4, r->hue);
    put_text(d, "text-anchor=\"end\"", CHART_WIDTH - EDGE, y + 4, number_of(d->chart, r, text));
}

static void draw_vertical(const drawing *d, const char *class, double x, double from, double to) {
    fprintf(d->out, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", class, x, x, from, to);
}

static void draw_ticks(const drawing *d, double y) {
    char where[96];
    int steps = chart_axis_steps(&d->axis);
    for (int i = 0; i <= steps; i++) {
        double x = d->left + (double)i / steps * (d->right - d->left);
        snprintf(where, sizeof where, "x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\"", x, y);
        chart_put_tick(d->out, &d->axis, i, where);
    }
}

/* Draws the grid of a group from `from` to `to`, without crossing group headings. */
static void draw_grid(const drawing *d, double from, double to) {
    int steps = chart_axis_steps(&d->axis);
    double level = x_of(d, d->chart->level);
    for (int i = 0; i <= steps; i++)
        draw_vertical(d, "grid", d->left + (double)i / steps * (d->right - d->left), from, to);
    if (isfinite(level)) draw_vertical(d, "level", level, from, to);
}

static double draw_group(drawing *d, const chart_group *g, double y) {
    if (g->name) put_text(d, "class=\"group\"", EDGE, y + GROUP - 8, g->name);
    y += g->name ? GROUP : GROUP / 2.0;
    if (d->own_scales) {
        set_scale(d, g, 1);
        draw_vertical(d, "grid", x_of(d, 0), y, y + g->count * ROW);
    } else {
        draw_grid(d, y, y + g->count * ROW);
    }
    for (int i = 0; i < g->count; i++, y += ROW) draw_row(d, &g->rows[i], y + ROW / 2.0);
    return y;
}

char *chart_rows_svg(const chart_rows *c) {
    char *svg = NULL;
    size_t length;
    drawing d = {.chart = c, .out = need(open_memstream(&svg, &length))};
    int height = height_of(c);
    double y = TOP;
    d.own_scales = need_own_scales(&d);
    set_columns(&d);
    set_scale(&d, c->groups, c->count);
    chart_put_page(d.out, height, c->title);
    put_text(&d, "", EDGE, 46, c->value_title);
    if (d.own_scales)
        put_text(&d, "text-anchor=\"end\"", CHART_WIDTH - EDGE, 46, "each group has its own scale");
    else
        draw_ticks(&d, height - BOTTOM + 18);
    for (int g = 0; g < c->count; g++) y = draw_group(&d, &c->groups[g], y);
    fputs("</svg>\n", d.out);
    if (fclose(d.out)) svg = NULL;
    return need(svg);
}
