/* Fitting a learned start: it is nearer to the exact form than zeros, the same fit gives the same bits, and a stopped
 * one changes nothing. */
#include "data/blocks.h"
#include "train/loop_start/fit_loop_start.h"

#include "fixture.h"

enum { BLOCK = 16, BLOCKS = 40 };

/* Ids that repeat a rule, so that there is something to learn. */
static void make_ids(int32_t *ids, int count) {
    int32_t id = 1;
    for (int i = 0; i < count; i++) {
        ids[i] = id;
        id = (id * (rng_uniform(9, 1, (uint64_t)i) < 0.2 ? 5 : 2) + 1) % FIXTURE_VOCAB;
    }
}

static void open_model(fixture *f, const char *layout) {
    char extra[256];
    snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"forward_passes\":4,\"backward_passes\":2", layout);
    fixture_open(f, 4, extra, DTYPE_F32, false);
}

static void fit(fixture *f, const blocks *b, int64_t steps, fit_result *result) {
    const fit_options o = {.compute = DTYPE_F32, .steps = steps, .learning_rate = 1e-2, .seed = 3};
    OK(fit_loop_start(f->model, &b->examples, &o, result));
}

static void a_fit_is_nearer_than_zeros(void **state) {
    (void)state;
    static const char *const layouts[] = {"0_2_2_3", "1_1_3_3", "3_3_3_3"};
    int32_t ids[BLOCK * BLOCKS];
    make_ids(ids, BLOCK * BLOCKS);
    const blocks b = blocks_of_ids(ids, BLOCK, BLOCKS);
    for (int i = 0; i < 3; i++) {
        fixture f;
        fit_result few, many;
        open_model(&f, layouts[i]);
        fit(&f, &b, 2, &few);
        fit(&f, &b, 150, &many);
        assert_int_equal(many.tokens + many.held_out, BLOCK * BLOCKS);
        assert_int_equal(many.steps, 150);
        if (!(many.relative_error < 0.7 * few.relative_error))
            fail_msg("%s: error %g, then %g", layouts[i], few.relative_error, many.relative_error);
        const loop_start_kl *kl = &f.model->loop_start->kl;
        assert_int_equal(kl->count, 6);
        if (!(kl->start[0] < 0.8 * kl->zeros[0]))
            fail_msg("%s: KL %g from zeros, %g from the start", layouts[i], kl->zeros[0], kl->start[0]);
        for (int k = 1; k < 6; k++) assert_true(kl->zeros[k] < kl->zeros[k - 1]);
        fixture_close(&f);
    }
}

static void the_same_fit_gives_the_same_bits(void **state) {
    (void)state;
    int32_t ids[BLOCK * BLOCKS];
    make_ids(ids, BLOCK * BLOCKS);
    const blocks b = blocks_of_ids(ids, BLOCK, BLOCKS);
    fixture f[2];
    fit_result results[2];
    for (int i = 0; i < 2; i++) {
        open_model(&f[i], "0_2_2_3");
        fit(&f[i], &b, 9, &results[i]);
    }
    const params *x = f[0].model->loop_start->weights, *y = f[1].model->loop_start->weights;
    for (int i = 0; i < x->count; i++)
        assert_memory_equal(x->table[i].tensor.value.data, y->table[i].tensor.value.data,
                            view_bytes(x->table[i].tensor.value));
    assert_memory_equal(&f[0].model->loop_start->kl, &f[1].model->loop_start->kl, sizeof(loop_start_kl));
    for (int i = 0; i < 2; i++) fixture_close(&f[i]);
}

/* The model's weights are not touched, and a fit that was stopped leaves no start. */
static bool stop_at_half(void *user, const char *part, double fraction) {
    (void)user;
    return strcmp(part, "fitting") || fraction < 0.5;
}

static void a_stopped_fit_leaves_the_model_as_it_was(void **state) {
    (void)state;
    int32_t ids[BLOCK * BLOCKS];
    fixture f;
    fit_result result;
    make_ids(ids, BLOCK * BLOCKS);
    const blocks b = blocks_of_ids(ids, BLOCK, BLOCKS), one = blocks_of_ids(ids, BLOCK, 1);
    open_model(&f, "0_2_2_3");
    const params *p = f.model->params;
    size_t bytes = view_bytes(p->table[0].tensor.value);
    void *before = malloc(bytes);
    memcpy(before, p->table[0].tensor.value.data, bytes);
    fit_options o = {.compute = DTYPE_F32, .steps = 8, .learning_rate = 1e-2, .seed = 3, .go_on = stop_at_half};
    FAILS(fit_loop_start(f.model, &b.examples, &o, &result), LCKV_ERROR_INTERRUPTED, "fitting");
    assert_null(f.model->loop_start);
    FAILS(fit_loop_start(f.model, &one.examples, &o, &result), LCKV_ERROR_FORMAT, "at least 2");
    fit(&f, &b, 2, &result);
    assert_memory_equal(before, p->table[0].tensor.value.data, bytes);
    free(before);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fit_is_nearer_than_zeros),
        cmocka_unit_test(the_same_fit_gives_the_same_bits),
        cmocka_unit_test(a_stopped_fit_leaves_the_model_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
