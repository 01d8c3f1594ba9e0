/* Sequences of the KV cache that share pages: each behaves as if it had its own copy, whichever writes first; pages are
 * counted, reserved, cached and released. */
#include "fixture.h"

static const char *const layouts[] = {"0_1_2_3", "0_2_2_3", "3_3_3_3", "0s_1s_1_1", "1_2s_0_3s", "3s_3s_3s_3s"};
enum { LAYOUTS = sizeof layouts / sizeof *layouts, T = 11, MORE = 14, PAGE_ROWS = 4 };

static void open_layout(fixture *f, const char *layout, bool sinks, kv_cache_options o) {
    char extra[256];
    snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"sliding_window\":5", layout);
    fixture_open(f, 4, extra, DTYPE_F32, false);
    o.page_rows = PAGE_ROWS;
    if (sinks) o.window_length = 9, o.sinks = 6; /* one and a half pages of sinks */
    fixture_cache(f, o);
}

static int64_t used(const fixture *f) {
    return kv_cache_used(f->cache).used_pages;
}

/* The slots use only their bytes; plain attention would use all pages of the sequence in every layer. */
static void assert_slots_and_plain(const fixture *f, int64_t tokens) {
    const model_config *c = f->model->config;
    kv_cache_usage u = kv_cache_used(f->cache);
    int64_t pages = (tokens + PAGE_ROWS - 1) / PAGE_ROWS, slots = 0;
    int64_t head = kv_cache_type(f->cache) == DTYPE_KV_INT8 ? c->head_dim + 4 : 4 * c->head_dim;
    for (int i = 0; i < c->map.slots; i++) slots += kv_cache_used_by_slot(f->cache, i);
    assert_int_equal(slots, u.used_bytes);
    assert_int_equal(u.plain_bytes, 2 * pages * PAGE_ROWS * c->layers * c->kv_heads * head);
}

/* Copies at each position, and copies of copies, written to in turn. */
static void copies_go_their_own_ways(void **state) {
    (void)state;
    static float expected[3][(T + MORE) * FIXTURE_VOCAB], got[FIXTURE_VOCAB];
    for (int layout = 0; layout < LAYOUTS; layout++)
        for (int way = 0; way < 4; way++)
            for (int at = 1; at < T; at += 3) {
                bool sinks = way & 1, int8 = way & 2;
                fixture f;
                kv_cache_options o = kv_cache_defaults();
                int32_t ids[3][T + MORE];
                int id[3];
                o.sequences = 3;
                if (int8) o.type = DTYPE_KV_INT8;
                open_layout(&f, layouts[layout], sinks, o);
                for (int i = 0; i < 3; i++) {
                    fixture_ids(ids[i], T + MORE, (uint64_t)i);
                    memcpy(ids[i], ids[0], (size_t)at * sizeof(int32_t)); /* all have the same prefix */
                    OK(kv_cache_add(f.cache, &id[i]));
                    fixture_tokens(&f, id[i], ids[i], at + MORE, expected[i]);
                }
                for (int i = 0; i < 3; i++) kv_cache_remove(f.cache, id[i]);
                assert_int_equal(used(&f), 0);
                for (int i = 0; i < 3; i++) OK(kv_cache_add(f.cache, &id[i]));
                fixture_tokens(&f, id[0], ids[0], at, expected[0]);
                int64_t one = used(&f);
                assert_slots_and_plain(&f, at);
                OK(kv_cache_copy(f.cache, id[0], id[1]));
                OK(kv_cache_copy(f.cache, id[1], id[2]));
                assert_int_equal(used(&f), one);
                assert_int_equal(kv_cache_used(f.cache).shared_pages, one);
                for (int t = at; t < at + MORE; t++)
                    for (int turn = 0; turn < 3; turn++) {
                        int i = (turn + t) % 3;
                        fixture_tokens(&f, id[i], ids[i] + t, 1, got);
                        assert_close(got, expected[i] + t * FIXTURE_VOCAB, FIXTURE_VOCAB, CLOSE, layouts[layout]);
                    }
                for (int i = 0; i < 3; i++) kv_cache_remove(f.cache, id[i]);
                assert_int_equal(used(&f), 0);
                fixture_close(&f);
            }
}

