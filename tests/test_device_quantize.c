/* Quantizing rows: known answers, error bounds, and values that are rejected. */
#include "base/rng.h"
#include "device/cpu/cpu.h"
#include "device/half.h"
#include "device/quantize.h"

#include "expect.h"

#include <math.h>

enum { ROWS = 7, MOST_COLS = 200 };

static const dtype TYPES[] = {DTYPE_INT8, DTYPE_INT4};

typedef struct quantized {
    uint8_t data[ROWS * MOST_COLS];
    uint16_t scales[ROWS * (MOST_COLS / DTYPE_GROUP + 1)];
    float values[ROWS * MOST_COLS];
} quantized;

static void quantize(dtype type, int64_t rows, int64_t cols, const float *from, quantized *q, int threads) {
    memset(q, 0x55, sizeof *q);
    OK(quantize_rows(type, rows, cols, from, q->data, q->scales, threads));
    dequantize_rows(type, rows, cols, q->data, q->scales, q->values, threads);
}

static void fill(float *values, int64_t count, uint64_t seed, float deviation) {
    for (int64_t i = 0; i < count; i += 2) {
        double pair[2];
        rng_normal2(seed, 0, (uint64_t)i, pair);
        values[i] = deviation * (float)pair[0];
        if (i + 1 < count) values[i + 1] = deviation * (float)pair[1];
    }
}

/* ---------------------------------------------------------------- known answers */

/* 127 is the largest magnitude, so that the scale is 1 and integers are the values, rounded to even. */
static void int8_by_hand(void **state) {
    (void)state;
    float row[34] = {127, -127, 0, 1, 2.5f, 3.5f, -2.5f, 0.4f, [32] = -0.5f, [33] = 0.25f};
    static const int8_t expected[8] = {127, -127, 0, 1, 2, 4, -2, 0};
    quantized q;
    quantize(DTYPE_INT8, 1, 34, row, &q, 1);
    assert_memory_equal(q.data, expected, sizeof expected);
    assert_int_equal(q.scales[0], 0x3c00);
    assert_int_equal((int8_t)q.data[32], -127);
    assert_int_equal((int8_t)q.data[33], 63); /* 0.25 / (0.5 / 127) is 63.5, and the scale is a little larger */
    assert_true(float_of_f16(q.scales[1]) >= 0.5f / 127 && float_of_f16(q.scales[1]) < 0.5f / 127 * 1.001f);
}

/* Integers times a scale are found exactly: with -8 the scale has the sign of the values' own, with +8 the other
 * one. The even column is in the low half. */
static void int4_by_hand(void **state) {
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        float row[32];
        quantized q;
        for (int i = 0; i < 32; i++) row[i] = (float)(sign * ((i % 16) - 8)) * 0.25f;
        quantize(DTYPE_INT4, 1, 32, row, &q, 1);
        assert_true(float_of_f16(q.scales[0]) == 0.25f * (float)sign);
        for (int i = 0; i < 16; i++) assert_int_equal(q.data[i], ((2 * i % 16) ^ 8) | ((2 * i % 16 + 1) ^ 8) << 4);
        for (int i = 0; i < 32; i++) assert_true(q.values[i] == row[i]);
    }
}

static void zeros_stay_zeros(void **state) {
    (void)state;
    static const float row[65];
    quantized q;
    for (int t = 0; t < 2; t++) {
        quantize(TYPES[t], 1, 65, row, &q, 1);
        for (int i = 0; i < 65; i++) assert_true(q.values[i] == 0);
        for (int i = 0; i < 3; i++) assert_int_equal(q.scales[i], 0);
    }
}

/* ---------------------------------------------------------------- bounds */

/* |w - scale q| <= scale / 2 for int8, with scale at most 1.001 / 127 of the largest magnitude where it is a normal
 * f16, and one step of 2^-24 more below. f32 arithmetic adds 2^-22 of the value. */
