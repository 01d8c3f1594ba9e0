/* Pictures of layer maps: the text row by row, the SVG as well-formed XML, and the public functions. */
#include "base/rng.h"
#include "config/layer_picture.h"
#include "expect.h"

#define SIZES "\"hidden_size\":32,\"intermediate_size\":44,\"num_attention_heads\":4,\"vocab_size\":61"

static model_config *make(int layers, const char *layer_types, const char *overrides) {
    static char text[1 << 16];
    json_t *tree;
    model_config *c;
    snprintf(
        text, sizeof text,
        "{\"model_type\":\"lckv-llama\",\"num_hidden_layers\":%d,\"layer_types\":\"%s\",\"sliding_window\":8," SIZES
        "}",
        layers, layer_types);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", overrides, &c));
    json_decref(tree);
    return c;
}

static void assert_picture(int layers, const char *layer_types, const char *overrides, const char *expected) {
    model_config *c = make(layers, layer_types, overrides);
    char *text;
    OK(lckv_config_picture(c, LCKV_PICTURE_TEXT, &text));
    assert_string_equal(text, expected);
    lckv_free(text);
    config_free(c);
}

static void pictures_by_hand(void **state) {
    (void)state;
    assert_picture(4, "0_2_2_3", NULL,
                   "         ╭───────────╮\n"
                   "         │ layer 3   ├─■ slot 2\n"
                   " ↻ 7+2 ╭ │ layer 2   ├─■ slot 1 ─╮\n"
                   "       ╰ │ layer 1   │◁╌ slot 1 ╌╯\n"
                   "         │ layer 0   ├─■ slot 0\n"
                   "         ╰───────────╯\n"
                   "\n"
                   "  ■  owns a KV slot\n"
                   "  ◁╌ looks up: reads a layer above, earlier tokens only\n"
                   "  ↻  7 iterations without gradient, then 2 with\n");
    assert_picture(4, "0_1s_1s_0", NULL,
                   "  ╭───────────╮\n"
                   "  │ layer 3   │◀─ slot 0 ───╮\n"
                   "  │ layer 2 s │◀─ slot 1 ─╮ │\n"
                   "  │ layer 1 s ├─■ slot 1 ─╯ │\n"
                   "  │ layer 0   ├─■ slot 0 ───╯\n"
                   "  ╰───────────╯\n"
                   "\n"
                   "  ■  owns a KV slot\n"
                   "  ◀─ reads the KV of a layer below\n"
                   "  s  sliding window of 8 tokens\n");
    assert_picture(3, "1_2_0",
                   "forward_passes=10,backward_passes=1", /* an owner that reads another slot has two rows */
                   "          ╭───────────╮\n"
                   "        ╭ │ layer 2   ├─■ slot 2 ─────╮\n"
                   "        │ │           │◀─ slot 0 ─╮   │\n"
                   " ↻ 10+1 │ │ layer 1   ├─■ slot 1 ─┼─╮ │\n"
                   "        │ │           │◁╌ slot 2 ╌┼╌┼╌╯\n"
                   "        │ │ layer 0   ├─■ slot 0 ─╯ │\n"
                   "        ╰ │           │◁╌ slot 1 ╌╌╌╯\n"
                   "          ╰───────────╯\n"
                   "\n"
                   "  ■  owns a KV slot\n"
                   "  ◀─ reads the KV of a layer below\n"
                   "  ◁╌ looks up: reads a layer above, earlier tokens only\n"
                   "  ↻  10 iterations without gradient, then 1 with\n");
    assert_picture(1, "0", "force_nodiag=true",
                   "  ╭───────────╮\n"
                   "  │ layer 0   ├─■ slot 0\n"
                   "  ╰───────────╯\n"
                   "\n"
                   "  ■  owns a KV slot\n"
                   "  force_nodiag: no layer sees its own token\n");
}

/* Tags are balanced, attributes are quoted, and nothing is loaded from elsewhere. */
static void assert_well_formed(const char *svg) {
    char open[64][16];
    int depth = 0;
    for (const char *at = svg; (at = strchr(at, '<'));) {
        const char *end = strchr(at, '>');
        assert_non_null(end);
        char name[16] = {0};
        bool closes = at[1] == '/', empty = end[-1] == '/';
        sscanf(at + 1 + closes, "%15[a-z]", name);
        int quotes = 0;
        for (const char *c = at; c < end; c++) quotes += *c == '"';
        assert_int_equal(quotes % 2, 0);
        if (closes) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (!empty) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        at = end;
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(svg, "href"));
    assert_null(strstr(svg, "url("));
    assert_null(strstr(svg, "nan"));
}

static int occurrences(const char *text, const char *part) {
    int count = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) count++;
    return count;
}

