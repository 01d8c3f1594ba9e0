/* layer_types, slots, loops and the plan: every well-formed string is a valid map, every other one is rejected with the
 * bad entry quoted, and the plan equals that of a plain implementation of the definition. */
#include "base/rng.h"
#include "config/layer_map.h"
#include "expect.h"

enum { MAX_LAYERS = 24 };

/* ---------------------------------------------------------------- meaning of strings */

static void a_map_by_hand(void **state) {
    (void)state;
    layer_map m;
    OK(layer_map_parse("2_0s_3_3_1", 5, 8, false, &m));
    const int source[] = {2, 0, 3, 3, 1}, slot_of_layer[] = {0, 1, 2, 3, -1}, slot_of_source[] = {2, 0, 3, 3, 1};
    const bool windowed[] = {0, 1, 0, 0, 0}, up[] = {1, 0, 1, 0, 0};
    assert_int_equal(m.slots, 4);
    assert_int_equal(m.loops, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(m.layer[i].k_source, source[i]);
        assert_int_equal(m.layer[i].slot, slot_of_layer[i]);
        assert_int_equal(m.layer[i].k_slot, slot_of_source[i]);
        assert_int_equal(m.layer[i].window, windowed[i] ? 8 : 0);
        assert_int_equal(m.layer[i].looks_up, up[i]);
        assert_int_equal(m.layer[i].strict, up[i]);
    }
    layer_map_free(&m);
    OK(layer_map_parse("0_0", 2, 0, true, &m)); /* force_nodiag */
    assert_true(m.layer[0].strict && m.layer[1].strict);
    assert_false(m.layer[0].looks_up || m.layer[1].looks_up);
    assert_int_equal(m.loops, 0);
    layer_map_free(&m);
    layer_map_free(&m);
}

/* An entry K:V has two sources. If one slot of a reader is windowed, so is the other. */
static void separate_sources(void **state) {
    (void)state;
    layer_map m;
    char *text;
    OK(layer_map_parse("0s_0:1s_1:3_3", 4, 8, false, &m));
    assert_int_equal(m.slots, 3);
    assert_int_equal(m.loops, 1);
    assert_true(m.layer[1].k_source == 0 && m.layer[1].v_source == 1 && !m.layer[1].looks_up);
    assert_true(m.layer[2].k_slot == 1 && m.layer[2].v_slot == 2 && m.layer[2].looks_up && m.layer[2].strict);
    assert_true(layer_map_stores_keys(&m, 0) && layer_map_stores_values(&m, 0));
    assert_true(layer_map_stores_keys(&m, 1) && layer_map_stores_values(&m, 1));
    assert_false(layer_map_stores_keys(&m, 2) || layer_map_stores_values(&m, 2));
    for (int s = 0; s < 3; s++) assert_false(m.slot[s].windowed); /* layer 2 has no window and reads slot 1 */
    OK(layer_map_format(&m, &text));
    assert_string_equal(text, "0s_0:1s_1:3_3");
    free(text);
    layer_map_free(&m);
    OK(layer_map_parse("0_0:1_2s_2:3s", 4, 8, false, &m));
    assert_true(m.slot[0].keys && m.slot[0].values && !m.slot[1].keys && m.slot[1].values && !m.slot[3].keys);
    assert_true(!m.slot[0].windowed && !m.slot[1].windowed && m.slot[2].windowed && m.slot[3].windowed);
    assert_int_equal(m.slot[3].max_window, 8);
    layer_map_free(&m);
}

static void plain_maps(void **state) {
    (void)state;
    const int64_t windows[] = {0, 5, 0};
    layer_map m, copy;
    char *text;
    OK(layer_map_plain(windows, 3, false, &m));
    OK(layer_map_copy(&m, &copy));
    layer_map_free(&m);
    OK(layer_map_format(&copy, &text));
    assert_string_equal(text, "0_1s_2");
    assert_int_equal(copy.slots, 3);
    assert_int_equal(copy.slot[2].layer, 2);
    free(text);
    layer_map_free(&copy);
    FAILS(layer_map_plain(NULL, 0, false, &m), LCKV_ERROR_ARGUMENT, "layers");
    FAILS(layer_map_plain(NULL, LAYER_MAP_MAX_LAYERS + 1, false, &m), LCKV_ERROR_ARGUMENT, "4097");
}

