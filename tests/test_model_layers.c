/* Layers as descriptions: separate sources of keys and values, slots of different widths. Models with them against
 * models that compute the same in the ordinary way, and their plan, cache and gradients against the exact form. */
#include "fixture.h"

enum { LENGTH = 9, T = LENGTH * FIXTURE_VOCAB };

static void open_layout(fixture *f, const char *layout, int layers, dtype compute, bool with_tape) {
    char extra[256];
    snprintf(extra, sizeof extra,
             ",\"layer_types\":\"%s\",\"sliding_window\":4,\"forward_passes\":%d,\"backward_passes\":1", layout,
             LENGTH - 1);
    fixture_open(f, layers, extra, compute, with_tape);
}

static void plan_logits(fixture *f, float *out) {
    int32_t ids[LENGTH];
    fixture_ids(ids, LENGTH, 1);
    batch_entry e = {.ids = ids, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
    kv_cache_free(f->cache);
    f->cache = NULL;
    fixture_run(f, &e, 1, out);
}

static int cached_sequence(fixture *f) {
    int id;
    kv_cache_options o = kv_cache_defaults();
    o.page_rows = 2;
    fixture_cache(f, o);
    OK(kv_cache_add(f->cache, &id));
    return id;
}

/* ---------------------------------------------------------------- equivalent models */

static weight *named(fixture *f, int layer, const char *part) {
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, part);
    return params_find(f->model->params, name);
}

static void get(fixture *f, const weight *w, float *values) {
    OK(params_get(f->model->params, (int)(w - f->model->params->table), values));
}

static void set(fixture *f, const weight *w, const float *values) {
    OK(params_set(f->model->params, (int)(w - f->model->params->table), values, DTYPE_F32));
}

static void set_zero(fixture *f, int layer, const char *part) {
    float zeros[24 * 36] = {0};
    set(f, named(f, layer, part), zeros);
}

static void copy_part(fixture *to, int to_layer, fixture *from, int from_layer, const char *part) {
    float values[24 * 36];
    const weight *w = named(from, from_layer, part);
    assert_non_null(w);
    get(from, w, values);
    set(to, named(to, to_layer, part), values);
}

/* Copies every tensor that both have under the same name. */
static void copy_common(fixture *to, fixture *from) {
    for (int i = 0; i < from->model->params->count; i++) {
        float values[37 * 24];
        const weight *w = &from->model->params->table[i], *target = params_find(to->model->params, w->name);
        if (!target) continue;
        get(from, w, values);
        set(to, target, values);
    }
}

/* Layer 0 adds nothing to the residual stream, so that layer 1 has the same input. Then the keys or values that layer 1
 * reads from layer 0 equal those that it would compute with the same weights. */
static void expect_equal_to_plain(const char *layout, bool keys_of_0) {
    fixture apart, plain;
    float expected[T], found[T];
    open_layout(&apart, layout, 3, DTYPE_F32, false);
    open_layout(&plain, "0_1_2", 3, DTYPE_F32, false);
    set_zero(&apart, 0, "self_attn.o_proj.weight");
    set_zero(&apart, 0, "mlp.down_proj.weight");
    copy_common(&plain, &apart);
    copy_part(&plain, 1, &apart, 0, keys_of_0 ? "self_attn.k_proj.weight" : "self_attn.v_proj.weight");
    copy_part(&plain, 1, &apart, 1, keys_of_0 ? "self_attn.v_proj.weight" : "self_attn.k_proj.weight");
    assert_null(named(&apart, 1, keys_of_0 ? "self_attn.k_proj.weight" : "self_attn.v_proj.weight"));
    plan_logits(&apart, found);
    plan_logits(&plain, expected);
    assert_memory_equal(found, expected, sizeof found);
    int32_t ids[LENGTH];
    fixture_ids(ids, LENGTH, 1);
    fixture_tokens(&apart, cached_sequence(&apart), ids, LENGTH, found);
    fixture_tokens(&plain, cached_sequence(&plain), ids, LENGTH, expected);
    assert_memory_equal(found, expected, sizeof found);
    fixture_close(&apart);
    fixture_close(&plain);
}

