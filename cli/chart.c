#include "chart.h"

#include "output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Pixels. */
enum { WIDTH = 760, PLOT_HEIGHT = 270, LEFT = 72, RIGHT = 28, TOP = 52, BOTTOM = 60, LEGEND_LINE = 20, MOST_TICKS = 6 };
enum { LEGEND_COLUMNS = 3, LABEL_WIDTH = 64, LABEL_HEIGHT = 12, MOST_LABELS = 64 };

/* Colours that read on white and on near-black. */
static const char *const HUES[] = {"#3b82f6", "#f59e0b", "#10b981", "#ef4444",
                                   "#a855f7", "#06b6d4", "#ec4899", "#84a30d"};
enum { HUE_COUNT = sizeof HUES / sizeof *HUES };

static const char STYLE[] =
    "<style>text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;"
    "fill:#6b7280}.title{font-size:15px;font-weight:600;fill:#1f2937}.page{fill:#ffffff;stroke:#e5e7eb}"
    ".grid{stroke:#e5e7eb}.line{fill:none;stroke-width:1.6}.level{stroke:#9ca3af;stroke-dasharray:6 4}"
    "@media (prefers-color-scheme:dark){text{fill:#9ca3af}.title{fill:#e5e7eb}.page{fill:#111827;stroke:#374151}"
    ".grid{stroke:#374151}}</style>\n";

/* One direction of the plane. A logarithmic axis has low, high and step in powers of ten. */
typedef struct axis {
    double low, high, step;
    bool logarithmic;
} axis;

typedef struct drawing {
    const chart *chart;
    FILE *out;
    axis x, y;
    struct {
        double x, y;
    } labels[MOST_LABELS]; /* where they were put */
    int label_count;
} drawing;

/* ---------------------------------------------------------------- scales */

static double on_axis(const axis *a, double value) {
    return a->logarithmic ? log10(value) : value;
}

static void include(axis *a, double value) {
    double at = on_axis(a, value);
    if (!isfinite(at)) return;
    a->low = fmin(a->low, at);
    a->high = fmax(a->high, at);
}

/* 1, 2 or 5 times a power of ten, so that at most MOST_TICKS steps cover `span`; whole powers on a logarithmic axis. */
static double tick_step(double span, bool logarithmic) {
    double step = pow(10, floor(log10(span / MOST_TICKS)));
    static const double FACTORS[] = {1, 2, 5, 10};
    if (logarithmic) return fmax(1, ceil(span / MOST_TICKS));
    for (int i = 0; i < 4; i++)
        if (span / (step * FACTORS[i]) <= MOST_TICKS) return step * FACTORS[i];
    return 10 * step;
}

/* Ends on ticks. Values that are all the same get some room on both sides. */
static void round_axis(axis *a) {
    if (a->low > a->high) a->low = 0, a->high = 1;
    double least = fmax(1e-3 * fabs(a->high), 1e-9);
    if (a->high - a->low < least) a->low -= least, a->high += least;
    a->step = tick_step(a->high - a->low, a->logarithmic);
    a->low = floor(a->low / a->step) * a->step;
    a->high = fmax(ceil(a->high / a->step) * a->step, a->low + a->step);
}

static void set_scales(drawing *d) {
    const chart *c = d->chart;
    d->x = (axis){.low = INFINITY, .high = -INFINITY, .logarithmic = c->log_x};
    d->y = (axis){.low = INFINITY, .high = -INFINITY, .logarithmic = c->log_y};
    for (int i = 0; i < c->count; i++) {
        for (int j = 0; j < c->series[i].count; j++) {
            include(&d->x, c->series[i].points[j].x);
            include(&d->y, c->series[i].points[j].y);
        }
    }
    include(&d->y, c->level);
    round_axis(&d->y);
    if (c->names)
        d->x = (axis){.low = -0.5, .high = c->name_count - 0.5, .step = 1};
    else
        round_axis(&d->x);
}