static void wrong_strings(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "layer_types is ''"},
        {"0_1_2", "'0_1_2' has 3 entries for 4 layers"},
        {"0", "'0' has 1 entry for 4 layers"},
        {"0_1_2_3_3", "entry 4 is '3', but there are only 4 layers"},
        {"0_1_2_3_", "entry 4 is ''"},
        {"0_1_4_3", "entry 2 is '4', but the layers are 0 to 3"},
        {"0_1_-1_3", "entry 2 is '-1'"},
        {"0_1_+1_3", "entry 2 is '+1'"},
        {"0_1t_2_3", "entry 1 is '1t'"},
        {"0_1ss_2_3", "entry 1 is '1ss'"},
        {"0_s_2_3", "entry 1 is 's'"},
        {"0__2_3", "entry 1 is ''"},
        {"_0_1_2", "entry 0 is ''"},
        {"0_ 1_2_3", "entry 1 is ' 1'"},
        {"0,1,2,3", "entry 0 is '0,1,2,3'"},
        {"0_1_2_3s", "entry 3 is '3s', a sliding window, but sliding_window is not given"},
        {"0_1234567890123456789012345678901234567890_2_3",
         "entry 1 is '1234567890123456789012345678901234567890', but the layers are 0 to 3"},
        {"0_4294967297_2_3", "entry 1 is '4294967297'"},
        {"0_18446744073709551617_2_3", "entry 1 is '18446744073709551617'"},
        {"0_1_2_\xc3\xa4", "entry 3 is '\xc3\xa4'"},
        {"full_attention", "entry 0 is 'full'"},
        {"0_0:_2_3", "entry 1 is '0:'"},
        {"0_:1_2_3", "entry 1 is ':1'"},
        {"0_0:1:2_2_3", "entry 1 is '0:1:2'"},
        {"0_0:4_2_3", "entry 1 is '0:4', but the layers are 0 to 3"},
        {"0_0s:1_2_3", "entry 1 is '0s:1'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        layer_map m;
        memset(&m, 1, sizeof m);
        FAILS(layer_map_parse(cases[i].text, 4, 0, false, &m), LCKV_ERROR_FORMAT, cases[i].part);
        assert_null(m.layer);
    }
    char longest[100001];
    memset(longest, '7', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    layer_map m;
    FAILS(layer_map_parse(longest, 4, 0, false, &m), LCKV_ERROR_FORMAT, "77777...'");
}

/* ---------------------------------------------------------------- properties of random maps */

static int draw(uint64_t seed, uint64_t *counter, int below) {
    return (int)(rng_uniform(seed, 0, (*counter)++) * below);
}

/* A random string for `layers` layers. Sources are mostly near, so that loops of all sizes occur. */
static void random_layer_types(uint64_t seed, int *layers, int *source, bool *windowed, char *text) {
    uint64_t counter = 0;
    *layers = 1 + draw(seed, &counter, MAX_LAYERS);
    int reach = 1 + draw(seed, &counter, *layers);
    *text = 0;
    for (int i = 0; i < *layers; i++) {
        int from = i - reach + 1 + draw(seed, &counter, 2 * reach - 1);
        source[i] = from < 0 ? 0 : from >= *layers ? *layers - 1 : from;
        windowed[i] = draw(seed, &counter, 4) == 0;
        text += sprintf(text, "%s%d%s", i ? "_" : "", source[i], windowed[i] ? "s" : "");
    }
}

static int largest(const int *source, int first, int end) {
    int largest = -1;
    for (int i = first; i < end; i++) largest = source[i] > largest ? source[i] : largest;
    return largest;
}

/* A plain implementation of the plan's definition (reference/decoder.py). */
static int expected_plan(const int *source, int n, int m, int b, plan_step *steps) {
    int count = 0, i = 0;
    while (i < n) {
        int top = i;
        if (source[i] > i) {
            top = source[i];
            while (largest(source, i, top + 1) > top) top = largest(source, i, top + 1);
            for (int iteration = 0; iteration < m; iteration++)
                steps[count++] = (plan_step){i, top, false, false, true, iteration};
            for (int iteration = 0; iteration < b - 1; iteration++)
                steps[count++] = (plan_step){i, top, true, false, true, m + iteration};
            steps[count++] = (plan_step){i, top, true, true, true, m + b - 1};
        } else {
            while (top + 1 < n && source[top + 1] <= top + 1) top++;
            steps[count++] = (plan_step){i, top, true, true, false, 0};
        }
        i = top + 1;
    }
    return count;
}

static void assert_same_plan(const plan *found, const plan_step *expected, int count) {
    assert_int_equal(found->count, count);
    for (int i = 0; i < count; i++) {
        const plan_step *f = &found->steps[i], *e = &expected[i];
        assert_int_equal(f->first, e->first);
        assert_int_equal(f->last, e->last);
        assert_int_equal(f->with_grad, e->with_grad);
        assert_int_equal(f->commit, e->commit);
        assert_int_equal(f->in_loop, e->in_loop);
        assert_int_equal(f->iteration, e->iteration);
    }
}

/* The first layer of a loop looks up; nothing inside reads above it; no shorter range has this property; there are no
 * lookups outside loops. Committing steps cover all layers in order. */
