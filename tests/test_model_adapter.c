/* LoRA beside a model's weights: which matrices have it, what it adds, and its gradients against finite differences. */
#include "fixture.h"

enum { LENGTH = 9, RANK = 3 };

static const adapter_options ALL = {.rank = RANK, .alpha = 6, .targets = ADAPTER_ALL};

static void add_adapter(fixture *f, const adapter_options *o) {
    OK(adapter_create(f->model->params, o, &f->model->adapter));
    OK(adapter_randomize(f->model->adapter, 3));
}

/* B starts as zeros; here it gets values of the size of other weights. */
static void fill_b(adapter *a) {
    for (int i = 1; i < a->weights->count; i += 2) {
        const weight *w = &a->weights->table[i];
        float *values = w->tensor.value.data;
        for (int64_t k = 0; k < w->rows * w->cols; k++)
            values[k] = (float)(0.4 * rng_uniform(17, (uint64_t)i, (uint64_t)k) - 0.2);
    }
}

static void logits_of(fixture *f, float *logits) {
    int32_t ids[LENGTH];
    fixture_ids(ids, LENGTH, 1);
    batch_entry e = {.ids = ids, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
    fixture_run(f, &e, 1, logits);
}

/* ---------------------------------------------------------------- names */

static void names_are_those_of_peft(void **state) {
    (void)state;
    char name[ADAPTER_NAME_BYTES];
    unsigned bits;
    assert_true(adapter_name("model.layers.11.self_attn.q_proj.weight", 'A', name));
    assert_string_equal(name, "base_model.model.model.layers.11.self_attn.q_proj.lora_A.weight");
    assert_true(adapter_name("model.layers.0.mlp.down_proj.weight", 'B', name));
    assert_string_equal(name, "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight");
    assert_false(adapter_name("model.layers.0.self_attn.q_proj.bias", 'A', name));
    assert_false(adapter_name("model.layers.0.input_layernorm.weight", 'A', name));
    assert_false(adapter_name("model.embed_tokens.weight", 'A', name));
    assert_false(adapter_name("lm_head.weight", 'A', name));
    OK(adapter_targets(NULL, 0, &bits));
    assert_int_equal(bits, 1 | 4);
    OK(adapter_targets((const char *const[]){"down_proj", "k_proj"}, 2, &bits));
    assert_int_equal(bits, 64 | 2);
    OK(adapter_targets((const char *const[]){"all-linear"}, 1, &bits));
    assert_int_equal(bits, ADAPTER_ALL);
    FAILS(adapter_targets((const char *const[]){"q_proj", "lm_head"}, 2, &bits), LCKV_ERROR_ARGUMENT,
          "all-linear, found 'lm_head'");
}

/* In layers 0_2_2_3 all but layer 1 own a slot. */
static void k_and_v_are_adapted_where_they_are(void **state) {
    (void)state;
    fixture f;
    int k = 0, all = 0;
    fixture_open(&f, 4, ",\"layer_types\":\"0_2_2_3\"", DTYPE_F32, false);
    add_adapter(&f, &ALL);
    const params *p = f.model->adapter->weights;
    for (int i = 0; i < p->count; i += 2) {
        const weight *a = &p->table[i], *b = &p->table[i + 1];
        assert_int_equal(a->rows, RANK);
        assert_int_equal(b->cols, RANK);
        k += strstr(a->name, "k_proj") != NULL;
        all++;
    }
    assert_int_equal(k, 3);
    assert_int_equal(all, 3 * 7 + 5);
    assert_null(
        params_find(f.model->adapter->weights, "base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight"));
    fixture_close(&f);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    fixture f;
    adapter *a;
    fixture_open(&f, 2, "", DTYPE_F32, false);
    params *p = f.model->params;
    FAILS(adapter_create(p, &(adapter_options){0, 1, 1}, &a), LCKV_ERROR_ARGUMENT, "lora_r should be 1 to");
    FAILS(adapter_create(p, &(adapter_options){1, 0, 1}, &a), LCKV_ERROR_ARGUMENT, "lora_alpha should be above 0");
    FAILS(adapter_create(p, &(adapter_options){1, 1, 1, 1}, &a), LCKV_ERROR_ARGUMENT,
          "lora_dropout should be at least 0 and below 1, found 1");
    FAILS(adapter_create(p, &(adapter_options){1, 1, 0}, &a), LCKV_ERROR_ARGUMENT, "no matrix that this model has");
    for (int i = 0; i < p->count; i++) assert_null(p->table[i].tensor.plus);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- values */

/* A is uniform within 1 / sqrt(cols): its second moment is a third of that squared. With at least 3 * 24 numbers per
 * matrix and 2000 in total, the standard error of the mean square is 0.9 / sqrt(2000) of it; the tolerance is three
 * times that. */
static void a_fresh_one_changes_nothing(void **state) {
    (void)state;
    fixture f;
    float before[LENGTH * FIXTURE_VOCAB], after[LENGTH * FIXTURE_VOCAB];
    double squares = 0, count = 0;
    fixture_open(&f, 4, ",\"layer_types\":\"0_2_2_3\"", DTYPE_F32, false);
    logits_of(&f, before);
    add_adapter(&f, &ALL);
    logits_of(&f, after);
    assert_memory_equal(before, after, sizeof before);
    for (int i = 0; i < f.model->adapter->weights->count; i += 2) {
        const weight *w = &f.model->adapter->weights->table[i];
        const float *values = w->tensor.value.data;
        for (int64_t k = 0; k < w->rows * w->cols; k++) {
            double scaled = (double)values[k] * sqrt((double)w->cols);
            assert_true(fabs(scaled) <= 1);
            squares += scaled * scaled;
            count++;
        }
    }
    assert_true(count > 2000);
    assert_true(fabs(squares / count - 1.0 / 3) < 0.06 / 3);
    fixture_close(&f);
}

/* weight += scale b a, in double. */
static void merge(model *m) {
    for (int i = 0; i < m->params->count; i++) {
        weight *w = &m->params->table[i];
        const low_rank *plus = w->tensor.plus;
        if (!plus) continue;
        float *values = w->tensor.value.data;
        const float *a = plus->a->value.data, *b = plus->b->value.data;
        for (int64_t r = 0; r < w->rows; r++)
            for (int64_t c = 0; c < w->cols; c++) {
                double sum = 0;
                for (int k = 0; k < RANK; k++) sum += (double)b[r * RANK + k] * (double)a[k * w->cols + c];
                values[r * w->cols + c] += (float)((double)plus->scale * sum);
            }
        w->tensor.plus = NULL;
    }
}

static void merged_equals_unmerged(void **state) {
    (void)state;
    static const char *const layouts[] = {"0_1_2_3", "0_2_2_3", "0_0_2_2", "3_3_3_3"};
    for (int i = 0; i < 4; i++) {
        fixture f;
        char extra[128];
        float base[LENGTH * FIXTURE_VOCAB], beside[LENGTH * FIXTURE_VOCAB], merged[LENGTH * FIXTURE_VOCAB];
        double largest = 0;
        snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"forward_passes\":2", layouts[i]);
        fixture_open(&f, 4, extra, DTYPE_F32, false);
        logits_of(&f, base);
        add_adapter(&f, &ALL);
        fill_b(f.model->adapter);
        logits_of(&f, beside);
        merge(f.model);
        logits_of(&f, merged);
        assert_close(beside, merged, LENGTH * FIXTURE_VOCAB, CLOSE, layouts[i]);
        for (int k = 0; k < LENGTH * FIXTURE_VOCAB; k++) largest = fmax(largest, fabs((double)(base[k] - merged[k])));
        assert_true(largest > 0.1);
        fixture_close(&f);
    }
}

/* ---------------------------------------------------------------- gradients */

static double loss_of(fixture *f, bool learn) {
    int32_t ids[LENGTH], labels[LENGTH];
    struct {
        double loss;
        float scale;
    } host = {0, 1.0f / LENGTH};
    void *memory;
    tensor *hidden;
    device *d = f->device;
    fixture_ids(ids, LENGTH, 1);
    fixture_ids(labels, LENGTH, 2);
    batch_entry e = {.ids = ids, .labels = labels, .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
    OK(d->memory.alloc(d, sizeof host, &memory));
    OK(d->memory.copy_in(d, memory, &host, sizeof host));
    view loss = {memory, 1, 1, DTYPE_F64}, scale = {(char *)memory + sizeof(double), 1, 1, DTYPE_F32};
    f->graph->recording = learn;
    OK(batch_fill(f->batch, NULL, &e, 1));
    OK(decoder_forward(f->model, f->graph, f->batch, NULL, &hidden));
    OK(decoder_loss(f->model, f->graph, f->batch, hidden, scale, loss, (view){0}, (view){0}));
    tensor_release(f->graph, hidden);
    if (learn) OK(graph_backward(f->graph));
    OK(d->memory.copy_out(d, &host.loss, memory, sizeof host.loss));
    OK(d->memory.wait(d));
    assert_int_equal(pool_in_use(f->graph->pool), 0);
    OK(graph_reset(f->graph));
    d->memory.release(d, memory);
    return host.loss;
}

/* One element of each matrix. Central differences with step h = 1e-2: truncation h^2 / 6 times a third derivative of
 * order 1, and f32 rounding of a loss of about 4, 5e-7 / h. Both are below the tolerance of 1 % plus 3e-4. */
static void check_differences(fixture *f) {
    params *p = f->model->adapter->weights;
    double largest = 0;
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        int64_t at = (31 * i + 5) % (w->rows * w->cols);
        float *value = (float *)w->tensor.value.data + at, kept = *value, h = 1e-2f;
        double found = (double)((const float *)w->tensor.grad.data)[at];
        *value = kept + h;
        double high = loss_of(f, false);
        *value = kept - h;
        double expected = (high - loss_of(f, false)) / (2 * (double)h);
        *value = kept;
        largest = fmax(largest, fabs(expected));
        if (!(fabs(found - expected) <= 0.01 * fabs(expected) + 3e-4))
            fail_msg("%s element %d: gradient %g, difference %g", w->name, (int)at, found, expected);
    }
    assert_true(largest > 0.02);
}

/* The graph has one seed, so that each pass draws the same masks; without a seed nothing is dropped. */
static void gradients_with_dropout_are_derivatives(void **state) {
    (void)state;
    static const adapter_options dropped = {.rank = RANK, .alpha = 6, .targets = ADAPTER_ALL, .dropout = 0.3};
    int64_t seed = 77;
    for (int again = 0; again < 2; again++) {
        fixture f;
        fixture_open(&f, 4, ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":0,\"backward_passes\":3", DTYPE_F32, true);
        add_adapter(&f, &dropped);
        fill_b(f.model->adapter);
        OK(params_enable_gradients(f.model->adapter->weights));
        double without = loss_of(&f, false);
        f.graph->seed = (view){&seed, 1, 1, DTYPE_I64};
        f.graph->recompute = again;
        double with = loss_of(&f, true);
        assert_true(with != without && fabs(with - without) < 2);
        assert_true(loss_of(&f, false) == with);
        check_differences(&f);
        f.graph->seed = (view){0};
        assert_true(loss_of(&f, false) == without);
        fixture_close(&f);
    }
}

/* Loops in which all iterations have gradients; iterations without gradient are excluded by design. The model's own
 * weights have no gradients. */
static void gradients_are_derivatives(void **state) {
    (void)state;
    static const char *const models[] = {
        "",
        ",\"layer_types\":\"0_0_2_2\",\"tie_word_embeddings\":true",
        ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":0,\"backward_passes\":3",
        (",\"layer_types\":\"1_1_3s_3s\",\"sliding_window\":5,\"attention_bias\":true,\"mlp_bias\":true,"
         "\"forward_passes\":0,\"backward_passes\":2"),
    };
    for (int i = 0; i < 4; i++) {
        fixture f;
        fixture_open(&f, 4, models[i], DTYPE_F32, true);
        add_adapter(&f, &ALL);
        fill_b(f.model->adapter);
        OK(params_enable_gradients(f.model->adapter->weights));
        loss_of(&f, true);
        check_differences(&f);
        for (int w = 0; w < f.model->params->count; w++) assert_null(f.model->params->table[w].tensor.grad.data);
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_peft),
        cmocka_unit_test(k_and_v_are_adapted_where_they_are),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_fresh_one_changes_nothing),
        cmocka_unit_test(merged_equals_unmerged),
        cmocka_unit_test(gradients_are_derivatives),
        cmocka_unit_test(gradients_with_dropout_are_derivatives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