static void svg_shows_the_map(void **state) {
    (void)state;
    model_config *c = make(8, "0_6_6_6_6_6_6s_7", NULL);
    char *svg;
    OK(lckv_config_picture(c, LCKV_PICTURE_SVG, &svg));
    assert_well_formed(svg);
    assert_int_equal(occurrences(svg, ">layer "), 8);
    assert_int_equal(occurrences(svg, ">slot "), 3);
    assert_int_equal(occurrences(svg, "class=\"read up\""), 5 + 1); /* five readers and the legend */
    assert_int_equal(occurrences(svg, ">window 8<"), 1);
    assert_int_equal(occurrences(svg, "class=\"loop\""), 1 + 1);
    assert_non_null(strstr(svg, ">8 layers, 3 KV slots, 1 loop<"));
    lckv_free(svg);
    config_free(c);
}

/* Both pictures exist for any map and contain every layer, also if there are too many lines to draw. */
static void random_pictures(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        int layers = 1 + (int)(rng_uniform(seed, 1, 0) * (seed % 10 ? 12 : 120));
        char types[1000], *at = types, *text;
        for (int i = 0; i < layers; i++)
            at += sprintf(at, "%s%d", i ? "_" : "", (int)(rng_uniform(seed, 2, (uint64_t)i) * layers));
        model_config *c = make(layers, types, NULL);
        OK(layer_picture_text(c, &text));
        assert_int_equal(occurrences(text, "│ layer "), layers);
        assert_int_equal(occurrences(text, "─■ slot"), c->map.slots);
        free(text);
        OK(layer_picture_svg(c, &text));
        assert_well_formed(text);
        assert_int_equal(occurrences(text, ">layer "), layers);
        free(text);
        config_free(c);
    }
}

/* A layer with two sources has a row or a curve for each. */
static void separate_sources(void **state) {
    (void)state;
    model_config *c = make(3, "0_2:0_2", NULL);
    char *text;
    OK(layer_picture_text(c, &text));
    assert_int_equal(occurrences(text, "│ layer "), 3);
    assert_non_null(strstr(text, "◁╌ slot 1 K"));
    assert_non_null(strstr(text, "◀─ slot 0 V"));
    free(text);
    OK(layer_picture_svg(c, &text));
    assert_well_formed(text);
    assert_int_equal(occurrences(text, ">K</text>"), 1);
    assert_int_equal(occurrences(text, ">V</text>"), 1);
    free(text);
    config_free(c);
}

static void plans(void **state) {
    (void)state;
    model_config *c = make(4, "0_2_2_3", "forward_passes=1,backward_passes=2");
    char *text;
    OK(lckv_config_plan_text(c, &text));
    assert_string_equal(text, "layer 0: once\n"
                              "layers 1 to 2: 1 iteration without gradient, then 2 iterations with gradient\n"
                              "layer 3: once\n");
    lckv_free(text);
    OK(lckv_config_plan_json(c, &text));
    assert_string_equal(text, "[{\"first\": 0, \"last\": 0, \"with_grad\": true, \"commit\": true}, "
                              "{\"first\": 1, \"last\": 2, \"with_grad\": false, \"commit\": false}, "
                              "{\"first\": 1, \"last\": 2, \"with_grad\": true, \"commit\": false}, "
                              "{\"first\": 1, \"last\": 2, \"with_grad\": true, \"commit\": true}, "
                              "{\"first\": 3, \"last\": 3, \"with_grad\": true, \"commit\": true}]");
    lckv_free(text);
    config_free(c);
}

static void public_functions(void **state) {
    (void)state;
    lckv_config *c;
    char *text;
    OK(lckv_config_load(SOURCE_DIR "/configs/lckv-50m.json", "torch_dtype=bfloat16", &c));
    lckv_config_info info = lckv_config_describe(c);
    assert_string_equal(info.model_type, "lckv-llama");
    assert_int_equal(info.kv_slots, 3);
    assert_int_equal(info.loops, 1);
    assert_int_equal(info.dtype, LCKV_BFLOAT16);
    assert_int_equal(lckv_config_kv_bytes_per_token(c, LCKV_FLOAT32), 3 * 2 * 4 * 64 * 4);
    assert_int_equal(lckv_config_kv_bytes_per_token(c, LCKV_FLOAT16), 3 * 2 * 4 * 64 * 2);
    assert_int_equal(lckv_config_kv_bytes_per_token_unshared(c, LCKV_BFLOAT16), 8 * 2 * 4 * 64 * 2);
    OK(lckv_config_layer_types(c, &text));
    assert_string_equal(text, "0_6_6_6_6_6_6_7");
    lckv_free(text);
    OK(lckv_config_json(c, &text));
    assert_non_null(strstr(text, "\"torch_dtype\": \"bfloat16\""));
    lckv_free(text);
    lckv_config_free(c);
    lckv_config_free(NULL);
    FAILS(lckv_config_load("/nonexistent.json", NULL, &c), LCKV_ERROR_FILE, "/nonexistent.json");
    assert_null(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_by_hand),
        cmocka_unit_test(svg_shows_the_map),
        cmocka_unit_test(random_pictures),
        cmocka_unit_test(separate_sources),
        cmocka_unit_test(plans),
        cmocka_unit_test(public_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