static void assert_loops_closed(const layer_map *map, const int *source, const plan *p) {
    int next = 0, loops = 0;
    for (int s = 0; s < p->count; s++) {
        const plan_step *step = &p->steps[s];
        if (!step->commit) continue;
        assert_int_equal(step->first, next);
        next = step->last + 1;
        loops += step->in_loop;
        assert_int_equal(map->layer[step->first].looks_up, step->in_loop);
        for (int i = step->first; i <= step->last; i++) {
            assert_true(map->layer[i].k_source <= step->last);
            if (!step->in_loop) assert_true(map->layer[i].k_source <= i);
        }
        for (int last = step->first; step->in_loop && last < step->last; last++)
            assert_true(largest(source, step->first, last + 1) > last);
    }
    assert_int_equal(next, map->layers);
    assert_int_equal(loops, map->loops);
}

static void assert_slots(const layer_map *map) {
    int owners = 0;
    for (int i = 0; i < map->layers; i++) {
        bool read = false;
        for (int j = 0; j < map->layers; j++) read = read || map->layer[j].k_source == i;
        assert_int_equal(map->layer[i].slot, read ? owners : -1);
        if (read) assert_int_equal(map->slot[owners++].layer, i);
        assert_int_equal(map->slot[map->layer[i].k_slot].layer, map->layer[i].k_source);
        assert_int_equal(map->layer[i].strict, map->layer[i].k_source > i);
    }
    assert_int_equal(owners, map->slots);
}

static void random_maps(void **state) {
    (void)state;
    static plan_step expected[MAX_LAYERS * 16];
    for (uint64_t seed = 0; seed < 3000; seed++) {
        int layers, source[MAX_LAYERS];
        bool windowed[MAX_LAYERS];
        char text[MAX_LAYERS * 5], *again;
        random_layer_types(seed, &layers, source, windowed, text);
        layer_map map;
        plan p;
        int m = (int)(seed % 5), b = 1 + (int)(seed % 3);
        OK(layer_map_parse(text, layers, 8, false, &map));
        OK(plan_make(&map, m, b, &p));
        assert_same_plan(&p, expected, expected_plan(source, layers, m, b, expected));
        assert_loops_closed(&map, source, &p);
        assert_slots(&map);
        for (int i = 0; i < layers; i++) assert_int_equal(map.layer[i].window, windowed[i] ? 8 : 0);
        OK(layer_map_format(&map, &again));
        assert_string_equal(again, text);
        free(again);
        plan_free(&p);
        layer_map_free(&map);
    }
}

/* ---------------------------------------------------------------- plans by hand, and limits */

static void plans_by_hand(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int layers, loops, ranges[6]; /* first and last of each range */
    } cases[] = {
        {"0_6_6_6_6_6_6_7", 8, 1, {0, 0, 1, 6, 7, 7}},
        {"3_5_1_3_2_0", 6, 1, {0, 5}},
        {"2_2_2_5_5_5", 6, 2, {0, 2, 3, 5}},
        {"0_0_2_2", 4, 0, {0, 3}},
        {"1_2_0", 3, 1, {0, 2}},
        {"0_1_6_6_6_6_6_0", 8, 1, {0, 1, 2, 6, 7, 7}},
        {"1_1_1_2", 4, 1, {0, 1, 2, 3}}, /* a layer that reads a slot below is not part of a loop */
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        layer_map map;
        plan p;
        OK(layer_map_parse(cases[c].text, cases[c].layers, 0, false, &map));
        assert_int_equal(map.loops, cases[c].loops);
        OK(plan_make(&map, 0, 1, &p));
        for (int i = 0; i < p.count; i++) {
            assert_int_equal(p.steps[i].first, cases[c].ranges[2 * i]);
            assert_int_equal(p.steps[i].last, cases[c].ranges[2 * i + 1]);
        }
        assert_int_equal(p.steps[p.count - 1].last, cases[c].layers - 1);
        plan_free(&p);
        layer_map_free(&map);
    }
}

static void plan_bounds(void **state) {
    (void)state;
    layer_map map;
    plan p;
    OK(layer_map_parse("1_1", 2, 0, false, &map));
    FAILS(plan_make(&map, -1, 1, &p), LCKV_ERROR_ARGUMENT, "forward_passes");
    assert_null(p.steps);
    FAILS(plan_make(&map, 7, 0, &p), LCKV_ERROR_ARGUMENT, "7 and 0");
    FAILS(plan_make(&map, INT32_MAX, INT32_MAX, &p), LCKV_ERROR_ARGUMENT, "backward_passes");
    FAILS(plan_make(&map, PLAN_MAX_STEPS, 1, &p), LCKV_ERROR_ARGUMENT, "steps");
    OK(plan_make(&map, 60000, 1, &p));
    assert_int_equal(p.count, 60001);
    plan_free(&p);
    plan_free(&p);
    layer_map_free(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_by_hand), cmocka_unit_test(separate_sources), cmocka_unit_test(plain_maps),
        cmocka_unit_test(wrong_strings), cmocka_unit_test(random_maps),      cmocka_unit_test(plans_by_hand),
        cmocka_unit_test(plan_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
