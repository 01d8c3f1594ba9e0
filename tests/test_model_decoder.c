/* Properties of the forward pass that hold for every model: plan and exact form agree, as do batched and single
 * sequences, cached and uncached passes, wanted rows and all rows; memory is released. */
#include "fixture.h"

static const char *const layouts[] = {
    "0_1_2_3", "3_3_3_3",   "0_2_2_3",     "0_0_2_2",   "1_2_0_1",
    "2_3_1_0", "0s_1s_1_1", "0s_1s_2s_3s", "1_2s_0_3s", "3s_3s_3s_3s",
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts, LENGTH = 9 };

static void open_layout(fixture *f, const char *layout, int m, int b, const char *more) {
    char extra[256];
    snprintf(extra, sizeof extra,
             ",\"layer_types\":\"%s\",\"sliding_window\":4,\"forward_passes\":%d,\"backward_passes\":%d%s", layout, m,
             b, more);
    fixture_open(f, 4, extra, DTYPE_F32, false);
}

/* Token i is exact from iteration i + 1 on, so that with LENGTH = m + b tokens the plan is the exact form. */
static void plan_equals_sequential(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUTS; i++) {
        for (int nodiag = 0; nodiag < 2; nodiag++) {
            fixture f;
            float planned[LENGTH * FIXTURE_VOCAB], exact[LENGTH * FIXTURE_VOCAB];
            int32_t ids[LENGTH];
            int id;
            open_layout(&f, layouts[i], LENGTH - 1, 1, nodiag ? ",\"force_nodiag\":true" : "");
            fixture_ids(ids, LENGTH, 1);
            batch_entry e = {.ids = ids, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
            fixture_run(&f, &e, 1, planned);
            kv_cache_options o = kv_cache_defaults();
            o.page_rows = 2;
            fixture_cache(&f, o);
            OK(kv_cache_add(f.cache, &id));
            fixture_tokens(&f, id, ids, LENGTH, exact);
            assert_close(planned, exact, LENGTH * FIXTURE_VOCAB, CLOSE, layouts[i]);
            fixture_close(&f);
        }
    }
}

/* Two prompts and a decoding token in one call, and each in a separate call. */
static void together_as_alone(void **state) {
    (void)state;
    static const int past[] = {3, 0, 7}, rows[] = {6, 5, 1};
    for (int i = 0; i < LAYOUTS; i++) {
        float alone[3][MANY * FIXTURE_VOCAB], together[MANY * FIXTURE_VOCAB];
        int32_t ids[3][MANY];
        fixture f;
        kv_cache_options o = kv_cache_defaults();
        o.sequences = 6;
        o.page_rows = 2;
        open_layout(&f, layouts[i], 2, 1, "");
        fixture_cache(&f, o);
        batch_entry entries[3];
        for (int s = 0; s < 3; s++) {
            int a, b;
            fixture_ids(ids[s], MANY, (uint64_t)s);
            OK(kv_cache_add(f.cache, &a));
            OK(kv_cache_add(f.cache, &b));
            fixture_tokens(&f, a, ids[s], past[s], alone[s]);
            fixture_tokens(&f, b, ids[s], past[s], alone[s]);
            entries[s] = (batch_entry){
                .ids = ids[s] + past[s], .rows = rows[s], .wanted = rows[s], .cache_id = a, .planned = rows[s] > 1};
            fixture_run(&f, &entries[s], 1, alone[s]);
            entries[s].cache_id = b;
        }
        fixture_run(&f, entries, 3, together);
        for (int s = 0, at = 0; s < 3; at += rows[s++])
            assert_close(together + at * FIXTURE_VOCAB, alone[s], rows[s] * FIXTURE_VOCAB, CLOSE, layouts[i]);
        fixture_close(&f);
    }
}

/* Above the last keys and values only wanted rows are computed, with the same results. */
static void last_row_alone(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUTS; i++) {
        float all[LENGTH * FIXTURE_VOCAB], last[FIXTURE_VOCAB];
        int32_t ids[LENGTH];
        fixture f;
        open_layout(&f, layouts[i], 2, 2, "");
        fixture_ids(ids, LENGTH, 1);
        batch_entry e = {.ids = ids, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
        fixture_run(&f, &e, 1, all);
        e.wanted = 1;
        fixture_run(&f, &e, 1, last);
        assert_close(last, all + (LENGTH - 1) * FIXTURE_VOCAB, FIXTURE_VOCAB, CLOSE, layouts[i]);
        e.wanted = 0;
        fixture_run(&f, &e, 1, NULL);
        fixture_close(&f);
    }
}

