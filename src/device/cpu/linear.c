/* Products of rows with weights in plain C: y = x weight^T + bias, and its three gradients, for all combinations of
 * types.
 *
 * linear_few.c handles few rows (decoding). For more rows, blocks of both factors are packed into f32 panels, with
 * conversion, and multiplied by the kernel of tile.h (Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication", 2008). Each thread computes a rectangle of the result. onednn.c replaces this product for the
 * types that oneDNN supports on this processor. */
#include "device/cpu/linear.h"
#include "device/cpu/cpu.h"
#include "device/cpu/groups.h"
#include "device/cpu/tile.h"

enum {
    BLOCK_ROWS = 32 * TILE_ROWS, /* of the result, at a time: */
    BLOCK_COLS = 24 * TILE_COLS, /* panels of a block stay in the second-level cache */
    BLOCK_DEPTH = 256,           /* a panel of TILE_COLS columns stays in the first-level cache */
};

/* Element (r, k) of a factor is element (r, k) of `from`, or (k, r) if it is transposed. */
struct factor {
    view from;
    bool transposed;
};

/* to (+)= a b^T over `depth`, plus the bias. `to` is [rows, cols] of a compute type; f32 if it is added to. */
struct product {
    struct factor a, b;
    int64_t rows, cols, depth;
    view to, bias;
    bool add;
};

/* `width` elements of row r of a view from element `first` on, as f32; zeros from `count` on. In the full case the
 * width is a constant for the compiler. */
static inline __attribute__((always_inline)) void widen_some(float *out, int width, view v, int64_t r, int64_t first,
                                                             int64_t count) {
    if (count < width || cpu_is_grouped(v.type)) {
        if (count > width) count = width;
        cpu_widen_part(out, v, r, first, count);
        memset(out + count, 0, (size_t)(width - count) * sizeof *out);
        return;
    }
    const void *from = cpu_at(v, r, first);
    if (v.type == DTYPE_F32) {
        memcpy(out, from, (size_t)width * sizeof *out);
    } else {
        for (int i = 0; i < width; i++) out[i] = cpu_widened(from, v.type, i);
    }
}

/* Left panels: a row of the product is at out + r * BLOCK_DEPTH; or, if rows of the factor run along the panel,
 * element k of all TILE_ROWS rows is at out + k * TILE_ROWS. Padding rows are zeros. */
static void pack_left(float *out, const struct factor *f, int64_t row, int64_t rows, int64_t k, int64_t depth) {
    for (int64_t r = 0; r < tile_round(rows, TILE_ROWS) && !f->transposed; r++) {
        if (r < rows) cpu_widen_part(out + r * BLOCK_DEPTH, f->from, row + r, k, depth);
        if (r >= rows) memset(out + r * BLOCK_DEPTH, 0, (size_t)depth * sizeof *out);
    }
    for (int64_t r = 0; r < rows && f->transposed; r += TILE_ROWS)
        for (int64_t i = 0; i < depth; i++)
            widen_some(out + r * BLOCK_DEPTH + i * TILE_ROWS, TILE_ROWS, f->from, k + i, row + r, rows - r);
}

/* A right panel has TILE_COLS columns of the product, element k of all at out + k * TILE_COLS; the next one starts
 * at out + depth * TILE_COLS. Padding columns are zeros. */
static void pack_right(float *out, const struct factor *f, int64_t col, int64_t cols, int64_t k, int64_t depth) {
    for (int64_t c = 0; c < cols && f->transposed; c += TILE_COLS)
        for (int64_t i = 0; i < depth; i++)
            widen_some(out + c * depth + i * TILE_COLS, TILE_COLS, f->from, k + i, col + c, cols - c);
    float lines[4][BLOCK_DEPTH];
    for (int64_t c = 0; c < tile_round(cols, TILE_COLS) && !f->transposed; c += 4) {
        const float *rows[4];
        for (int r = 0; r < 4; r++) {
            rows[r] = lines[r];
            if (c + r >= cols)
                memset(lines[r], 0, sizeof lines[r]);
            else if (f->from.type == DTYPE_F32)
                rows[r] = cpu_at(f->from, col + c + r, k);
            else
                cpu_widen_part(lines[r], f->from, col + c + r, k, depth);
        }
        tile_transpose4(out + c / TILE_COLS * TILE_COLS * depth + c % TILE_COLS, TILE_COLS, rows, depth);
    }
}

struct panels {
    float a[BLOCK_ROWS * BLOCK_DEPTH], b[BLOCK_COLS * BLOCK_DEPTH], c[BLOCK_ROWS * BLOCK_COLS], bias[BLOCK_COLS];
};

/* Stores the finished block c in the result. */
static void store_block(const struct product *p, struct panels *own, int64_t row, int64_t rows, int64_t col,
                        int64_t cols) {
    if (p->bias.data) cpu_widen(own->bias, cpu_at(p->bias, 0, col), p->bias.type, cols);
    for (int64_t r = 0; r < rows; r++) {
        float *from = own->c + r * BLOCK_COLS;
        void *to = cpu_at(p->to, row + r, col);
        if (p->bias.data)
            for (int64_t i = 0; i < cols; i++) from[i] += own->bias[i];
        if (p->add)
            for (int64_t i = 0; i < cols; i++) ((float *)to)[i] += from[i];
        else
            cpu_narrow(to, p->to.type, from, cols);
    }
}

