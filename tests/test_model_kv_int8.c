/* A KV cache in int8: what a query reads does not depend on how a prompt was split into calls, on the plan or the exact
 * form, or on whether there is a cache at all. Growth and types of the cache. */
#include "fixture.h"

static const char *const layouts[] = {
    "0_1_2_3", "3_3_3_3",   "0_2_2_3",     "0_0_2_2",   "1_2_0_1",
    "2_3_1_0", "0s_1s_1_1", "0s_1s_2s_3s", "1_2s_0_3s", "3s_3s_3s_3s",
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts, LENGTH = 12, ALL = LENGTH * FIXTURE_VOCAB };

/* The plan is the exact form for at most LENGTH tokens. */
static void open_layout_on(const char *name, fixture *f, const char *layout, const char *more) {
    char extra[256];
    snprintf(extra, sizeof extra,
             ",\"layer_types\":\"%s\",\"sliding_window\":4,\"forward_passes\":%d,\"backward_passes\":1%s", layout,
             LENGTH - 1, more);
    fixture_open_on(f, name, 4, extra, DTYPE_F32, false);
}

static void open_layout(fixture *f, const char *layout, const char *more) {
    open_layout_on("cpu", f, layout, more);
}

static int open_cache(fixture *f, dtype type) {
    int id;
    kv_cache_options o = kv_cache_defaults();
    o.page_rows = 2;
    o.type = type;
    fixture_cache(f, o);
    OK(kv_cache_add(f->cache, &id));
    return id;
}

/* Calls of at most `rows` tokens, by the plan if that is more than one. */
static void run_split(fixture *f, dtype type, const int32_t *ids, int rows, float *logits) {
    int id = open_cache(f, type);
    for (int at = 0; at < LENGTH; at += rows) {
        int count = LENGTH - at < rows ? LENGTH - at : rows;
        batch_entry e = {.ids = ids + at, .rows = count, .wanted = count, .cache_id = id, .planned = count > 1};
        fixture_run(f, &e, 1, logits + at * FIXTURE_VOCAB);
    }
}

static double mean_difference(const float *a, const float *b) {
    double sum = 0;
    for (int i = 0; i < ALL; i++) sum += fabs((double)a[i] - (double)b[i]);
    assert_true(isfinite(sum));
    return sum / ALL;
}

/* Logits in f32 differ by about 1e-6 between the forms. Such a difference moves one in some ten thousand stored values
 * to the next integer, a part of the error of int8 that is far below a tenth. Without rounding the rows of a call, the
 * forms would differ by that error. */
