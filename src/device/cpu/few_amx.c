/* Products of few rows of bf16 with weights in bf16 by AMX: a tile of 16 outputs is multiplied with up to 8 rows of x
 * at once. Reading the weight remains the limit for any number of rows; by AVX512_BF16, arithmetic is the limit from
 * 8 rows on. See few.h. Sums are added in another order than in few_bf16.c. */
#include "device/cpu/few.h"

#if defined(__AVX512F__)

enum { UNIT = 2, OUTPUTS = 16, COLS = 32 }; /* outputs and columns of a tile of the weight */

#define AMX_CODE __attribute__((target("amx-tile,amx-bf16")))

/* Columns 2 u and 2 u + 1 of row r of x are at x + (u * R + r) * UNIT. */
static void pack(void *out, float *scales, int R, view x, int64_t r) {
    uint16_t *to = out;
    const uint16_t *from = cpu_row(x, r);
    (void)scales;
    for (int64_t k = 0; k + UNIT <= x.cols; k += UNIT, to += R * UNIT) memcpy(to, from + k, UNIT * sizeof *to);
    if (x.cols % UNIT) *to = from[x.cols - 1];
}

/* Tiles 0 and 1 are sums [OUTPUTS, R], 2 and 3 parts of the weight [OUTPUTS, COLS], and 4 is of x [COLS / 2, R, 2]. */
struct tile_config {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static inline AMX_CODE __attribute__((always_inline)) void configure(int R) {
    uint16_t sums = (uint16_t)(R * (int)sizeof(float)), weights = COLS * sizeof(uint16_t);
    struct tile_config c = {.palette = 1,
                            .row_bytes = {sums, sums, weights, weights, sums},
                            .rows = {OUTPUTS, OUTPUTS, OUTPUTS, OUTPUTS, COLS / 2}};
    _tile_loadconfig(&c);
}

/* Outputs o and the OUTPUTS - 1 after it, and as many again. */
static inline AMX_CODE __attribute__((always_inline)) void dot_two(int R, float *sum, const struct few_block *b,
                                                                   const char *w) {
    const uint16_t *x = b->x;
    const char *w1 = w + OUTPUTS * b->w_row;
    _tile_loadd(0, sum, R * (int)sizeof *sum);
    _tile_loadd(1, sum + OUTPUTS * R, R * (int)sizeof *sum);
    for (int64_t k = 0; k < b->depth; k += COLS) {
        _tile_loadd(4, x + k * R, R * (int)sizeof *sum);
        _tile_loadd(2, w + k * (int64_t)sizeof *x, b->w_row);
        _tile_dpbf16ps(0, 2, 4);
        _tile_loadd(3, w1 + k * (int64_t)sizeof *x, b->w_row);
        _tile_dpbf16ps(1, 3, 4);
    }
    _tile_stored(0, sum, R * (int)sizeof *sum);
    _tile_stored(1, sum + OUTPUTS * R, R * (int)sizeof *sum);
}

static inline AMX_CODE __attribute__((always_inline)) void dot_one(int R, float *sum, const struct few_block *b,
                                                                   const char *w) {
    const uint16_t *x = b->x;
    _tile_loadd(0, sum, R * (int)sizeof *sum);
    for (int64_t k = 0; k < b->depth; k += COLS) {
        _tile_loadd(4, x + k * R, R * (int)sizeof *sum);
        _tile_loadd(2, w + k * (int64_t)sizeof *x, b->w_row);
        _tile_dpbf16ps(0, 2, 4);
    }
    _tile_stored(0, sum, R * (int)sizeof *sum);
}

#define DOT(R)                                                                                                         \
    static AMX_CODE void dot_##R(float *sum, const struct few_block *b) {                                              \
        configure(R);                                                                                                  \
        for (int64_t o = 0; o < b->outputs;) {                                                                         \
            bool two = o + OUTPUTS < b->outputs;                                                                       \
            if (two)                                                                                                   \
                dot_two(R, sum + o * R, b, b->w + o * b->w_row);                                                       \
            else                                                                                                       \
                dot_one(R, sum + o * R, b, b->w + o * b->w_row);                                                       \
            o += two ? 2 * OUTPUTS : OUTPUTS;                                                                          \
        }                                                                                                              \
        _tile_release();                                                                                               \
    }
DOT(1)
DOT(2)
DOT(4)
DOT(8)

const struct few_form *CPU_ENTRY(few_amx)(void) {
    static const struct few_form form = {.element_bytes = sizeof(uint16_t),
                                         .unit = UNIT,
                                         .outputs = OUTPUTS,
                                         .cols = COLS,
                                         .pack = pack,
                                         .dot = {[DTYPE_BF16] = {dot_1, dot_2, dot_4, dot_8}},
                                         .factor = {[DTYPE_BF16] = 1}};
    return &form;
}

#else

const struct few_form *CPU_ENTRY(few_amx)(void) {
    return NULL;
}

#endif