static void multiply_block(const struct product *p, struct panels *own, int64_t row, int64_t rows, int64_t col,
                           int64_t cols) {
    if (p->depth == 0) memset(own->c, 0, sizeof own->c); /* a sum over nothing */
    for (int64_t k = 0; k < p->depth; k += BLOCK_DEPTH) {
        int64_t depth = p->depth - k < BLOCK_DEPTH ? p->depth - k : BLOCK_DEPTH;
        pack_left(own->a, &p->a, row, rows, k, depth);
        pack_right(own->b, &p->b, col, cols, k, depth);
        for (int64_t j = 0; j < cols; j += TILE_COLS)
            for (int64_t i = 0; i < rows; i += TILE_ROWS) {
                float *c = own->c + i * BLOCK_COLS + j;
                const float *a = own->a + i * BLOCK_DEPTH, *b = own->b + j * depth;
                if (!p->a.transposed)
                    tile_product(c, BLOCK_COLS, k > 0, a, BLOCK_DEPTH, 1, b, TILE_COLS, depth);
                else
                    tile_product(c, BLOCK_COLS, k > 0, a, 1, TILE_ROWS, b, TILE_COLS, depth);
            }
    }
    store_block(p, own, row, rows, col, cols);
}

/* Threads form a grid over the result. Of the grids that use all threads, the one that packs least is used. */
static int grid_rows(int parts, int64_t rows, int64_t cols) {
    int best = 1;
    double least = 0;
    for (int g = 1; g <= parts; g++) {
        if (parts % g != 0) continue;
        double packed = (double)rows / g + (double)cols * g / parts;
        if (g == 1 || packed < least) best = g, least = packed;
    }
    return best;
}

static struct cpu_range share_tiles(int64_t n, int tile, int parts, int part) {
    struct cpu_range tiles = cpu_share((n + tile - 1) / tile, parts, part);
    int64_t end = tiles.end * tile;
    return (struct cpu_range){tiles.begin * tile, end < n ? end : n};
}

static int multiply(device *d, const struct product *p) {
    int parts = cpu_parts(d, p->rows * p->cols / TILE_LANES * p->depth);
    int high = grid_rows(parts, p->rows, p->cols), wide = parts / high;
    struct panels *panels;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)parts * sizeof *panels, (void **)&panels));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range rows = share_tiles(p->rows, TILE_ROWS, high, part / wide);
        struct cpu_range cols = share_tiles(p->cols, TILE_COLS, wide, part % wide);
        for (int64_t j = cols.begin; j < cols.end; j += BLOCK_COLS)
            for (int64_t i = rows.begin; i < rows.end; i += BLOCK_ROWS)
                multiply_block(p, panels + part, i, rows.end - i < BLOCK_ROWS ? rows.end - i : BLOCK_ROWS, j,
                               cols.end - j < BLOCK_COLS ? cols.end - j : BLOCK_COLS);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- the entries */

static struct factor rows_of(view v) {
    return (struct factor){v, false};
}

static struct factor columns_of(view v) {
    return (struct factor){v, true};
}

int CPU_ENTRY(cpu_linear)(device *d, const struct op_linear *a) {
    if (a->x.rows == 0) return LCKV_OK;
    if (a->x.rows <= LINEAR_FEW_ROWS || d->invariant_rows) return CPU_ENTRY(linear_few)(d, a);
    struct product y = {.a = rows_of(a->x), .b = rows_of(a->weight), .to = a->y, .bias = a->bias};
    y.rows = a->x.rows, y.cols = a->weight.rows, y.depth = a->x.cols;
    return multiply(d, &y);
}

static int add_dx(device *d, const struct op_linear *a) {
    struct product dx = {.a = rows_of(a->dy), .b = columns_of(a->weight), .to = a->dx, .add = true};
    dx.rows = a->dy.rows, dx.cols = a->weight.cols, dx.depth = a->weight.rows;
    return multiply(d, &dx);
}

static int add_dweight(device *d, const struct op_linear *a) {
    struct product dweight = {.a = columns_of(a->dy), .b = columns_of(a->x), .to = a->dweight, .add = true};
    dweight.rows = a->dweight.rows, dweight.cols = a->dweight.cols, dweight.depth = a->dy.rows;
    return multiply(d, &dweight);
}

static void add_dbias(device *d, const struct op_linear *a) {
    int parts = cpu_parts(d, a->dy.rows * a->dy.cols);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->dy.cols, parts, part);
        float *restrict to = a->dbias.data;
        for (int64_t r = 0; r < a->dy.rows; r++) {
            const float *restrict dy = cpu_row(a->dy, r);
            for (int64_t i = mine.begin; i < mine.end; i++) to[i] += dy[i];
        }
    }
}

int CPU_ENTRY(cpu_linear_backward)(device *d, const struct op_linear *a) {
    if (a->dy.rows == 0) return LCKV_OK;
    if (a->dbias.data) add_dbias(d, a);
    if (a->dy.rows <= CPU_FEW_ROWS) return CPU_ENTRY(linear_few_backward)(d, a);
    if (a->dx.data) TRY(add_dx(d, a));
    if (a->dweight.data) TRY(add_dweight(d, a));
    return LCKV_OK;
}
