/* The formats of GGUF files, against the values of the Python package gguf (gguf/make_formats.py), bit for bit. */
#include "gguf/gguf_write.h"

#include "expect.h"

#include <math.h>

#define FIXTURE SOURCE_DIR "/tests/gguf/formats.gguf"

static const gguf_tensor *tensor(const gguf_file *f, const char *prefix, const char *name) {
    char whole[64];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    const gguf_tensor *t = gguf_find_tensor(f, whole);
    if (!t) fail_msg("no tensor %s", whole);
    return t;
}

static void expect_decoded(const gguf_file *f, const char *name) {
    char pair[64];
    snprintf(pair, sizeof pair, "%s.f32", name);
    const gguf_tensor *t = tensor(f, "", name), *expected = tensor(f, "", pair);
    float *values = malloc((size_t)t->elements * sizeof *values);
    assert_non_null(values);
    assert_int_equal(t->elements, expected->elements);
    gguf_decode(t->format, t->data, t->elements, values);
    for (int64_t i = 0; i < t->elements; i++)
        if (memcmp(&values[i], expected->data + (size_t)i * sizeof *values, sizeof *values) != 0)
            fail_msg("%s: value %d is %.9g", name, (int)i, values[i]);
    free(values);
}

static void values_are_those_of_the_package(void **state) {
    static const char *const names[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
    gguf_file f;
    (void)state;
    OK(gguf_open(FIXTURE, &f));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) expect_decoded(&f, names[i]);
    gguf_close(&f);
}

static void blocks_are_those_of_the_package(void **state) {
    static const char *const names[] = {"F16", "BF16", "Q8_0", "Q4_0"};
    gguf_file f;
    float values[256];
    unsigned char blocks[sizeof values];
    (void)state;
    OK(gguf_open(FIXTURE, &f));
    const gguf_tensor *given = tensor(&f, "encode.", "f32");
    assert_int_equal(given->bytes, sizeof values);
    memcpy(values, given->data, sizeof values);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const gguf_tensor *t = tensor(&f, "encode.", names[i]);
        OK(gguf_encode(t->format, values, 256, blocks));
        for (size_t b = 0; b < t->bytes; b++)
            if (blocks[b] != t->data[b]) fail_msg("%s: byte %d is %d", names[i], (int)b, blocks[b]);
    }
    gguf_close(&f);
}

/* What a scale or a value of 16 bits cannot hold would become infinite, and NaN an arbitrary integer. */
static void values_that_a_format_cannot_hold_are_refused(void **state) {
    static const struct {
        uint32_t format;
        float largest;
    } cases[] = {{GGUF_F16, 65504}, {GGUF_Q8_0, 127 * 65504.0F}, {GGUF_Q4_0, 8 * 65504.0F}};
    static const float others[] = {NAN, INFINITY, -INFINITY};
    unsigned char blocks[64];
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const gguf_format *f = gguf_format_of(cases[c].format);
        float values[32] = {0}, back[32];
        values[7] = -cases[c].largest;
        OK(gguf_encode(f, values, 32, blocks));
        gguf_decode(f, blocks, 32, back);
        assert_true(back[7] == -cases[c].largest);
        values[7] *= 1.001F;
        FAILS(gguf_encode(f, values, 32, blocks), LCKV_ERROR_ARGUMENT, f->name);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            values[7] = others[i];
            FAILS(gguf_encode(f, values, 32, blocks), LCKV_ERROR_ARGUMENT, "expected finite values");
        }
    }
}

/* The reciprocal of their scale would be infinite. */
static void the_smallest_values_become_zero(void **state) {
    const gguf_format *f = gguf_format_of(GGUF_Q8_0);
    float values[32] = {0, 1e-40F, -1e-40F}, back[32];
    unsigned char block[34];
    (void)state;
    OK(gguf_encode(f, values, 32, block));
    gguf_decode(f, block, 32, back);
    for (int i = 0; i < 32; i++) assert_true(back[i] == 0);
    for (int i = 2; i < 34; i++) assert_int_equal(block[i], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_the_package),
        cmocka_unit_test(blocks_are_those_of_the_package),
        cmocka_unit_test(values_that_a_format_cannot_hold_are_refused),
        cmocka_unit_test(the_smallest_values_become_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