typedef struct keeper {
    kv_cache *cache;
    int kept[2], count;
} keeper;

static bool drop_last(void *user) {
    keeper *k = user;
    if (!k->count) return false;
    kv_cache_remove(k->cache, k->kept[--k->count]);
    return true;
}

/* A cache of eight pages in one group: snapshots share their pages, and are evicted when pages are needed. */
static void kept_rows_give_way(void **state) {
    (void)state;
    fixture f;
    kv_cache_options o = kv_cache_defaults();
    kv_cache_need need;
    int32_t ids[40];
    float logits[40 * FIXTURE_VOCAB], again[FIXTURE_VOCAB];
    int id, other;
    o.sequences = 2;
    o.snapshots = 2;
    o.page_rows = PAGE_ROWS;
    fixture_open(&f, 2, "", DTYPE_F32, false);
    OK(kv_cache_bytes_for(f.model, &o, 1, 24, &need)); /* 6 pages and two more */
    o.max_bytes = (size_t)need.reserved;
    fixture_cache(&f, o);
    keeper k = {.cache = f.cache};
    kv_cache_set_evict(f.cache, drop_last, &k);
    assert_int_equal(kv_cache_used(f.cache).pages, 8);
    assert_true(kv_cache_can_hold(f.cache, 1, 24, 0) && !kv_cache_can_hold(f.cache, 1, 28, 0));
    assert_true(kv_cache_can_hold(f.cache, 2, 16, 16) && !kv_cache_can_hold(f.cache, 2, 16, 0));
    fixture_ids(ids, 40, 2);
    OK(kv_cache_add(f.cache, &id));
    assert_true(kv_cache_reserve(f.cache, id, 16, 0));
    fixture_tokens(&f, id, ids, 11, logits);
    OK(kv_cache_snapshot(f.cache, id, 8, &k.kept[k.count++]));
    OK(kv_cache_snapshot(f.cache, id, 11, &k.kept[k.count++]));
    assert_int_equal(kv_cache_snapshot(f.cache, id, 11, &other), LCKV_ERROR_MEMORY);
    OK(kv_cache_add(f.cache, &other));
    assert_false(kv_cache_reserve(f.cache, other, 16, 0)); /* six are reserved */
    assert_true(kv_cache_reserve(f.cache, other, 1, 0));
    kv_cache_remove(f.cache, other);
    kv_cache_remove(f.cache, id);
    assert_int_equal(used(&f), 0);
    assert_int_equal(kv_cache_used(f.cache).snapshot_pages, 3);
    OK(kv_cache_add(f.cache, &id));
    OK(kv_cache_copy(f.cache, k.kept[0], id));
    assert_int_equal(kv_cache_position(f.cache, id), 8);
    assert_int_equal(used(&f), 2);
    assert_true(kv_cache_reserve(f.cache, id, 24, 0)); /* with only the pages of the snapshots */
    fixture_tokens(&f, id, ids + 8, 1, again);
    assert_close(again, logits + 8 * FIXTURE_VOCAB, FIXTURE_VOCAB, CLOSE, "behind kept rows");
    fixture_tokens(&f, id, ids + 9, 15, logits + 9 * FIXTURE_VOCAB);
    assert_int_equal(k.count, 2); /* six pages, and the third of the second snapshot */
    fixture_tokens(&f, id, ids + 24, 8, logits + 24 * FIXTURE_VOCAB);
    assert_int_equal(k.count, 1); /* it was evicted */
    while (drop_last(&k)) continue;
    kv_cache_remove(f.cache, id);
    assert_int_equal(used(&f), 0);
    assert_int_equal(kv_cache_used(f.cache).snapshot_pages, 0);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_go_their_own_ways),
        cmocka_unit_test(kept_rows_give_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
