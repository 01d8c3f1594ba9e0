/* Formats: sizes by shape, the error of an op for an unknown format, and the counts for grouped formats. */
#include "device/device.h"

#include "expect.h"

#include <stdlib.h>

static void sizes_follow_format_and_shape(void **state) {
    (void)state;
    static const struct {
        dtype type;
        int64_t cols;
        size_t row, scales;
    } cases[] = {
        {DTYPE_F32, 7, 28, 0}, {DTYPE_BF16, 7, 14, 0},  {DTYPE_F16, 7, 14, 0},   {DTYPE_I64, 3, 24, 0},
        {DTYPE_U8, 5, 5, 0},   {DTYPE_INT8, 32, 32, 2}, {DTYPE_INT8, 33, 33, 4}, {DTYPE_INT4, 32, 16, 2},
        {DTYPE_INT4, 7, 4, 2}, {DTYPE_INT4, 65, 33, 6}, {DTYPE_INT4, 0, 0, 0},   {DTYPE_F32, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        view v = {(void *)1024, 5, cases[i].cols, cases[i].type, cases[i].scales ? (void *)4096 : NULL};
        assert_int_equal(dtype_row_bytes(v.type, v.cols), cases[i].row);
        assert_int_equal(dtype_row_scale_bytes(v.type, v.cols), cases[i].scales);
        assert_int_equal(view_bytes(v), 5 * cases[i].row);
        assert_int_equal(view_scale_bytes(v), 5 * cases[i].scales);
        view some = view_rows(v, 2, 3);
        assert_int_equal((uintptr_t)some.data, 1024 + 2 * cases[i].row);
        assert_int_equal((uintptr_t)some.scales, v.scales ? 4096 + 2 * cases[i].scales : 0);
        assert_int_equal(some.rows, 3);
    }
    assert_int_equal(dtype_element_bytes(DTYPE_INT8), 0);
    assert_int_equal(dtype_element_bytes(DTYPE_INT4), 0);
    view part = view_elements((view){(void *)1024, 4, 6, DTYPE_BF16}, 5, 7);
    assert_int_equal((uintptr_t)part.data, 1024 + 10);
    assert_true(part.rows == 1 && part.cols == 7);
}

static void lists_read_as_english(void **state) {
    (void)state;
    char list[64];
    dtype_list(DTYPE_BIT(DTYPE_F32), list, sizeof list);
    assert_string_equal(list, "float32");
    dtype_list(DTYPE_FLOATS, list, sizeof list);
    assert_string_equal(list, "float32, bfloat16 or float16");
    dtype_list(DTYPE_GROUPED, list, 8);
    assert_string_equal(list, "int8 or");
    dtype_list(0, list, sizeof list);
    assert_string_equal(list, "");
}

/* ---------------------------------------------------------------- ops that do not know a format */

static char memory[4096]; /* operands that must not be read */

static view of(dtype type) {
    return (view){memory, 2, 32, type, DTYPE_BIT(type) & DTYPE_GROUPED ? memory + 2048 : NULL};
}

#define REFUSED(op, operand, set, ...)                                                                                 \
    do {                                                                                                               \
        struct op_##op arguments = __VA_ARGS__;                                                                        \
        snprintf(part, sizeof part, "%s %s, only %s", known, operand, set);                                            \
        FAILS(DEVICE_RUN(d, op, &arguments), LCKV_ERROR_UNSUPPORTED, part);                                            \
    } while (0)

/* `set`: what the device knows as the weight of a product. */
static void expect_refused_weights(device *d, dtype type, const char *set) {
    view f32 = of(DTYPE_F32), bad = of(type);
    char known[64], part[160];
    snprintf(known, sizeof known, "does not know the format %s of its", dtype_name(type));
    REFUSED(embed, "table", set, {.table = bad});
    REFUSED(linear, "weight", set, {.x = f32, .weight = bad, .y = f32});
    REFUSED(linear_cross_entropy, "weight", set, {.weight = bad});
    REFUSED(project, "part[1].weight", set, {.norm = f32, .part = {{.weight = f32}, {.weight = bad}}});
    REFUSED(linear_add, "product.weight", set, {.product = {.weight = bad}});
    REFUSED(heads, "project.part[2].weight", set,
            {.project.part = {{.weight = f32}, {.weight = f32}, {.weight = bad}}});
}

static void expect_refused(device *d, dtype type) {
    view f32 = of(DTYPE_F32), bad = of(type);
    char known[64], part[160];
    snprintf(known, sizeof known, "does not know the format %s of its", dtype_name(type));
    static const char floats[] = "float32, bfloat16 or float16", trained[] = "float32 or bfloat16";
    REFUSED(rms_norm, "weight", floats, {.weight = bad});
    REFUSED(cast, "src", floats, {.src = bad, .dst = f32});
    REFUSED(cast, "dst", floats, {.src = f32, .dst = bad});
    REFUSED(accumulate, "src", floats, {.src = bad, .dst = f32});
    REFUSED(linear, "bias", floats, {.x = f32, .weight = f32, .bias = bad, .y = f32});
    REFUSED(attention, "past.k", trained, {.past = {.k = bad, .v = f32}});
    REFUSED(adamw, "master", trained, {.master = bad});
    REFUSED(fill_normal, "dst", floats, {.dst = bad});
    REFUSED(project, "norm", floats, {.norm = bad});
    REFUSED(heads, "project.part[1].bias", floats, {.project = {.part = {{.weight = f32}, {.bias = bad}}}});
    REFUSED(rope_append, "pages_v", trained, {.pages_k = f32, .pages_v = bad});
}

static void an_op_refuses_a_format_that_it_does_not_know(void **state) {
    (void)state;
    device *d;
    OK(device_open("cpu", 1, &d));
    expect_refused(d, DTYPE_INT8);
    expect_refused(d, DTYPE_INT4);
    expect_refused(d, DTYPE_I32);
    expect_refused_weights(d, DTYPE_I32, "float32, bfloat16, float16, int8 or int4");
    d->formats = (struct device_formats){0};
    expect_refused_weights(d, DTYPE_INT8, "float32, bfloat16 or float16");
    expect_refused_weights(d, DTYPE_INT4, "float32, bfloat16 or float16");
    device_close(d);
}

/* A device lists the formats that an entry accepts; other operands are rejected as before. */
static void a_device_may_know_more_formats(void **state) {
    (void)state;
    device *d;
    OK(device_open("cpu", 1, &d));
    struct op_linear a = {.weight = of(DTYPE_INT8)};
    d->formats.linear = DTYPE_BIT(DTYPE_INT8);
    OK(device_check_formats(d, DEVICE_linear, d->formats.linear, &a));
    a.weight = of(DTYPE_INT4);
    FAILS(device_check_formats(d, DEVICE_linear, d->formats.linear, &a), LCKV_ERROR_UNSUPPORTED,
          "only float32, bfloat16, float16 or int8");
    device_close(d);
}

/* ---------------------------------------------------------------- counting */

static void the_counting_device_charges_grouped_formats(void **state) {
    (void)state;
    device *d;
    OK(device_open("count", 0, &d));
    view x = {memory, 3, 70, DTYPE_BF16}, y = {memory, 3, 9, DTYPE_BF16};
    struct op_linear a = {.x = x, .weight = {memory, 9, 70, DTYPE_INT4, memory}, .y = y};
    OK(DEVICE_RUN(d, linear, &a));
    assert_true(d->counts.bytes == 3 * 70 * 2 + 9 * (35 + 3 * 2) + 3 * 9 * 2);
    assert_true(d->counts.flops == 2.0 * 3 * 70 * 9);
    d->counts.bytes = 0;
    view ids = {memory, 4, 1, DTYPE_I32}, out = {memory, 4, 70, DTYPE_F32};
    struct op_embed e = {.ids = ids, .table = {memory, 1000, 70, DTYPE_INT8, memory}, .out = out};
    OK(DEVICE_RUN(d, embed, &e)); /* the rows that are read, with scales */
    assert_true(d->counts.bytes == 4 * 4 + 4 * (70 + 3 * 2) + 4 * 70 * 4);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_format_and_shape),
        cmocka_unit_test(lists_read_as_english),
        cmocka_unit_test(an_op_refuses_a_format_that_it_does_not_know),
        cmocka_unit_test(a_device_may_know_more_formats),
        cmocka_unit_test(the_counting_device_charges_grouped_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
