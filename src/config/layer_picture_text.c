/* The layer map for a terminal; see layer_picture.h.
 *
 *    ↻ 7+2 ╭ │ layer 6 ├─■ slot 1 ───╮     A slot that other layers read gets a lane to the right; the readers'
 *          │ │ layer 5 │◁╌ slot 1 ╌╌╌┤     rows join it. A layer that owns such a slot and reads another has two
 *          ╰ │ layer 4 │◁╌ slot 1 ╌╌╌╯     rows. Lanes are shared by slots whose rows do not overlap. */
#include "config/layer_picture.h"

#include "base/text/text_buffer.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LANES = 24 }; /* with more, lines cannot be followed; rows then only name their slots */

typedef struct row {
    int layer, slot;  /* the slot that it names */
    bool owns;        /* the layer owns the slot */
    bool joins;       /* a line connects it to the slot's lane */
    const char *part; /* "K" or "V" if the layer reads one of them here; else "" */
} row;

typedef struct lane {
    int top, bottom; /* rows */
    int column;      /* -1: not drawn */
} lane;

typedef struct picture {
    const model_config *config;
    const layer_map *map;
    row *rows; /* top layer first */
    int row_count;
    lane *lanes; /* [slots] */
    int columns;
    int layer_digits, slot_digits;
    int part_width; /* columns for `part`, 0 if no layer has two sources */
} picture;

static int digits_of(int number) {
    int digits = 1;
    for (; number >= 10; number /= 10) digits++;
    return digits;
}

/* ---------------------------------------------------------------- layout */

static bool is_shared(const layer_map *map, int slot) {
    for (int i = 0; i < map->layers; i++)
        if ((map->layer[i].k_slot == slot || map->layer[i].v_slot == slot) && i != map->slot[slot].layer) return true;
    return false;
}

static void add_row(picture *p, int layer, int slot, const char *part) {
    bool owns = p->map->layer[layer].slot == slot;
    p->rows[p->row_count++] = (row){layer, slot, owns, !owns || is_shared(p->map, slot), part};
}

/* The slot that the layer owns, then the slots of other layers that it reads. */
static void lay_out_rows(picture *p) {
    for (int i = p->map->layers - 1; i >= 0; i--) {
        const layer_description *l = &p->map->layer[i];
        bool apart = l->k_slot != l->v_slot;
        if (apart) p->part_width = 2;
        if (l->slot >= 0) add_row(p, i, l->slot, "");
        if (l->k_slot != l->slot) add_row(p, i, l->k_slot, apart ? " K" : "");
        if (apart && l->v_slot != l->slot) add_row(p, i, l->v_slot, " V");
    }
}

static void measure_lanes(picture *p) {
    for (int s = 0; s < p->map->slots; s++) p->lanes[s] = (lane){.top = -1, .column = -1};
    for (int r = 0; r < p->row_count; r++) {
        if (!p->rows[r].joins) continue;
        lane *l = &p->lanes[p->rows[r].slot];
        if (l->top < 0) l->top = r;
        l->bottom = r;
    }
}

static bool column_is_free(const picture *p, int column, const lane *wanted) {
    for (int s = 0; s < p->map->slots; s++) {
        const lane *l = &p->lanes[s];
        if (l != wanted && l->column == column && l->top <= wanted->bottom && wanted->top <= l->bottom) return false;
    }
    return true;
}

/* Shortest lanes first, each in the innermost free column. */
static void place_lanes(picture *p) {
    for (;;) {
        lane *shortest = NULL;
        for (int s = 0; s < p->map->slots; s++) {
            lane *l = &p->lanes[s];
            if (l->top < 0 || l->column >= 0) continue;
            if (!shortest || l->bottom - l->top < shortest->bottom - shortest->top) shortest = l;
        }
        if (!shortest) return;
        shortest->column = 0;
        while (!column_is_free(p, shortest->column, shortest)) shortest->column++;
        if (shortest->column >= p->columns) p->columns = shortest->column + 1;
        if (p->columns > MAX_LANES) return;
    }
}

