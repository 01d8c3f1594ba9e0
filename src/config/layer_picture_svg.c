/* The layer map as SVG; see layer_picture.h.
 *
 * From left to right: the arrow that closes a loop, the layers (bottom to top, loops shaded), the slots beside their
 * owners, and a curve from each slot to every other layer that reads it. Coordinates are integers, so that no locale
 * writes a decimal comma. */
#include "config/layer_picture.h"

#include "base/text/text_buffer.h"

#include <stdlib.h>
#include <string.h>

/* Pixels. The box of a layer is at (BOX_X, layer_y()); its slot is a pill to the right. */
enum {
    TITLE_HEIGHT = 96,
    BOX_X = 150,
    BOX_WIDTH = 168,
    BOX_HEIGHT = 36,
    STEP = 52, /* distance of two layers */
    PILL_X = BOX_X + BOX_WIDTH + 34,
    PILL_WIDTH = 74,
    PILL_HEIGHT = 22,
    PILL_END = PILL_X + PILL_WIDTH,
    WIDTH = 608,
    MAX_BULGE = 170, /* largest horizontal reach of a curve */
    FOOT_HEIGHT = 56,
    LEGEND_LINE = 24,
    HUES = 8
};

/* Slot colours with contrast on white and on near-black. */
static const char *const hues[HUES] = {"#3b82f6", "#f59e0b", "#10b981", "#ef4444",
                                       "#a855f7", "#06b6d4", "#ec4899", "#84a30d"};

static const char style[] =
    "<style>\n"
    "text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;font-size:14px;fill:#1f2937}\n"
    ".title{font-size:19px;font-weight:600}.quiet{fill:#6b7280;font-size:13px}\n"
    ".code{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:13px;fill:#6b7280}\n"
    ".page{fill:#ffffff;stroke:#e5e7eb}.box{fill:#f9fafb;stroke-width:1.5}\n"
    ".flow{stroke:#9ca3af;stroke-width:1.5;fill:none}.head{fill:#9ca3af}\n"
    ".loop{fill:#6366f1;fill-opacity:.09;stroke:#6366f1;stroke-opacity:.45;stroke-dasharray:5 4}\n"
    ".back{stroke:#6366f1;stroke-width:2;fill:none}.backhead{fill:#6366f1}.again{fill:#6366f1;font-size:13px}\n"
    ".read{fill:none;stroke-width:1.8;stroke-opacity:.85}.up{stroke-dasharray:6 4}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#e5e7eb}.quiet,.code{fill:#9ca3af}.page{fill:#111827;stroke:#374151}.box{fill:#1f2937}\n"
    ".loop{fill-opacity:.16}.again{fill:#a5b4fc}.back{stroke:#818cf8}.backhead{fill:#818cf8}}\n"
    "</style>\n";

typedef struct drawing {
    const model_config *config;
    const layer_map *map;
    text_buffer *out;
    int legend_lines;
} drawing;

static int layer_y(const drawing *d, int layer) { /* upper edge of the box */
    return TITLE_HEIGHT + 34 + (d->map->layers - 1 - layer) * STEP;
}

static int middle_y(const drawing *d, int layer) {
    return layer_y(d, layer) + BOX_HEIGHT / 2;
}

static const char *hue_of(int slot) {
    return hues[slot % HUES];
}

/* ---------------------------------------------------------------- parts */

static int draw_title(const drawing *d) {
    enum { MAX_CHARACTERS = 68 };
    char *title, *layer_types;
    TRY(layer_picture_title(d->config, &title));
    int status = text_printf(d->out, "<text class=\"title\" x=\"32\" y=\"44\">%s</text>\n", title);
    free(title);
    if (status < 0) return status;
    TRY(layer_map_format(d->map, &layer_types));
    bool cut = strlen(layer_types) > MAX_CHARACTERS;
    status = text_printf(d->out, "<text class=\"code\" x=\"32\" y=\"70\">%.*s%s</text>\n", MAX_CHARACTERS, layer_types,
                         cut ? "…" : "");
    free(layer_types);
    return status;
}

/* The shaded background of the layers of a loop, the arrow from its top to its bottom, and the numbers of iterations.
 */
static int draw_loop(const drawing *d, const plan_step *range) {
    int top = layer_y(d, range->last) - 7, bottom = layer_y(d, range->first) + BOX_HEIGHT + 7;
    int from = middle_y(d, range->last), to = middle_y(d, range->first), middle = (from + to) / 2;
    TRY(text_printf(d->out, "<rect class=\"loop\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"14\"/>\n",
                    BOX_X - 14, top, BOX_WIDTH + 28, bottom - top));
    TRY(text_printf(d->out, "<path class=\"back\" d=\"M%d %d h-16 a14 14 0 0 0 -14 14 V%d a14 14 0 0 0 14 14 h8\"/>\n",
                    BOX_X - 15, from, to - 14));
    TRY(text_printf(d->out, "<path class=\"backhead\" d=\"M%d %d l-10 -5 v10 z\"/>\n", BOX_X - 14, to));
    TRY(text_printf(d->out, "<text class=\"again\" text-anchor=\"end\" x=\"%d\" y=\"%d\">%d + %d</text>\n", BOX_X - 54,
                    middle - 2, d->config->forward_passes, d->config->backward_passes));
    return text_printf(d->out, "<text class=\"again\" text-anchor=\"end\" x=\"%d\" y=\"%d\">iterations</text>\n",
                       BOX_X - 54, middle + 15);
}