/* A long stream through the pages of a window: only rows that no query can see are evicted. */
static void window_pages_forget_nothing_needed(void **state) {
    (void)state;
    fixture f;
    float whole[MANY * FIXTURE_VOCAB], stream[MANY * FIXTURE_VOCAB];
    int32_t ids[MANY];
    int id;
    open_layout(&f, "0s_1s_2s_3s", 1, 1, "");
    fixture_ids(ids, MANY, 1);
    batch_entry e = {.ids = ids, .rows = MANY, .wanted = MANY, .cache_id = -1, .planned = true};
    fixture_run(&f, &e, 1, whole);
    kv_cache_options o = kv_cache_defaults();
    o.page_rows = 2;
    o.max_rows = 8; /* far fewer than the stream has */
    fixture_cache(&f, o);
    OK(kv_cache_add(f.cache, &id));
    for (int at = 0, rows = 1; at < MANY; at += rows, rows = rows % 3 + 1) {
        if (rows > MANY - at) rows = MANY - at;
        e = (batch_entry){.ids = ids + at, .rows = rows, .wanted = rows, .cache_id = id, .planned = true};
        fixture_run(&f, &e, 1, stream + at * FIXTURE_VOCAB);
    }
    assert_close(stream, whole, MANY * FIXTURE_VOCAB, CLOSE, "window");
    fixture_close(&f);
}

/* Until its window is full, a sink cache equals an ordinary one; then it continues in constant memory. */
static void sinks_begin_as_full(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        float full[MANY * FIXTURE_VOCAB], sinks[MANY * FIXTURE_VOCAB];
        int32_t ids[MANY];
        int id;
        kv_cache_options o = kv_cache_defaults();
        o.page_rows = 4;
        open_layout(&f, layouts[i], 2, 2, "");
        fixture_ids(ids, MANY, 1);
        fixture_cache(&f, o);
        OK(kv_cache_add(f.cache, &id));
        fixture_tokens(&f, id, ids, MANY, full);
        o.window_length = 11;
        o.sinks = 5;
        fixture_cache(&f, o);
        OK(kv_cache_add(f.cache, &id));
        fixture_tokens(&f, id, ids, MANY, sinks);
        size_t bytes = kv_cache_bytes(f.cache);
        assert_close(sinks, full, 12 * FIXTURE_VOCAB, CLOSE, layouts[i]); /* eleven cached tokens and the new one */
        fixture_tokens(&f, id, ids, MANY, sinks);
        assert_int_equal(bytes, kv_cache_bytes(f.cache));
        assert_int_equal(kv_cache_position(f.cache, id), 2 * MANY);
        fixture_close(&f);
    }
}

/* Truncating and continuing with other tokens gives the same result as those tokens alone. */
static void truncated_as_never_run(void **state) {
    (void)state;
    fixture f;
    float other[8 * FIXTURE_VOCAB], again[8 * FIXTURE_VOCAB];
    int32_t ids[MANY];
    int id, fresh;
    kv_cache_options o = kv_cache_defaults();
    o.sequences = 2;
    o.page_rows = 4;
    open_layout(&f, "0_2_2_3", 2, 2, "");
    fixture_ids(ids, MANY, 1);
    fixture_cache(&f, o);
    OK(kv_cache_add(f.cache, &id));
    OK(kv_cache_add(f.cache, &fresh));
    fixture_tokens(&f, id, ids, 5, other);
    float *scratch = malloc(MANY * FIXTURE_VOCAB * sizeof *scratch);
    fixture_tokens(&f, id, ids + 20, 30, scratch);
    free(scratch);
    OK(kv_cache_truncate(f.cache, id, 5));
    fixture_tokens(&f, id, ids + 5, 3, again);
    fixture_tokens(&f, fresh, ids, 8, other);
    assert_memory_equal(again, other + 5 * FIXTURE_VOCAB, 3 * FIXTURE_VOCAB * sizeof(float));
    fixture_close(&f);
}

/* A full cache returns an error and does not change; existing sequences continue as before. */
static void full_cache_refuses(void **state) {
    (void)state;
    fixture f;
    float before[FIXTURE_VOCAB], after[FIXTURE_VOCAB], logits[MANY * FIXTURE_VOCAB];
    int32_t ids[MANY];
    int id, twin;
    kv_cache_options o = kv_cache_defaults();
    o.sequences = 2;
    o.page_rows = 4;
    o.max_rows = 16;
    open_layout(&f, "0_2_2_3", 2, 2, "");
    fixture_ids(ids, MANY, 1);
    fixture_cache(&f, o);
    OK(kv_cache_add(f.cache, &id));
    OK(kv_cache_add(f.cache, &twin));
    fixture_tokens(&f, id, ids, 4, logits);
    fixture_tokens(&f, twin, ids, 4, logits);
    fixture_tokens(&f, twin, ids + 4, 1, before);
    batch_entry e = {.ids = ids, .rows = MANY, .wanted = 1, .cache_id = id, .planned = true};
    assert_int_equal(batch_fill(f.batch, f.cache, &e, 1), LCKV_ERROR_MEMORY);
    assert_non_null(strstr(lckv_last_error(), "full"));
    fixture_tokens(&f, id, ids + 4, 1, after);
    assert_memory_equal(before, after, sizeof before);
    kv_cache_remove(f.cache, twin);
    OK(kv_cache_add(f.cache, &twin));
    fixture_tokens(&f, twin, ids, 16, logits); /* the pages of the removed sequence are reused */
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_equals_sequential), cmocka_unit_test(together_as_alone),
        cmocka_unit_test(last_row_alone),         cmocka_unit_test(window_pages_forget_nothing_needed),
        cmocka_unit_test(sinks_begin_as_full),    cmocka_unit_test(truncated_as_never_run),
        cmocka_unit_test(full_cache_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