static int lay_out(picture *p) {
    size_t layers = (size_t)p->map->layers;
    p->rows = calloc(3 * layers, sizeof *p->rows);
    p->lanes = calloc(layers, sizeof *p->lanes);
    REQUIRE(p->rows && p->lanes, LCKV_ERROR_MEMORY, "no memory for a picture of %d layers", p->map->layers);
    lay_out_rows(p);
    measure_lanes(p);
    place_lanes(p);
    if (p->columns > MAX_LANES) p->columns = 0;
    p->layer_digits = digits_of(p->map->layers - 1);
    p->slot_digits = digits_of(p->map->slots - 1);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- one row */

/* The sign in `column` of row `r`: empty, a line passing through, a lane, or a junction. */
static const char *lane_sign(const picture *p, int r, int column, const char *line, bool passes) {
    const row *here = &p->rows[r];
    for (int s = 0; s < p->map->slots; s++) {
        const lane *l = &p->lanes[s];
        if (l->column != column || r < l->top || r > l->bottom) continue;
        if (!here->joins || here->slot != s) return passes ? "┼" : "│";
        return r == l->top ? "╮" : r == l->bottom ? "╯" : "┤";
    }
    return passes ? line : " ";
}

static int draw_lanes(const picture *p, int r, const char *line, text_buffer *out) {
    const row *here = &p->rows[r];
    int reach = here->joins ? p->lanes[here->slot].column : -1;
    for (int c = 0; c < p->columns; c++) {
        TRY(text_printf(out, "%s", c <= reach ? line : " "));
        TRY(text_printf(out, "%s", lane_sign(p, r, c, line, c <= reach)));
    }
    return LCKV_OK;
}

static int draw_row(const picture *p, int r, text_buffer *out) {
    const row *here = &p->rows[r];
    bool up = !here->owns && p->map->slot[here->slot].layer > here->layer;
    bool first = r == 0 || p->rows[r - 1].layer != here->layer;
    const char *line = up ? "╌" : "─";
    if (first)
        TRY(text_printf(out, "│ layer %*d %s ", p->layer_digits, here->layer,
                        p->map->layer[here->layer].window ? "s" : " "));
    else
        TRY(text_printf(out, "│       %*s   ", p->layer_digits, ""));
    TRY(text_printf(out, "%s slot %*d%-*s ",
                    here->owns ? "├─■"
                    : up       ? "│◁╌"
                               : "│◀─",
                    p->slot_digits, here->slot, p->part_width, here->part));
    if (!here->joins || p->columns == 0) line = " ";
    return draw_lanes(p, r, line, out);
}

/* ---------------------------------------------------------------- loops, at the left */

typedef struct span {
    int top, bottom; /* rows; -1: none */
} span;

static span rows_of(const picture *p, const plan_step *step) {
    span s = {-1, -1};
    for (int r = 0; r < p->row_count; r++) {
        if (p->rows[r].layer < step->first || p->rows[r].layer > step->last) continue;
        if (s.top < 0) s.top = r;
        s.bottom = r;
    }
    return s;
}

/* The bracket of the loop that contains row `r`, one of `ranges`. `label` is at its middle. */
static int draw_bracket(const plan *ranges, const picture *p, int r, const char *label, text_buffer *out) {
    int width = (int)strlen(label) + 4;
    for (int i = 0; i < ranges->count; i++) {
        const plan_step *step = &ranges->steps[i];
        if (!step->in_loop || p->rows[r].layer < step->first || p->rows[r].layer > step->last) continue;
        span s = rows_of(p, step);
        const char *sign = r == s.top ? "╭" : r == s.bottom ? "╰" : "│";
        if (r == (s.top + s.bottom) / 2) return text_printf(out, " ↻ %s %s ", label, sign);
        return text_printf(out, "%*s%s ", width, "", sign);
    }
    return text_printf(out, "%*s", p->map->loops ? width + 2 : 2, "");
}

/* ---------------------------------------------------------------- the whole */

static int draw_border(const picture *p, int margin, const char *left, const char *right, text_buffer *out) {
    TRY(text_printf(out, "%*s%s", margin, "", left));
    for (int i = 0; i < p->layer_digits + 10; i++) TRY(text_printf(out, "─"));
    return text_printf(out, "%s\n", right);
}

static int draw_legend(const picture *p, text_buffer *out) {
    const model_config *c = p->config;
    bool below = false, windowed = false;
    for (int i = 0; i < p->map->layers; i++) {
        below = below || p->map->layer[i].k_source < i || p->map->layer[i].v_source < i;
        windowed = windowed || p->map->layer[i].window;
    }
    TRY(text_printf(out, "\n  ■  owns a KV slot\n"));
    if (below) TRY(text_printf(out, "  ◀─ reads the KV of a layer below\n"));
    if (p->map->loops) {
        TRY(text_printf(out, "  ◁╌ looks up: reads a layer above, earlier tokens only\n"));
        TRY(text_printf(out, "  ↻  %d iteration%s without gradient, then %d with\n", c->forward_passes,
                        c->forward_passes == 1 ? "" : "s", c->backward_passes));
    }
    if (windowed)
        TRY(text_printf(out, "  s  sliding window of %lld token%s\n", (long long)c->sliding_window,
                        plural(c->sliding_window)));
    if (c->force_nodiag) TRY(text_printf(out, "  force_nodiag: no layer sees its own token\n"));
    return LCKV_OK;
}

static int draw(const picture *p, const plan *ranges, text_buffer *out) {
    char label[32];
    snprintf(label, sizeof label, "%d+%d", p->config->forward_passes, p->config->backward_passes);
    int margin = p->map->loops ? (int)strlen(label) + 6 : 2;
    TRY(draw_border(p, margin, "╭", "╮", out));
    for (int r = 0; r < p->row_count; r++) {
        TRY(draw_bracket(ranges, p, r, label, out));
        TRY(draw_row(p, r, out));
        while (out->length && out->data[out->length - 1] == ' ') out->data[--out->length] = 0;
        TRY(text_printf(out, "\n"));
    }
    TRY(draw_border(p, margin, "╰", "╯", out));
    return draw_legend(p, out);
}

int layer_picture_text(const model_config *config, char **out) {
    *out = NULL;
    picture p = {.config = config, .map = &config->map};
    plan ranges = {0};
    text_buffer text = {0};
    int status = lay_out(&p);
    if (status >= 0) status = plan_make(p.map, 0, 1, &ranges) /* one step per range */;
    if (status >= 0) status = draw(&p, &ranges, &text);
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    plan_free(&ranges);
    free(p.rows);
    free(p.lanes);
    return status;
}
