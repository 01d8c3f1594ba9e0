#include "cli/bench/chart_parts.h"

#include "cli/output/output.h"

#include <math.h>
#include <string.h>

enum { MAX_TICKS = 6 };

static const char *const HUES[] = {"#3b82f6", "#f59e0b", "#10b981", "#ef4444",
                                   "#a855f7", "#06b6d4", "#ec4899", "#84a30d"};
enum { HUE_COUNT = sizeof HUES / sizeof *HUES };

static const char STYLE[] =
    "<style>text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;"
    "fill:#6b7280}.title{font-size:15px;font-weight:600;fill:#1f2937}.group{font-weight:600;fill:#374151}"
    ".page{fill:#ffffff;stroke:#e5e7eb}.grid{stroke:#e5e7eb}.line{fill:none;stroke-width:1.6}"
    ".error{fill:none;stroke-width:1.2}.over{stroke:#374151}.level{stroke:#9ca3af;stroke-dasharray:6 4}"
    "@media (prefers-color-scheme:dark){text{fill:#9ca3af}.title{fill:#e5e7eb}.group{fill:#d1d5db}"
    ".page{fill:#111827;stroke:#374151}.grid{stroke:#374151}.over{stroke:#e5e7eb}}</style>\n";

/* ---------------------------------------------------------------- axes */

static double on_axis(const chart_axis *a, double value) {
    return a->logarithmic ? log10(value) : value;
}

chart_axis chart_axis_empty(bool logarithmic) {
    return (chart_axis){.low = INFINITY, .high = -INFINITY, .logarithmic = logarithmic};
}

double chart_axis_position(const chart_axis *a, double value) {
    return (on_axis(a, value) - a->low) / (a->high - a->low);
}

static void include(chart_axis *a, double value) {
    double at = on_axis(a, value);
    if (!isfinite(at)) return;
    a->low = fmin(a->low, at);
    a->high = fmax(a->high, at);
}

void chart_axis_include(chart_axis *a, double value, double deviation) {
    double low, high;
    if (!isfinite(on_axis(a, value))) return;
    include(a, value);
    if (!chart_error_bar(value, deviation, &low, &high)) return;
    include(a, low);
    include(a, high);
}

/* Returns 1, 2 or 5 times a power of ten, so that at most MAX_TICKS steps cover `span`; on a logarithmic axis, a whole
 * number of powers of ten. */
static double tick_step(double span, bool logarithmic) {
    double step = pow(10, floor(log10(span / MAX_TICKS)));
    static const double FACTORS[] = {1, 2, 5, 10};
    if (logarithmic) return fmax(1, ceil(span / MAX_TICKS));
    for (int i = 0; i < 4; i++)
        if (span / (step * FACTORS[i]) <= MAX_TICKS) return step * FACTORS[i];
    return 10 * step;
}

/* Equal values get margins on both sides. */
void chart_axis_round(chart_axis *a) {
    if (a->low > a->high || (a->low == 0 && a->high == 0)) a->low = 0, a->high = 1;
    double margin = fmax(1e-3 * fabs(a->high), 1e-9);
    if (a->high - a->low < margin) a->low -= margin, a->high += margin;
    a->step = tick_step(a->high - a->low, a->logarithmic);
    a->low = floor(a->low / a->step + 1e-9) * a->step;
    a->high = fmax(ceil(a->high / a->step - 1e-9) * a->step, a->low + a->step);
}

int chart_axis_steps(const chart_axis *a) {
    return (int)llround((a->high - a->low) / a->step);
}

static void put_number(FILE *out, double value, double step) {
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (fabs(value) < step / 2) value = 0; /* never -0 */
    if (fabs(value) >= 1e6)
        fprintf(out, "%gM", value / 1e6);
    else if (fabs(value) >= 1e4)
        fprintf(out, "%gk", value / 1e3);
    else
        fprintf(out, "%.*f", decimals, value);
}

void chart_put_tick(FILE *out, const chart_axis *a, int i, const char *attributes) {
    double at = a->low + i * a->step;
    fprintf(out, "<text %s>", attributes);
    if (a->logarithmic && (at < -3 || at > 5))
        fprintf(out, "1e%d", (int)lround(at));
    else if (a->logarithmic)
        put_number(out, pow(10, at), pow(10, at));
    else
        put_number(out, at, a->step);
    fputs("</text>\n", out);
}

bool chart_error_bar(double value, double deviation, double *low, double *high) {
    *low = value >= 0 ? fmax(value - deviation, 0) : value - deviation;
    *high = value + deviation;
    return isfinite(value) && deviation > 0 && isfinite(deviation);
}

/* ---------------------------------------------------------------- page and text */

void chart_put_escaped(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

int chart_text_width(const char *text) {
    enum { CHARACTER_WIDTH = 7 };
    return display_width(text, strlen(text)) * CHARACTER_WIDTH;
}

void chart_put_page(FILE *out, int height, const char *title) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n%s"
            "<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n"
            "<text class=\"title\" x=\"16\" y=\"26\">",
            CHART_WIDTH, height, CHART_WIDTH, height, STYLE, CHART_WIDTH - 1, height - 1);
    chart_put_escaped(out, title);
    fputs("</text>\n", out);
}

/* ---------------------------------------------------------------- colours */

const char *chart_hue(int index) {
    return HUES[index % HUE_COUNT];
}

bool chart_is_hollow(int index) {
    return index / HUE_COUNT % 2 == 1;
}

void chart_put_dot(FILE *out, double x, double y, double radius, int index) {
    bool hollow = chart_is_hollow(index);
    fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" %s=\"%s\"%s/>\n", x, y, radius, hollow ? "stroke" : "fill",
            chart_hue(index), hollow ? " fill=\"none\" stroke-width=\"1.6\"" : "");
}