static void separate_sources_equal_own_copies(void **state) {
    (void)state;
    expect_equal_to_plain("0_0:1_2", true);
    expect_equal_to_plain("0_1:0_2", false);
}

/* ---------------------------------------------------------------- plan, cache and exact form */

static const char *const layouts[] = {"0_0:1_2_3",   "0_1:0_1:2_3", "0_2:3_2_3",   "3:1_1_1:2_3",
                                      "0_3:1_1:3_3", "2:1_3:0_0_3", "0s_0:1s_2_2", "0s_2:3s_2s_3"};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

static void plan_and_cache_equal_the_exact_form(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        float planned[T], exact[T], prompt[T];
        int32_t ids[LENGTH];
        open_layout(&f, layouts[i], 4, DTYPE_F32, false);
        fixture_ids(ids, LENGTH, 1);
        plan_logits(&f, planned);
        fixture_tokens(&f, cached_sequence(&f), ids, LENGTH, exact);
        assert_close(planned, exact, T, CLOSE, layouts[i]);
        int id = cached_sequence(&f); /* a prompt with the plan, then tokens */
        batch_entry e = {.ids = ids, .rows = 5, .wanted = 1, .cache_id = id, .planned = true};
        fixture_run(&f, &e, 1, prompt);
        assert_close(prompt, exact + 4 * FIXTURE_VOCAB, FIXTURE_VOCAB, CLOSE, layouts[i]);
        fixture_tokens(&f, id, ids + 5, LENGTH - 5, prompt);
        assert_close(prompt, exact + 5 * FIXTURE_VOCAB, (LENGTH - 5) * FIXTURE_VOCAB, CLOSE, layouts[i]);
        fixture_close(&f);
    }
}

/* A decoding token in the same batch as a prompt that is processed by the plan. */
static void decoding_joins_a_plan(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUTS; i++) {
        fixture f;
        float exact[T], together[T];
        int32_t ids[LENGTH];
        int a, b;
        open_layout(&f, layouts[i], 4, DTYPE_F32, false);
        fixture_ids(ids, LENGTH, 1);
        fixture_tokens(&f, cached_sequence(&f), ids, LENGTH, exact);
        kv_cache_options o = kv_cache_defaults();
        o.page_rows = 2;
        o.sequences = 2;
        fixture_cache(&f, o);
        OK(kv_cache_add(f.cache, &a));
        OK(kv_cache_add(f.cache, &b));
        fixture_tokens(&f, b, ids, 3, together);
        batch_entry entries[] = {{.ids = ids, .rows = 5, .wanted = 5, .cache_id = a, .planned = true},
                                 {.ids = ids + 3, .rows = 1, .wanted = 1, .cache_id = b}};
        fixture_run(&f, entries, 2, together);
        assert_close(together, exact, 5 * FIXTURE_VOCAB, CLOSE, layouts[i]);
        assert_close(together + 5 * FIXTURE_VOCAB, exact + 3 * FIXTURE_VOCAB, FIXTURE_VOCAB, CLOSE, layouts[i]);
        fixture_close(&f);
    }
}

/* ---------------------------------------------------------------- gradients */

static size_t gradient_bytes(const fixture *f) {
    const params *p = f->model->params;
    const weight *last = &p->table[p->count - 1];
    return (size_t)((char *)last->tensor.grad.data - (char *)p->gradients) + view_bytes(last->tensor.grad);
}

