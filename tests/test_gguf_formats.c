/* The formats of GGUF files, against the values of the Python package gguf (gguf/make_formats.py), bit for bit. */
#include "gguf/gguf_write.h"

#include "expect.h"

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
        gguf_encode(t->format, values, 256, blocks);
        for (size_t b = 0; b < t->bytes; b++)
            if (blocks[b] != t->data[b]) fail_msg("%s: byte %d is %d", names[i], (int)b, blocks[b]);
    }
    gguf_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_the_package),
        cmocka_unit_test(blocks_are_those_of_the_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
