/* Heads, KV heads and columns of the MLP that each of several ranks gets (model/ranks/rank_part.h). */
#include "model/ranks/rank_part.h"

#include "device/dtype.h"

#include "expect.h"

#include <stdio.h>
#include <string.h>

static model_config *config_of(int heads, int kv_heads, int width, int columns) {
    char text[512];
    json_t *tree;
    model_config *c;
    snprintf(text, sizeof text,
             "{\"model_type\":\"llama\",\"hidden_size\":16,\"vocab_size\":31,\"num_hidden_layers\":1,"
             "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,\"intermediate_size\":%d}",
             heads, kv_heads, width, columns);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

/* Every head, KV head and column belongs to some rank; rank 0 has the most; KV heads serve the queries of their rank.
 * */
static void check_division(const model_config *c, int count) {
    const layer_description *whole = &c->map.layer[0];
    int64_t heads = 0, columns = 0, kv = 0;
    int most = 0;
    for (int r = 0; r < count; r++) {
        model_config *part;
        OK(rank_part_config(c, r, count, &part));
        const layer_description *l = &part->map.layer[0];
        int group = whole->heads / whole->kv_heads;
        assert_int_equal(l->first_head, heads);
        assert_int_equal(l->first_intermediate, columns);
        assert_int_equal(l->first_kv_head, l->copies_kv ? kv - 1 : kv);
        assert_true(l->heads > 0 && l->kv_heads > 0 && l->intermediate_size > 0 && l->heads % l->kv_heads == 0);
        assert_int_equal(l->first_head / group, l->first_kv_head);
        assert_int_equal((l->first_head + l->heads - 1) / group, l->first_kv_head + l->kv_heads - 1);
        if (r == 0) most = l->heads;
        assert_true(l->heads <= most);
        heads += l->heads;
        columns += l->intermediate_size;
        kv += l->copies_kv ? 0 : l->kv_heads;
        config_free(part);
    }
    assert_int_equal(heads, whole->heads);
    assert_int_equal(kv, whole->kv_heads);
    assert_int_equal(columns, whole->intermediate_size);
}

static void test_division(void **state) {
    (void)state;
    static const int KV[] = {1, 2, 3, 4, 6};
    for (size_t i = 0; i < sizeof KV / sizeof *KV; i++) {
        for (int group = 1; group <= 4; group++) {
            model_config *part, *c = config_of(KV[i] * group, KV[i], 4, 20);
            for (int count = 1; count <= KV[i] * group && count <= 20; count++) check_division(c, count);
            if (KV[i] * group < 20)
                FAILS(rank_part_config(c, 0, KV[i] * group + 1, &part), LCKV_ERROR_ARGUMENT,
                      "attention heads: every rank needs one");
            config_free(c);
        }
    }
}

static void test_division_of_the_mlp(void **state) {
    (void)state;
    model_config *part, *c = config_of(64, 64, 4, 88);
    OK(rank_part_config(c, 1, 4, &part));
    assert_int_equal(part->map.layer[0].first_intermediate, 24); /* 11 units of 8: 3, 3, 3, 2 */
    assert_int_equal(part->map.layer[0].intermediate_size, 24);
    config_free(part);
    config_free(c);
    c = config_of(64, 64, 4, 20);
    FAILS(rank_part_config(c, 0, 32, &part), LCKV_ERROR_ARGUMENT,
          "the MLP of layer 0 has 20 columns: every rank needs one");
    config_free(c);
}

/* Heads and columns of all ranks begin with a group of columns. */
static void check_groups(const model_config *c, int count) {
    check_division(c, count);
    for (int r = 0; r < count; r++) {
        model_config *part;
        OK(rank_part_config(c, r, count, &part));
        const layer_description *l = &part->map.layer[0];
        assert_int_equal(l->first_head * l->head_dim % DTYPE_GROUP, 0);
        assert_int_equal(l->first_intermediate % DTYPE_GROUP, 0);
        config_free(part);
    }
}

/* `most`: ranks. The MLP always has enough columns. */
static void test_division_of_quantized_weights(void **state) {
    (void)state;
    static const struct {
        int heads, kv_heads, width, most;
    } cases[] = {{4, 4, 32, 4}, {6, 2, 64, 6}, {8, 4, 16, 4}, {8, 2, 16, 4}, {8, 8, 8, 2},
                 {12, 6, 8, 3}, {10, 5, 8, 3}, {6, 3, 48, 3}, {5, 5, 6, 1},  {6, 1, 24, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[128];
        model_config *part, *c = config_of(cases[i].heads, cases[i].kv_heads, cases[i].width, 250);
        c->weight_format = i % 2 ? WEIGHT_INT4 : WEIGHT_INT8;
        for (int count = 1; count <= cases[i].most; count++) check_groups(c, count);
        if (cases[i].most < cases[i].heads) {
            snprintf(message, sizeof message, "choose at most %d, or weight_dtype float", cases[i].most);
            FAILS(rank_part_config(c, 0, cases[i].most + 1, &part), LCKV_ERROR_ARGUMENT, message);
        }
        c->weight_format = WEIGHT_FLOAT;
        for (int count = 1; count <= cases[i].heads; count++) check_division(c, count);
        config_free(c);
    }
    model_config *part, *c = config_of(8, 8, 32, 100);
    c->weight_format = WEIGHT_INT8;
    FAILS(
        rank_part_config(c, 0, 5, &part), LCKV_ERROR_ARGUMENT,
        "down_proj of layer 0 has 100 columns: quantized weights (int8, int4) are divided at multiples of 32 columns");
    config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_division),
        cmocka_unit_test(test_division_of_quantized_weights),
        cmocka_unit_test(test_division_of_the_mlp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