/* The arrow of the hidden states into the box of `layer`, or out of the topmost one. */
static int draw_flow(const drawing *d, int y_from, int y_to) {
    int x = BOX_X + BOX_WIDTH / 2;
    TRY(text_printf(d->out, "<path class=\"flow\" d=\"M%d %d V%d\"/>", x, y_from, y_to + 5));
    return text_printf(d->out, "<path class=\"head\" d=\"M%d %d l-4 7 h8 z\"/>\n", x, y_to);
}

static int draw_layer(const drawing *d, int layer) {
    int y = layer_y(d, layer), baseline = y + BOX_HEIGHT / 2 + 5;
    const char *hue = hue_of(d->map->layer[layer].k_slot);
    TRY(text_printf(d->out,
                    "<rect class=\"box\" stroke=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"9\"/>\n", hue,
                    BOX_X, y, BOX_WIDTH, BOX_HEIGHT));
    if (!d->map->layer[layer].window)
        TRY(text_printf(d->out, "<text text-anchor=\"middle\" x=\"%d\" y=\"%d\">layer %d</text>\n",
                        BOX_X + BOX_WIDTH / 2, baseline, layer));
    else
        TRY(text_printf(d->out,
                        "<text x=\"%d\" y=\"%d\">layer %d</text>"
                        "<text class=\"quiet\" text-anchor=\"end\" x=\"%d\" y=\"%d\">window %lld</text>\n",
                        BOX_X + 14, baseline, layer, BOX_X + BOX_WIDTH - 14, baseline,
                        (long long)d->map->layer[layer].window));
    int below = layer ? layer_y(d, layer - 1) : y + STEP;
    return draw_flow(d, below, y + BOX_HEIGHT);
}

/* A slot beside its owner, with a second arrow head if the owner reads it too. */
static int draw_slot(const drawing *d, int slot) {
    int layer = d->map->slot[slot].layer, y = middle_y(d, layer);
    const char *hue = hue_of(slot);
    bool own = d->map->layer[layer].k_source == layer || d->map->layer[layer].v_source == layer;
    TRY(text_printf(d->out, "<path class=\"read\" stroke=\"%s\" d=\"M%d %d H%d\"/>", hue, BOX_X + BOX_WIDTH, y,
                    PILL_X - 8));
    TRY(text_printf(d->out, "<path fill=\"%s\" d=\"M%d %d l-9 -4 v8 z\"/>", hue, PILL_X - 1, y));
    if (own) TRY(text_printf(d->out, "<path fill=\"%s\" d=\"M%d %d l9 -4 v8 z\"/>", hue, BOX_X + BOX_WIDTH + 1, y));
    TRY(text_printf(d->out,
                    "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"11\" fill=\"%s\" fill-opacity=\".2\" "
                    "stroke=\"%s\" stroke-width=\"1.5\"/>",
                    PILL_X, y - PILL_HEIGHT / 2, PILL_WIDTH, PILL_HEIGHT, hue, hue));
    return text_printf(d->out, "<text text-anchor=\"middle\" x=\"%d\" y=\"%d\">slot %d</text>\n",
                       PILL_X + PILL_WIDTH / 2, y + 5, slot);
}

/* The curve from the slot of `source` to the box of `layer`. Longer distances reach further to the right. A reader
 * with a slot of its own is met below that slot. `name` is drawn beside the arrow. */
static int draw_curve(const drawing *d, int layer, int source, int offset, const char *name) {
    const layer_description *l = &d->map->layer[layer];
    int from = middle_y(d, source), to = middle_y(d, layer) + (l->slot >= 0 ? 14 : offset);
    int layers_apart = abs(source - layer);
    int bulge = 44 + 16 * layers_apart;
    if (bulge > MAX_BULGE) bulge = MAX_BULGE;
    int end = BOX_X + BOX_WIDTH + 2;
    const char *hue = hue_of(d->map->layer[source].slot);
    int curve_end = l->slot >= 0 ? PILL_END : end + 8;
    TRY(text_printf(d->out, "<path class=\"read%s\" stroke=\"%s\" d=\"M%d %d C%d %d %d %d %d %d H%d\"/>",
                    source > layer ? " up" : "", hue, PILL_END, from, PILL_END + bulge, from, PILL_END + bulge, to,
                    curve_end, to, end + 8));
    TRY(text_printf(d->out, "<path fill=\"%s\" d=\"M%d %d l10 -5 v10 z\"/>\n", hue, end, to));
    if (!*name) return LCKV_OK;
    return text_printf(d->out, "<text class=\"quiet\" x=\"%d\" y=\"%d\">%s</text>\n", end + 14, to - 3, name);
}