static void check_forms(const char *name) {
    static const int splits[] = {1, 3, 5, LENGTH};
    double worst = 0;
    for (int i = 0; i < LAYOUTS; i++)
        for (int nodiag = 0; nodiag < 2; nodiag++) {
            fixture f;
            float exact[ALL], unrounded[ALL], other[ALL];
            int32_t ids[LENGTH];
            fixture_ids(ids, LENGTH, 1);
            open_layout_on(name, &f, layouts[i], nodiag ? ",\"force_nodiag\":true" : "");
            run_split(&f, DTYPE_F32, ids, 1, unrounded);
            run_split(&f, DTYPE_KV_INT8, ids, 1, exact);
            double error = mean_difference(exact, unrounded);
            assert_true(error > 1e-4); /* it is rounded */
            for (size_t s = 1; s < sizeof splits / sizeof *splits; s++) {
                run_split(&f, DTYPE_KV_INT8, ids, splits[s], other);
                worst = fmax(worst, mean_difference(other, exact) / error);
            }
            kv_cache_free(f.cache);
            f.cache = NULL;
            f.batch->kv_type = DTYPE_KV_INT8;
            batch_entry e = {.ids = ids, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
            fixture_run(&f, &e, 1, other);
            worst = fmax(worst, mean_difference(other, exact) / error);
            if (worst > 0.1) fail_msg("%s: forms differ by %.3g of the error of int8", layouts[i], worst);
            fixture_close(&f);
        }
    printf("%s: forms differ by at most %.2g of the error of int8\n", name, worst);
}

static void forms_agree(void **state) {
    (void)state;
    check_forms("cpu");
    if (fixture_has_gpu()) check_forms("cuda");
}

/* bf16 pages of a model that computes in f32 are another type that rounds. */
static void bf16_pages_round_like_int8(void **state) {
    (void)state;
    fixture f;
    float unrounded[ALL], exact[ALL], other[ALL];
    int32_t ids[LENGTH];
    fixture_ids(ids, LENGTH, 3);
    open_layout(&f, layouts[2], "");
    run_split(&f, DTYPE_F32, ids, 1, unrounded);
    run_split(&f, DTYPE_BF16, ids, 1, exact);
    run_split(&f, DTYPE_BF16, ids, LENGTH, other);
    double error = mean_difference(exact, unrounded);
    assert_true(error > 1e-5 && mean_difference(other, exact) < 0.1 * error);
    fixture_close(&f);
}

/* A cache that grows from one page gives the bits of one that is large from the start, in every policy. */
static void growth_keeps_the_bits(void **state) {
    (void)state;
    enum { TOKENS = 40 };
    for (int i = 0; i < LAYOUTS; i++)
        for (int sinks = 0; sinks < 2; sinks++) {
            fixture f;
            static float logits[2][TOKENS * FIXTURE_VOCAB];
            int32_t ids[TOKENS];
            fixture_ids(ids, TOKENS, 2);
            open_layout(&f, layouts[i], "");
            for (int grows = 0; grows < 2; grows++) {
                kv_cache_options o = kv_cache_defaults();
                int id;
                o.page_rows = 4;
                o.rows = grows ? 1 : TOKENS;
                o.type = DTYPE_KV_INT8;
                if (sinks) o.window_length = 9, o.sinks = 6;
                fixture_cache(&f, o);
                OK(kv_cache_add(f.cache, &id));
                fixture_tokens(&f, id, ids, TOKENS, logits[grows]);
                if (grows && !sinks && !strchr(layouts[i], 's')) assert_true(kv_cache_generation(f.cache) > 1);
            }
            assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
            fixture_close(&f);
        }
}

/* A NaN in a stored head reaches the logits. */
static void a_nan_stays_a_nan(void **state) {
    (void)state;
    fixture f;
    float logits[LENGTH * FIXTURE_VOCAB];
    int32_t ids[LENGTH];
    fixture_ids(ids, LENGTH, 4);
    open_layout(&f, "0_1_2_3", "");
    int id = open_cache(&f, DTYPE_KV_INT8);
    fixture_tokens(&f, id, ids, 4, logits);
    struct kv_pages pages = kv_cache_pages(f.cache, 0, 0);
    assert_true(pages.k.type == DTYPE_KV_INT8 && pages.k.group == 6);
    ((float *)pages.k.scales)[0] = NAN;
    fixture_tokens(&f, id, ids + 4, 1, logits);
    for (int i = 0; i < FIXTURE_VOCAB; i++) assert_true(isnan(logits[i]));
    fixture_close(&f);
}

static void names_of_types(void **state) {
    (void)state;
    device *d;
    dtype type;
    static const struct {
        const char *name;
        dtype type;
    } known[] = {{NULL, DTYPE_BF16}, {"auto", DTYPE_BF16}, {"bfloat16", DTYPE_BF16}, {"int8", DTYPE_KV_INT8}};
    OK(device_open("cpu", 1, &d));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        OK(kv_cache_choose_type(d, DTYPE_BF16, known[i].name, &type));
        assert_int_equal(type, known[i].type);
    }
    OK(kv_cache_choose_type(d, DTYPE_F32, "bfloat16", &type));
    assert_int_equal(type, DTYPE_BF16);
    FAILS(kv_cache_choose_type(d, DTYPE_F32, "fp8", &type), LCKV_ERROR_ARGUMENT,
          "kv_dtype: expected auto, float32, bfloat16 or int8, found \"fp8\"");
    FAILS(kv_cache_choose_type(d, DTYPE_BF16, "float32", &type), LCKV_ERROR_ARGUMENT, "computed in bfloat16");
    d->formats = (struct device_formats){0}; /* as on a device without them */
    for (int i = 0; i < 3; i++) OK(kv_cache_choose_type(d, DTYPE_BF16, known[i].name, &type));
    FAILS(kv_cache_choose_type(d, DTYPE_F32, "int8", &type), LCKV_ERROR_UNSUPPORTED,
          "kv_dtype int8: device cpu stores keys and values in the type of computation only (float32)");
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_agree),           cmocka_unit_test(bf16_pages_round_like_int8),
        cmocka_unit_test(growth_keeps_the_bits), cmocka_unit_test(a_nan_stays_a_nan),
        cmocka_unit_test(names_of_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