static void expect_half_a_scale(const float *row, int64_t cols, const quantized *q, int64_t r) {
    int64_t groups = (cols + DTYPE_GROUP - 1) / DTYPE_GROUP;
    for (int64_t i = 0; i < cols; i++) {
        float largest = 0, scale = float_of_f16(q->scales[r * groups + i / DTYPE_GROUP]);
        int64_t first = i / DTYPE_GROUP * DTYPE_GROUP;
        for (int64_t k = first; k < cols && k < first + DTYPE_GROUP; k++) largest = fmaxf(largest, fabsf(row[k]));
        float error = fabsf(row[i] - q->values[r * cols + i]);
        if (!(error <= scale * 0.5f + fabsf(row[i]) * 0x1p-22f))
            fail_msg("row %lld, column %lld: error %g, scale %g", (long long)r, (long long)i, (double)error,
                     (double)scale);
        assert_true(scale <= largest / 127 * 1.001f + 0x1p-24f);
    }
}

static void int8_errors_are_bounded(void **state) {
    (void)state;
    static const float deviations[] = {1, 0.02f, 1e-4f, 1e-6f, 1e4f};
    static const int64_t widths[] = {1, 31, 32, 33, 64, 100, 200};
    float values[ROWS * MOST_COLS];
    quantized q;
    for (size_t d = 0; d < sizeof deviations / sizeof *deviations; d++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            fill(values, ROWS * widths[w], d + 1, deviations[d]);
            quantize(DTYPE_INT8, ROWS, widths[w], values, &q, 2);
            for (int64_t r = 0; r < ROWS; r++) expect_half_a_scale(values + r * widths[w], widths[w], &q, r);
        }
}

/* Squared error with the scale that maps the extreme value to -8, in f32, as in llama.cpp's q4_0. */
static double plain_error(const float *row, int64_t count) {
    double error = 0;
    for (int64_t first = 0; first < count; first += DTYPE_GROUP) {
        float extreme = 0;
        int64_t end = first + DTYPE_GROUP < count ? first + DTYPE_GROUP : count;
        for (int64_t i = first; i < end; i++)
            if (fabsf(row[i]) > fabsf(extreme)) extreme = row[i];
        float scale = extreme / -8;
        for (int64_t i = first; i < end; i++) {
            float q = scale != 0 ? fminf(fmaxf(rintf(row[i] / scale), -8), 7) : 0;
            error += ((double)row[i] - (double)(q * scale)) * ((double)row[i] - (double)(q * scale));
        }
    }
    return error;
}

/* The search is at least as good as the plain scale in each group of normal values, up to the rounding of the scale
 * to f16 (2^-11, at most 8 steps: 2^-8 of a step), and 8 % better over all. */
static void the_search_lowers_the_error_of_int4(void **state) {
    (void)state;
    static const int64_t widths[] = {32, 45, 64, 200};
    float values[ROWS * MOST_COLS];
    quantized q;
    double sum = 0, plain_sum = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        int64_t cols = widths[seed % 4];
        fill(values, ROWS * cols, seed, seed % 3 ? 0.02f : 3);
        quantize(DTYPE_INT4, ROWS, cols, values, &q, 1);
        for (int64_t r = 0; r < ROWS; r++) {
            double error = 0, square = 0, plain = plain_error(values + r * cols, cols);
            for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
                double e = (double)values[i] - (double)q.values[i];
                error += e * e;
                square += (double)values[i] * (double)values[i];
            }
            assert_true(error <= plain * 1.01);
            sum += error / square;
            plain_sum += plain / square;
        }
    }
    assert_true(sum < 0.92 * plain_sum);
}

/* ---------------------------------------------------------------- widening on the CPU */