static double x_of(const drawing *d, double value) {
    return LEFT + (on_axis(&d->x, value) - d->x.low) / (d->x.high - d->x.low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const drawing *d, double value) {
    return TOP + PLOT_HEIGHT - (on_axis(&d->y, value) - d->y.low) / (d->y.high - d->y.low) * PLOT_HEIGHT;
}

static bool has_place(const drawing *d, const chart_point *p) {
    return isfinite(on_axis(&d->x, p->x)) && isfinite(on_axis(&d->y, p->y));
}

/* ---------------------------------------------------------------- parts */

/* Text of a chart is the program's or a file's name. */
static void put_text(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

static void put_number(FILE *out, double value, double step) {
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (fabs(value) >= 1e6)
        fprintf(out, "%gM", value / 1e6);
    else if (fabs(value) >= 1e4)
        fprintf(out, "%gk", value / 1e3);
    else
        fprintf(out, "%.*f", decimals, value);
}

static void draw_tick(const drawing *d, const axis *a, double at, const char *where) {
    fprintf(d->out, "<text %s>", where);
    if (a->logarithmic && (at < -3 || at > 5))
        fprintf(d->out, "1e%d", (int)at);
    else if (a->logarithmic)
        put_number(d->out, pow(10, at), pow(10, at));
    else
        put_number(d->out, at, a->step);
    fputs("</text>\n", d->out);
}

static int ticks_of(const axis *a) {
    return (int)llround((a->high - a->low) / a->step);
}

static void draw_y_axis(const drawing *d) {
    char where[96];
    for (int i = 0; i <= ticks_of(&d->y); i++) {
        double at = d->y.low + i * d->y.step, y = TOP + PLOT_HEIGHT - (double)i / ticks_of(&d->y) * PLOT_HEIGHT;
        fprintf(d->out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, y,
                y);
        snprintf(where, sizeof where, "x=\"%d\" y=\"%.1f\" text-anchor=\"end\" dy=\"4\"", LEFT - 8, y);
        draw_tick(d, &d->y, at, where);
    }
}

static void draw_x_axis(const drawing *d) {
    const chart *c = d->chart;
    char where[96];
    for (int i = 0; i < c->name_count; i++) {
        fprintf(d->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x_of(d, i), TOP + PLOT_HEIGHT + 20);
        put_text(d->out, c->names[i]);
        fputs("</text>\n", d->out);
    }
    for (int i = 0; i <= ticks_of(&d->x) && !c->names; i++) {
        double x = LEFT + (double)i / ticks_of(&d->x) * (WIDTH - LEFT - RIGHT);
        snprintf(where, sizeof where, "x=\"%.1f\" y=\"%d\" text-anchor=\"middle\"", x, TOP + PLOT_HEIGHT + 20);
        draw_tick(d, &d->x, d->x.low + i * d->x.step, where);
    }
    fprintf(d->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + WIDTH - RIGHT) / 2,
            TOP + PLOT_HEIGHT + 42);
    put_text(d->out, c->x_title);
    fputs("</text>\n", d->out);
}

static const char *hue_of(int series) {
    return HUES[series % HUE_COUNT];
}

/* Series beyond the hues are dashed, and their points hollow. */
static bool is_dashed(int series) {
    return series / HUE_COUNT % 2 == 1;
}

static void draw_line(const drawing *d, int series) {
    const chart_series *s = &d->chart->series[series];
    fprintf(d->out, "<polyline class=\"line\" stroke=\"%s\"%s points=\"", hue_of(series),
            is_dashed(series) ? " stroke-dasharray=\"5 3\"" : "");
    for (int i = 0; i < s->count; i++)
        if (has_place(d, &s->points[i]))
            fprintf(d->out, "%.1f,%.1f ", x_of(d, s->points[i].x), y_of(d, s->points[i].y));
    fputs("\"/>\n", d->out);
}

static void draw_point(const drawing *d, double x, double y, double radius, int series) {
    bool hollow = is_dashed(series);
    fprintf(d->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" %s=\"%s\"%s/>\n", x, y, radius,
            hollow ? "stroke" : "fill", hue_of(series), hollow ? " fill=\"none\" stroke-width=\"1.6\"" : "");
}

static bool is_taken(const drawing *d, double x, double y) {
    for (int i = 0; i < d->label_count; i++)
        if (fabs(d->labels[i].x - x) < LABEL_WIDTH && fabs(d->labels[i].y - y) < LABEL_HEIGHT) return true;
    return false;
}

/* Beside the point, or as near to it as there is room: above and below by turns. */
static void draw_label(drawing *d, double x, double y, const char *label, int series) {
    double at = y + 4;
    for (int i = 1; is_taken(d, x, at) && i < 2 * MOST_LABELS; i++)
        at = y + 4 + (i % 2 ? -1 : 1) * (i + 1) / 2 * (LABEL_HEIGHT / 2);
    if (d->label_count < MOST_LABELS) {
        d->labels[d->label_count].x = x;
        d->labels[d->label_count++].y = at;
    }
    bool left = x > WIDTH - 160;
    fprintf(d->out, "<text x=\"%.1f\" y=\"%.1f\" style=\"fill:%s\"%s>", left ? x - 7 : x + 7, at, hue_of(series),
            left ? " text-anchor=\"end\"" : "");
    put_text(d->out, label);
    fputs("</text>\n", d->out);
}

/* A line of many points says itself where they are. */
static void draw_points(drawing *d, int series) {
    enum { FEW = 40 };
    const chart_series *s = &d->chart->series[series];
    for (int i = 0; i < s->count; i++) {
        const chart_point *p = &s->points[i];
        if (!has_place(d, p) || (s->joined && s->count > FEW)) continue;
        double x = x_of(d, p->x), y = y_of(d, p->y);
        draw_point(d, x, y, 3.5, series);
        if (p->label) draw_label(d, x, y, p->label, series);
    }
}

static void draw_legend(const drawing *d) {
    int entry = 0;
    for (int i = 0; i < d->chart->count; i++) {
        const chart_series *s = &d->chart->series[i];
        if (!s->name || !s->count) continue;
        int x = LEFT + entry % LEGEND_COLUMNS * ((WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS);
        int y = TOP + PLOT_HEIGHT + BOTTOM + entry / LEGEND_COLUMNS * LEGEND_LINE;
        draw_point(d, x + 4, y - 4, 4, i);
        fprintf(d->out, "<text x=\"%d\" y=\"%d\">", x + 16, y);
        put_text(d->out, s->name);
        fputs("</text>\n", d->out);
        entry++;
    }
}

/* ---------------------------------------------------------------- whole */

static int legend_lines(const chart *c) {
    int entries = 0;
    for (int i = 0; i < c->count; i++) entries += c->series[i].name && c->series[i].count;
    return (entries + LEGEND_COLUMNS - 1) / LEGEND_COLUMNS;
}

static void draw_frame(const drawing *d) {
    const chart *c = d->chart;
    int height = TOP + PLOT_HEIGHT + BOTTOM + legend_lines(c) * LEGEND_LINE;
    fprintf(d->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n%s"
            "<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n",
            WIDTH, height, WIDTH, height, STYLE, WIDTH - 1, height - 1);
    fprintf(d->out, "<text class=\"title\" x=\"%d\" y=\"26\">", LEFT);
    put_text(d->out, c->title);
    fprintf(d->out, "</text>\n<text x=\"%d\" y=\"%d\">", LEFT - 56, TOP - 10);
    put_text(d->out, c->y_title);
    fputs("</text>\n", d->out);
}

static void draw_series(drawing *d) {
    const chart *c = d->chart;
    if (isfinite(on_axis(&d->y, c->level)))
        fprintf(d->out, "<line class=\"level\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, WIDTH - RIGHT,
                y_of(d, c->level), y_of(d, c->level));
    for (int i = 0; i < c->count; i++) {
        if (c->series[i].joined) draw_line(d, i);
        draw_points(d, i);
    }
}

char *chart_svg(const chart *c) {
    char *svg = NULL;
    size_t length;
    drawing d = {.chart = c, .out = need(open_memstream(&svg, &length))};
    set_scales(&d);
    draw_frame(&d);
    draw_y_axis(&d);
    draw_x_axis(&d);
    draw_series(&d);
    draw_legend(&d);
    fputs("</svg>\n", d.out);
    if (fclose(d.out)) svg = NULL;
    return need(svg);
}
