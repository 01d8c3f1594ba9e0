/* Grouped formats in host memory, see quantize.h. */
#include "device/quantize.h"

#include "device/half.h"

#include <math.h>

#define F16_INFINITY 0x7c00

/* ---------------------------------------------------------------- a group */

/* Rounds to nearest even. Without a call, so that loops vectorize; |x| is below 2^22. */
static inline float nearest(float x) {
    const float shift = 0x1.8p23f;
    return (x + shift) - shift;
}

static float largest_magnitude(const float *x) {
    float most = 0;
    for (int i = 0; i < DTYPE_GROUP; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* The smallest f16 that is at least x; infinity if there is none. */
static uint16_t f16_at_least(float x) {
    uint16_t h = f16_of_float(x);
    return float_of_f16(h) < x ? (uint16_t)(h + 1) : h;
}

/* q[i] = x[i] / scale, rounded and limited; 0 with the scale 0. */
static void round_group(const float *x, float scale, float least, float most, int8_t *q) {
    float inverse = scale != 0 ? 1 / scale : 0;
    for (int i = 0; i < DTYPE_GROUP; i++) {
        float steps = x[i] * inverse;
        steps = steps < least ? least : steps > most ? most : steps;
        q[i] = (int8_t)nearest(steps);
    }
}

static uint16_t int8_scale(const float *x) {
    return f16_at_least(largest_magnitude(x) / 127);
}

enum { LANES = 8 }; /* sums, which the compiler keeps in vectors */

static float sum_lanes(const float lane[LANES]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* With q = round(x * inverse), the scale that minimizes the squared error is x q / q q. It lowers the error from x x by
 * the returned gain. */
static float int4_gain(const float *x, float inverse, float *scale) {
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < DTYPE_GROUP; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float steps = x[i + j] * inverse;
            steps = steps < -8 ? -8 : steps > 7 ? 7 : steps;
            float q = nearest(steps);
            xq[j] += x[i + j] * q;
            qq[j] += q * q;
        }
    float product = sum_lanes(xq), square = sum_lanes(qq);
    *scale = square > 0 ? product / square : 0;
    return product * *scale;
}

/* Nine scales are within 1 % of the error of a fine search on normal, Laplace and t-distributed values, and 11 % below
 * that of the scale which maps the largest value to -8. */
static uint16_t int4_scale(const float *x) {
    float extreme = 0, best = 0, best_scale = 0;
    for (int i = 0; i < DTYPE_GROUP; i++) extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    if (fabsf(extreme) < 0x1p-100f) return 0; /* far below half of the smallest scale */
    for (int i = 0; i < 9; i++) {
        float scale, gain = int4_gain(x, (-9.5f + 0.5f * (float)i) / extreme, &scale);
        if (gain <= best) continue;
        best = gain;
        best_scale = scale;
    }
    return f16_of_float(best_scale);
}

/* ---------------------------------------------------------------- a row */

static void pack_int4(const int8_t *q, int count, uint8_t *out) {
    for (int i = 0; i < count; i += 2) out[i / 2] = (uint8_t)((q[i] & 15) | (q[i + 1] & 15) << 4);
}

/* The last group of a row may have fewer columns. The others are zeros, which add nothing to any sum. */
static void quantize_row(dtype type, int64_t cols, const float *from, uint8_t *data, uint16_t *scales) {
    for (int64_t first = 0; first < cols; first += DTYPE_GROUP) {
        float x[DTYPE_GROUP] = {0};
        int8_t q[DTYPE_GROUP];
        int count = cols - first < DTYPE_GROUP ? (int)(cols - first) : DTYPE_GROUP;
        memcpy(x, from + first, (size_t)count * sizeof *x);
        uint16_t scale = type == DTYPE_INT8 ? int8_scale(x) : int4_scale(x);
        scales[first / DTYPE_GROUP] = scale;
        round_group(x, float_of_f16(scale), type == DTYPE_INT8 ? -127 : -8, type == DTYPE_INT8 ? 127 : 7, q);
        if (type == DTYPE_INT8)
            memcpy(data + first, q, (size_t)count);
        else
            pack_int4(q, count, data + first / 2);
    }
}

static int int4_at(const uint8_t *row, int64_t i) {
    int nibble = row[i / 2] >> (i % 2 * 4) & 15;
    return nibble - (nibble & 8) * 2;
}

static void dequantize_row(dtype type, int64_t cols, const uint8_t *data, const uint16_t *scales, float *to) {
    for (int64_t first = 0; first < cols; first += DTYPE_GROUP) {
        float scale = float_of_f16(scales[first / DTYPE_GROUP]);
        int64_t end = cols - first < DTYPE_GROUP ? cols : first + DTYPE_GROUP;
        for (int64_t i = first; i < end; i++)
            to[i] = scale * (float)(type == DTYPE_INT8 ? (int8_t)data[i] : int4_at(data, i));
    }
}

/* ---------------------------------------------------------------- matrices */

/* The first value that has no integer and scale: its position, or `count`. */
static int64_t find_unfit(const float *from, int64_t count, float limit, int threads) {
    int64_t found = count;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(min : found)
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(from[i]) <= limit) && i < found) found = i;
    return found;
}

int quantize_rows(dtype type, int64_t rows, int64_t cols, const float *from, void *data, void *scales, int threads) {
    float limit = float_of_f16(F16_INFINITY - 1) * (type == DTYPE_INT8 ? 127 : 4);
    int64_t unfit = find_unfit(from, rows * cols, limit, threads);
    REQUIRE(unfit == rows * cols, LCKV_ERROR_ARGUMENT, "expected finite values of at most %g for %s, found %g",
            (double)limit, dtype_name(type), (double)from[unfit]);
    size_t bytes = dtype_row_bytes(type, cols), scale_bytes = dtype_row_scale_bytes(type, cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        quantize_row(type, cols, from + r * cols, (uint8_t *)data + (size_t)r * bytes,
                     (uint16_t *)(void *)((char *)scales + (size_t)r * scale_bytes));
    return LCKV_OK;
}

void dequantize_rows(dtype type, int64_t rows, int64_t cols, const void *data, const void *scales, float *to,
                     int threads) {
    size_t bytes = dtype_row_bytes(type, cols), scale_bytes = dtype_row_scale_bytes(type, cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        dequantize_row(type, cols, (const uint8_t *)data + (size_t)r * bytes,
                       (const uint16_t *)(const void *)((const char *)scales + (size_t)r * scale_bytes), to + r * cols);
}