/* Every f16 is the scale of a group with every integer. */
static void expect_widened(device *d, dtype from, dtype to, int64_t cols) {
    enum { ALL = 1 << 16, MOST = 70 };
    size_t bytes = dtype_row_bytes(from, cols), groups = dtype_row_scale_bytes(from, cols) / 2;
    uint8_t *data = malloc(ALL * bytes);
    uint16_t *scales = malloc(ALL * groups * sizeof *scales);
    char *got = malloc(ALL * dtype_row_bytes(to, cols)), want[MOST * sizeof(float)];
    assert_true(data && scales && got);
    for (size_t i = 0; i < ALL * bytes; i++) data[i] = (uint8_t)(i % 251 * 83);
    for (size_t i = 0; i < ALL * groups; i++) scales[i] = (uint16_t)i;
    struct op_cast cast = {{data, ALL, cols, from, scales}, {got, ALL, cols, to}};
    OK(d->ops.cast(d, &cast));
    for (int64_t r = 0; r < ALL; r++) {
        float values[MOST];
        size_t row = dtype_row_bytes(to, cols);
        dequantize_rows(from, 1, cols, data + (size_t)r * bytes, scales + (size_t)r * groups, values, 1);
        cpu_narrow(want, to, values, cols);
        if (memcmp(got + (size_t)r * row, want, row)) fail_msg("%s, row %d", dtype_name(from), (int)r);
    }
    free(data);
    free(scales);
    free(got);
}

static void every_level_widens_the_same(void **state) {
    (void)state;
    for (int level = CPU_BASE; level <= (int)cpu_level_here(); level++) {
        device d;
        OK(cpu_open_level(&d, 2, (enum cpu_level)level));
        for (int t = 0; t < 2; t++) {
            expect_widened(&d, TYPES[t], DTYPE_BF16, 70);
            expect_widened(&d, TYPES[t], DTYPE_BF16, 32);
            expect_widened(&d, TYPES[t], DTYPE_F32, 33);
        }
        d.memory.close(&d);
    }
}

/* ---------------------------------------------------------------- the rest */

static void threads_do_not_change_bits(void **state) {
    (void)state;
    float values[ROWS * MOST_COLS];
    quantized one, three;
    fill(values, ROWS * 77, 3, 0.1f);
    for (int t = 0; t < 2; t++) {
        quantize(TYPES[t], ROWS, 77, values, &one, 1);
        quantize(TYPES[t], ROWS, 77, values, &three, 3);
        assert_memory_equal(&one, &three, sizeof one);
    }
}

/* A row does not depend on the rows beside it, and the last columns not on what follows in memory. */
static void rows_are_separate(void **state) {
    (void)state;
    float values[ROWS * MOST_COLS];
    quantized all, one;
    fill(values, ROWS * 45, 5, 1);
    for (int t = 0; t < 2; t++) {
        quantize(TYPES[t], ROWS, 45, values, &all, 1);
        for (int64_t r = 0; r < ROWS; r++) {
            quantize(TYPES[t], 1, 45, values + r * 45, &one, 1);
            size_t bytes = dtype_row_bytes(TYPES[t], 45);
            assert_memory_equal(all.data + (size_t)r * bytes, one.data, bytes);
            assert_memory_equal(all.scales + r * 2, one.scales, 4);
        }
    }
}

static void values_without_a_scale_are_rejected(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f, -8.4e6f};
    float values[64] = {1};
    quantized q;
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            values[40] = bad[i];
            FAILS(quantize_rows(TYPES[t], 2, 32, values, q.data, q.scales, 1), LCKV_ERROR_ARGUMENT,
                  "expected finite values of at most");
        }
        values[40] = t ? 2.6e5f : 8.3e6f; /* the largest */
        OK(quantize_rows(TYPES[t], 2, 32, values, q.data, q.scales, 1));
        dequantize_rows(TYPES[t], 2, 32, q.data, q.scales, q.values, 1);
        assert_true(fabsf(q.values[40] - values[40]) < 0.01f * values[40]);
    }
    OK(quantize_rows(DTYPE_INT8, 0, 32, values, q.data, q.scales, 1));
    OK(quantize_rows(DTYPE_INT8, 3, 0, values, q.data, q.scales, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_by_hand),
        cmocka_unit_test(int4_by_hand),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(int8_errors_are_bounded),
        cmocka_unit_test(the_search_lowers_the_error_of_int4),
        cmocka_unit_test(every_level_widens_the_same),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(rows_are_separate),
        cmocka_unit_test(values_without_a_scale_are_rejected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
