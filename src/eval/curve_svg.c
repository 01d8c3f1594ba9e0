/* The curve of nll over position as SVG, see curve_svg.h. Coordinates are written in tenths of a pixel by hand, so that
 * no locale writes a decimal comma. */
#include "eval/curve_svg.h"

#include "base/text_buffer.h"

#include <math.h>

/* Pixels. */
enum { WIDTH = 760, HEIGHT = 360, LEFT = 64, RIGHT = 24, TOP = 52, BOTTOM = 48, MOST_TICKS = 6 };

static const char style[] =
    "<style>text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;"
    "fill:#6b7280}.title{font-size:15px;font-weight:600;fill:#1f2937}.page{fill:#ffffff;stroke:#e5e7eb}"
    ".grid{stroke:#e5e7eb}.line{fill:none;stroke:#3b82f6;stroke-width:1.6}.mean{stroke:#f59e0b;stroke-dasharray:6 4}"
    "@media (prefers-color-scheme:dark){text{fill:#9ca3af}.title{fill:#e5e7eb}.page{fill:#111827;stroke:#374151}"
    ".grid{stroke:#374151}}</style>\n";

typedef struct frame {
    text_buffer *out;
    double low, high, step; /* nll */
    double tokens;
} frame;

/* A coordinate: 12.3 */
typedef struct tenths {
    long long whole;
    int rest;
} tenths;

static tenths coordinate(double pixels) {
    long long all = llround(pixels * 10);
    return (tenths){all / 10, (int)(all % 10)};
}

static tenths x_of(const frame *f, double position) {
    return coordinate(LEFT + position / f->tokens * (WIDTH - LEFT - RIGHT));
}

static tenths y_of(const frame *f, double nll) {
    return coordinate(HEIGHT - BOTTOM - (nll - f->low) / (f->high - f->low) * (HEIGHT - TOP - BOTTOM));
}

/* 1, 2 or 5 times a power of ten, so that at most MOST_TICKS steps cover `span`. */
static double tick_step(double span) {
    double step = pow(10, floor(log10(span / MOST_TICKS)));
    static const double FACTORS[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (span / (step * FACTORS[i]) <= MOST_TICKS) return step * FACTORS[i];
    return 10 * step;
}

static void set_scale(frame *f, const lckv_curve_point *points, int count, double mean) {
    f->low = f->high = mean;
    for (int i = 0; i < count; i++) {
        f->low = fmin(f->low, points[i].nll);
        f->high = fmax(f->high, points[i].nll);
    }
    f->step = tick_step(fmax(f->high - f->low, 0.1));
    f->low = floor(f->low / f->step) * f->step;
    f->high = fmax(ceil(f->high / f->step) * f->step, f->low + f->step);
}

static int draw_ticks(const frame *f) {
    for (double y = f->low; y < f->high + f->step / 2; y += f->step) {
        tenths at = y_of(f, y);
        long long hundredths = llround(100 * y);
        TRY(text_printf(f->out,
                        "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%lld.%d\" y2=\"%lld.%d\"/>"
                        "<text x=\"%d\" y=\"%lld.%d\" text-anchor=\"end\" dy=\"4\">%lld.%02lld</text>\n",
                        LEFT, WIDTH - RIGHT, at.whole, at.rest, at.whole, at.rest, LEFT - 8, at.whole, at.rest,
                        hundredths / 100, hundredths % 100));
    }
    double step = tick_step(f->tokens);
    for (double x = 0; x <= f->tokens; x += step) {
        tenths at = x_of(f, x);
        TRY(text_printf(f->out, "<text x=\"%lld.%d\" y=\"%d\" text-anchor=\"middle\">%lld</text>\n", at.whole, at.rest,
                        HEIGHT - BOTTOM + 20, (long long)x));
    }
    return LCKV_OK;
}

static int draw_line(const frame *f, const lckv_curve_point *points, int count) {
    TRY(text_printf(f->out, "<polyline class=\"line\" points=\""));
    for (int i = 0; i < count; i++) {
        tenths x = x_of(f, (double)points[i].first + (double)points[i].tokens / 2), y = y_of(f, points[i].nll);
        TRY(text_printf(f->out, "%lld.%d,%lld.%d ", x.whole, x.rest, y.whole, y.rest));
    }
    return text_printf(f->out, "\"/>\n");
}

static int draw(frame *f, const lckv_curve_point *points, int count, double mean) {
    set_scale(f, points, count, mean);
    tenths y = y_of(f, mean);
    long long thousandths = llround(mean * 1000);
    TRY(text_printf(f->out,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n%s"
                    "<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n",
                    WIDTH, HEIGHT, WIDTH, HEIGHT, style, WIDTH - 1, HEIGHT - 1));
    TRY(text_printf(f->out,
                    "<text class=\"title\" x=\"%d\" y=\"30\">nll (nats a token) over position: mean %lld.%03lld, %lld "
                    "tokens</text>\n",
                    LEFT, thousandths / 1000, thousandths % 1000, (long long)f->tokens));
    TRY(draw_ticks(f));
    TRY(text_printf(f->out, "<line class=\"mean\" x1=\"%d\" x2=\"%d\" y1=\"%lld.%d\" y2=\"%lld.%d\"/>\n", LEFT,
                    WIDTH - RIGHT, y.whole, y.rest, y.whole, y.rest));
    TRY(draw_line(f, points, count));
    return text_printf(f->out, "</svg>\n");
}

int curve_svg(const lckv_curve_point *points, int count, int64_t tokens, double mean, char **svg) {
    text_buffer out = {0};
    frame f = {.out = &out, .tokens = tokens > 0 ? (double)tokens : 1};
    *svg = NULL;
    int status = draw(&f, points, count, mean);
    if (status >= 0) status = text_take(&out, svg);
    text_free(&out);
    return status;
}