static double loss_and_gradients(fixture *f, bool sequential, bool recompute) {
    static const float one = 1.0f / LENGTH;
    int32_t ids[LENGTH], labels[LENGTH];
    double loss = 0;
    tensor *hidden, *scalars;
    fixture_ids(ids, LENGTH, 1);
    fixture_ids(labels, LENGTH, 2);
    batch_entry e = {.ids = ids, .labels = labels, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
    OK(f->device->memory.zero(f->device, f->model->params->gradients, gradient_bytes(f)));
    f->graph->recording = true;
    f->graph->recompute = recompute;
    OK(batch_fill(f->batch, NULL, &e, 1));
    OK(graph_zeros(f->graph, 1, 2, DTYPE_F64, &scalars));
    view sum = {scalars->value.data, 1, 1, DTYPE_F64}, scale = {(double *)scalars->value.data + 1, 1, 1, DTYPE_F32};
    OK(f->device->memory.copy_in(f->device, scale.data, &one, sizeof one));
    OK(sequential ? decoder_forward_sequential(f->model, f->graph, f->batch, &hidden)
                  : decoder_forward(f->model, f->graph, f->batch, NULL, &hidden));
    OK(decoder_loss(f->model, f->graph, f->batch, hidden, scale, sum, (view){0}, (view){0}));
    tensor_release(f->graph, hidden);
    OK(graph_backward(f->graph));
    OK(f->device->memory.copy_out(f->device, &loss, sum.data, sizeof loss));
    OK(f->device->memory.wait(f->device));
    OK(graph_reset(f->graph));
    return loss;
}

/* Without loops the plan's gradient is the exact one. */
static void gradients_equal_the_exact_form(void **state) {
    (void)state;
    static const char *const straight[] = {"0_0:1_2_3", "0_1:0_1:2_3", "0s_0:1s_2_2"};
    for (int i = 0; i < 3; i++) {
        fixture f;
        open_layout(&f, straight[i], 4, DTYPE_F32, true);
        params *p = f.model->params;
        OK(params_enable_gradients(p));
        double planned = loss_and_gradients(&f, false, false);
        size_t bytes = gradient_bytes(&f);
        float *first = malloc(bytes);
        assert_non_null(first);
        memcpy(first, p->gradients, bytes);
        assert_true(loss_and_gradients(&f, false, true) == planned); /* activation checkpointing: the same bits */
        assert_memory_equal(first, p->gradients, bytes);
        assert_true(fabs(loss_and_gradients(&f, true, false) - planned) < CLOSE);
        assert_close(first, p->gradients, (int)(bytes / sizeof(float)), CLOSE, straight[i]);
        free(first);
        fixture_close(&f);
    }
}

/* ---------------------------------------------------------------- slots of different widths */

/* A model whose layers 2 and 3 have one KV head, the others two. */
static model *narrow_model(device *d, const model_config *like) {
    model_config *c;
    layer_description parts[4];
    params *p;
    model *m;
    OK(config_copy(like, &c));
    memcpy(parts, c->map.layer, sizeof parts);
    parts[2].kv_heads = parts[3].kv_heads = 1;
    OK(layer_map_describe(&c->map, parts));
    OK(params_create(c, NULL, NULL, &p));
    OK(params_allocate(p, d, DTYPE_F32));
    OK(params_randomize(p, c, 7));
    OK(model_create(d, c, p, &m));
    return m;
}

/* The two KV heads of the wide model's layers 2 and 3 are copies of the narrow model's one. */
static void double_heads(fixture *wide, fixture *narrow) {
    static const char *const parts[] = {"self_attn.k_proj.weight", "self_attn.v_proj.weight"};
    for (int layer = 2; layer < 4; layer++)
        for (int i = 0; i < 2; i++) {
            float values[2 * 6 * 24];
            const weight *w = named(narrow, layer, parts[i]);
            if (!w) continue;
            get(narrow, w, values);
            memcpy(values + w->rows * w->cols, values, (size_t)(w->rows * w->cols) * sizeof *values);
            set(wide, named(wide, layer, parts[i]), values);
        }
}

static void slots_may_differ_in_width(void **state) {
    (void)state;
    static const char *const maps[] = {"0_1_2_3", "1_1_3_3", "0s_1s_2_3", "0_1_2:3_3", "0s_1_2s_3"};
    for (int i = 0; i < 5; i++) {
        fixture wide, narrow;
        float expected[T], found[T];
        int32_t ids[LENGTH];
        open_layout(&wide, maps[i], 4, DTYPE_F32, false);
        open_layout(&narrow, maps[i], 4, DTYPE_F32, false);
        model *m = narrow_model(narrow.device, narrow.model->config);
        model_free(narrow.model);
        narrow.model = m;
        for (int k = 0; k < m->params->count; k++) { /* all but the narrow parts */
            float values[37 * 24];
            const weight *w = &m->params->table[k], *target = params_find(wide.model->params, w->name);
            get(&narrow, w, values);
            if (target->rows == w->rows) set(&wide, target, values);
        }
        double_heads(&wide, &narrow);
        plan_logits(&wide, expected);
        plan_logits(&narrow, found);
        assert_close(found, expected, T, CLOSE, maps[i]);
        fixture_ids(ids, LENGTH, 1);
        fixture_tokens(&wide, cached_sequence(&wide), ids, LENGTH, expected);
        fixture_tokens(&narrow, cached_sequence(&narrow), ids, LENGTH, found);
        assert_close(found, expected, T, CLOSE, maps[i]);
        int64_t used = 0;
        const layer_map *map = &m->config->map;
        for (int s = 0; s < map->slots; s++) {
            int64_t bytes = kv_cache_used_by_slot(narrow.cache, s), full = kv_cache_used_by_slot(wide.cache, s);
            int64_t width = layer_map_k_width(map, s) + layer_map_v_width(map, s);
            int64_t wide_width =
                layer_map_k_width(&wide.model->config->map, s) + layer_map_v_width(&wide.model->config->map, s);
            assert_int_equal(bytes * wide_width, full * width);
            used += bytes;
        }
        assert_int_equal(used, kv_cache_used(narrow.cache).used_bytes);
        fixture_close(&wide);
        fixture_close(&narrow);
    }
}

/* ---------------------------------------------------------------- sizes */

static void only_what_is_read_is_stored(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_0:1_2_3", 4, DTYPE_F32, false); /* layer 1 has values, but no keys */
    assert_null(named(&f, 1, "self_attn.k_proj.weight"));
    assert_non_null(named(&f, 1, "self_attn.v_proj.weight"));
    cached_sequence(&f);
    int32_t ids[2] = {1, 2};
    float logits[2 * FIXTURE_VOCAB];
    fixture_tokens(&f, 0, ids, 2, logits);
    assert_int_equal(kv_cache_used_by_slot(f.cache, 1) * 2, kv_cache_used_by_slot(f.cache, 0));
    assert_int_equal(kv_cache_used(f.cache).used_bytes, 2 * 7 * 12 * (int64_t)sizeof(float));
    assert_int_equal(kv_cache_used(f.cache).plain_bytes, 2 * 8 * 12 * (int64_t)sizeof(float));
    fixture_close(&f);
}

static void mismatched_sizes_are_refused(void **state) {
    (void)state;
    fixture f;
    open_layout(&f, "0_0_2_2", 4, DTYPE_F32, false);
    model_config *c;
    layer_description parts[4];
    params *p;
    model *m;
    OK(config_copy(f.model->config, &c));
    memcpy(parts, c->map.layer, sizeof parts);
    parts[1].kv_heads = 1;
    FAILS(layer_map_describe(&c->map, parts), LCKV_ERROR_FORMAT,
          "layer 1 has 1 KV heads of 6, but attends to the keys of layer 0, which has 2 of 6");
    parts[1].kv_heads = 2;
    parts[2].head_dim = parts[3].head_dim = 4;
    OK(layer_map_describe(&c->map, parts));
    OK(params_create(c, NULL, NULL, &p));
    OK(params_allocate(p, f.device, DTYPE_F32));
    FAILS(model_create(f.device, c, p, &m), LCKV_ERROR_UNSUPPORTED, "layer 2 has heads of 4");
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(separate_sources_equal_own_copies),
        cmocka_unit_test(plan_and_cache_equal_the_exact_form),
        cmocka_unit_test(decoding_joins_a_plan),
        cmocka_unit_test(gradients_equal_the_exact_form),
        cmocka_unit_test(slots_may_differ_in_width),
        cmocka_unit_test(only_what_is_read_is_stored),
        cmocka_unit_test(mismatched_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