static int draw_read(const drawing *d, int layer) {
    const layer_description *l = &d->map->layer[layer];
    bool apart = l->k_source != l->v_source;
    if (l->k_source != layer) TRY(draw_curve(d, layer, l->k_source, apart ? -8 : 0, apart ? "K" : ""));
    return apart && l->v_source != layer ? draw_curve(d, layer, l->v_source, 8, "V") : LCKV_OK;
}

/* ---------------------------------------------------------------- legend */

static int legend_line(drawing *d, const char *sign, const char *text) {
    int y = layer_y(d, 0) + BOX_HEIGHT + FOOT_HEIGHT + 22 + LEGEND_LINE * d->legend_lines++;
    return text_printf(d->out,
                       "<g transform=\"translate(32 %d)\">%s</g><text class=\"quiet\" x=\"92\" y=\"%d\">%s</text>\n", y,
                       sign, y + 5, text);
}

static int draw_legend(drawing *d) {
    bool below = false;
    for (int i = 0; i < d->map->layers; i++)
        below = below || d->map->layer[i].k_source < i || d->map->layer[i].v_source < i;
    TRY(legend_line(
        d, "<path class=\"read\" stroke=\"#3b82f6\" d=\"M0 0 H38\"/><path fill=\"#3b82f6\" d=\"M46 0 l-9 -4 v8 z\"/>",
        "computes keys and values, which the slot keeps"));
    if (below)
        TRY(legend_line(
            d,
            "<path class=\"read\" stroke=\"#3b82f6\" d=\"M8 0 H46\"/><path fill=\"#3b82f6\" d=\"M0 0 l10 -5 v10 z\"/>",
            "reads the keys and values of a layer below"));
    if (!d->map->loops) return LCKV_OK;
    TRY(legend_line(
        d,
        "<path class=\"read up\" stroke=\"#3b82f6\" d=\"M8 0 H46\"/><path fill=\"#3b82f6\" d=\"M0 0 l10 -5 v10 z\"/>",
        "looks up: reads a layer above, so earlier tokens only"));
    char text[128];
    snprintf(text, sizeof text, "a loop: %d iterations without gradient, then %d with", d->config->forward_passes,
             d->config->backward_passes);
    return legend_line(d, "<rect class=\"loop\" x=\"0\" y=\"-8\" width=\"46\" height=\"16\" rx=\"6\"/>", text);
}

/* ---------------------------------------------------------------- the whole */

static int draw_all(drawing *d, const plan *ranges) {
    int x = BOX_X + BOX_WIDTH / 2, foot = layer_y(d, 0) + BOX_HEIGHT;
    TRY(draw_title(d));
    for (int i = 0; i < ranges->count; i++)
        if (ranges->steps[i].in_loop) TRY(draw_loop(d, &ranges->steps[i]));
    for (int i = 0; i < d->map->layers; i++) TRY(draw_layer(d, i));
    TRY(draw_flow(d, layer_y(d, d->map->layers - 1), TITLE_HEIGHT + 14));
    TRY(text_printf(d->out, "<text class=\"quiet\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">logits</text>\n", x,
                    TITLE_HEIGHT + 8));
    TRY(text_printf(d->out, "<text class=\"quiet\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">embeddings</text>\n", x,
                    foot + 30));
    for (int i = 0; i < d->map->layers; i++) TRY(draw_read(d, i));
    for (int s = 0; s < d->map->slots; s++) TRY(draw_slot(d, s));
    return draw_legend(d);
}

int layer_picture_svg(const model_config *config, char **out) {
    *out = NULL;
    text_buffer body = {0}, text = {0};
    drawing d = {.config = config, .map = &config->map, .out = &body};
    plan ranges;
    TRY(plan_make(d.map, 0, 1, &ranges)); /* one step per range */
    int status = draw_all(&d, &ranges);
    int height = layer_y(&d, 0) + BOX_HEIGHT + FOOT_HEIGHT + LEGEND_LINE * d.legend_lines + 28;
    if (status >= 0)
        status = text_printf(&text,
                             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                             "height=\"%d\" role=\"img\">\n%s<rect class=\"page\" x=\"1\" y=\"1\" width=\"%d\" "
                             "height=\"%d\" rx=\"16\"/>\n",
                             WIDTH, height, WIDTH, height, style, WIDTH - 2, height - 2);
    if (status >= 0) status = text_append(&text, body.data, body.length);
    if (status >= 0) status = text_printf(&text, "</svg>\n");
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    text_free(&body);
    plan_free(&ranges);
    return status;
}
