/* Fuzz target: config.json, then overrides ("k=v,k=v"). An accepted config can be copied, written, read again, drawn
 * and planned. */
#include "fuzz.h"

#include "config/layer_picture.h"
#include "config/model_size.h"

#include <stdlib.h>

enum { MAX_DRAWN_LAYERS = 64, MAX_DRAWN_PASSES = 100, MAX_FREQUENCIES = 2 * 2048 };

static void draw(const model_config *c) {
    char *text;
    json_t *tree;
    if (c->layers > MAX_DRAWN_LAYERS || c->forward_passes + c->backward_passes > MAX_DRAWN_PASSES) return;
    FUZZ_CHECK(layer_picture_text(c, &text) >= 0);
    free(text);
    FUZZ_CHECK(layer_picture_svg(c, &text) >= 0);
    free(text);
    FUZZ_CHECK(plan_text(c, &text) >= 0);
    free(text);
    FUZZ_CHECK(plan_json(c, &tree) >= 0);
    json_decref(tree);
}

static void use(const model_config *c) {
    static double frequencies[MAX_FREQUENCIES];
    model_config *copy, *again;
    json_t *tree;
    FUZZ_CHECK(c->heads % c->kv_heads == 0 && c->head_dim % 2 == 0);
    FUZZ_CHECK(model_parameters(c) > 0 && model_kv_per_token(c).values > 0);
    config_inverse_frequencies(c, frequencies);
    FUZZ_CHECK(config_copy(c, &copy) >= 0);
    FUZZ_CHECK(config_to_json(copy, &tree) >= 0);
    FUZZ_CHECK(config_from_json(tree, "again", NULL, &again) >= 0); /* what lckv writes, it can read */
    FUZZ_CHECK(again->layers == c->layers && again->map.slots == c->map.slots);
    json_decref(tree);
    draw(again);
    config_free(copy);
    config_free(again);
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size), text = fuzz_next(&rest);
    char *overrides = fuzz_string(rest);
    json_t *tree;
    model_config *c = NULL;
    int status = json_parse(text.data, text.size, "config.json", &tree);
    if (status >= 0) status = config_from_json(tree, "config.json", overrides, &c);
    json_decref(tree);
    status = fuzz_end(status, !c);
    if (c) use(c);
    config_free(c);
    free(overrides);
    return status;
}
