/* The document mask: a block of several documents has the loss and gradient of the separate documents, for all lengths
 * and wherever a block splits them. */
#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

static const char LOOP[] = ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":2,\"backward_passes\":2";
static const char *const MODELS[] = {"", LOOP, ",\"layer_types\":\"1_1_3s_3s\",\"sliding_window\":3",
                                     ",\"layer_types\":\"0_3_3_3\",\"use_sequential\":true"};
enum { MODELS_COUNT = sizeof MODELS / sizeof *MODELS };

/* Both sum the same f32 numbers, each below 2^3, in different orders: their means differ by a few roundings of 2^-24.
 */
static const double ROUNDING = 8 * 64 * 0x1p-24;

static stepper *step_with(fixture *f, const char *more, int batch_size, int32_t block_size) {
    stepper *s;
    stepper_options options = {.batch_size = batch_size,
                               .block_size = block_size,
                               .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8}};
    fixture_open(f, 4, more, DTYPE_F32, false);
    OK(stepper_create(f->model, &options, &s));
    return s;
}

static void step_close(fixture *f, stepper *s) {
    stepper_free(s);
    fixture_close(f);
}

static step_evaluation evaluate(const char *more, const blocks *data, int batch_size) {
    fixture f;
    step_evaluation e;
    stepper *s = step_with(&f, more, batch_size, data->examples.block_size);
    OK(stepper_evaluate(s, &data->examples, 0, (int)data->examples.count, &e));
    step_close(&f, s);
    return e;
}

/* ---------------------------------------------------------------- losses */

enum { TOKENS = 42, BLOCK = 21 };

/* Ends of documents, with empty documents and a block that ends within a document. */
static const int64_t ENDS[] = {5, 5, 6, 15, 25, 27, 41, 42};
enum { DOCUMENTS = sizeof ENDS / sizeof *ENDS };
/* The sequences: the document from 15 to 25 is split at the end of the block, 21. */
static const int32_t PARTS[] = {5, 1, 9, 6, 4, 2, 14, 1};
enum { PART_COUNT = sizeof PARTS / sizeof *PARTS };

static blocks masked(const int32_t *ids, const int64_t *ends, int documents, int32_t block_size, int64_t count) {
    blocks b = blocks_of_ids(ids, block_size, count);
    b.ends = ends;
    b.documents = documents;
    return b;
}

/* Each sequence as a separate block, with a separate stepper. */
static step_evaluation evaluate_parts(const char *more, const int32_t *ids) {
    step_evaluation all = {0};
    for (int i = 0; i < PART_COUNT; ids += PARTS[i++]) {
        if (PARTS[i] < 2) continue;
        blocks alone = blocks_of_ids(ids, PARTS[i], 1);
        step_evaluation e = evaluate(more, &alone, 1);
        all.loss += e.loss * (double)e.labels;
        all.labels += e.labels;
        all.correct += e.correct;
    }
    all.loss /= (double)all.labels;
    return all;
}

static void a_block_costs_what_its_documents_cost(void **state) {
    (void)state;
    int32_t ids[TOKENS];
    fixture_ids(ids, TOKENS, 5);
    for (int i = 0; i < MODELS_COUNT; i++) {
        blocks both = masked(ids, ENDS, DOCUMENTS, BLOCK, 2), whole = blocks_of_ids(ids, BLOCK, 2);
        step_evaluation found = evaluate(MODELS[i], &both, 2), alone = evaluate_parts(MODELS[i], ids);
        assert_int_equal(found.labels, TOKENS - PART_COUNT);
        assert_int_equal(found.labels, alone.labels);
        assert_int_equal(found.correct, alone.correct);
        assert_true(fabs(found.loss - alone.loss) < ROUNDING);
        assert_true(fabs(found.loss - evaluate(MODELS[i], &whole, 2).loss) > 100 * ROUNDING);
    }
}

/* ---------------------------------------------------------------- gradients */

enum { LENGTH = 7, ROWS = 6, TOGETHER = 3 };

/* The gradient's norm, and the loss after a step along it. */
static step_result learn(const char *more, const blocks *data, int batch_size, double *after) {
    fixture f;
    step_result r, next;
    int64_t chosen[ROWS];
    stepper *s = step_with(&f, more, batch_size, data->examples.block_size);
    for (int i = 0; i < ROWS; i++) chosen[i] = i;
    OK(stepper_step(s, &data->examples, chosen, data->examples.count, 1e-3, &r));
    OK(stepper_step(s, &data->examples, chosen, data->examples.count, 1e-3, &next));
    *after = next.loss;
    step_close(&f, s);
    return r;
}

static void a_block_teaches_what_its_documents_teach(void **state) {
    (void)state;
    int32_t ids[ROWS * LENGTH];
    int64_t ends[ROWS];
    fixture_ids(ids, ROWS * LENGTH, 5);
    for (int i = 0; i < ROWS; i++) ends[i] = (i + 1) * LENGTH;
    for (int i = 0; i < MODELS_COUNT; i++) {
        blocks alone = blocks_of_ids(ids, LENGTH, ROWS);
        blocks packed = masked(ids, ends, ROWS, LENGTH * TOGETHER, ROWS / TOGETHER);
        double after_alone, after_packed;
        step_result a = learn(MODELS[i], &alone, 1, &after_alone), p = learn(MODELS[i], &packed, 1, &after_packed);
        assert_true(fabs(a.loss - p.loss) < ROUNDING);
        assert_true(fabs(a.grad_norm - p.grad_norm) < ROUNDING * a.grad_norm);
        assert_true(after_alone < a.loss - 100 * ROUNDING);
        assert_true(fabs(after_alone - after_packed) < 10 * ROUNDING); /* Adam divides by values near 0 */
    }
}

/* A step with documents of one token has no labels and changes nothing. */
static void documents_of_one_token_teach_nothing(void **state) {
    (void)state;
    int32_t ids[4] = {1, 2, 3, 4};
    int64_t ends[] = {1, 2, 3, 4};
    blocks b = masked(ids, ends, 4, 4, 1);
    double after;
    step_result r = learn("", &b, 1, &after);
    assert_true(r.finite && r.loss == 0 && r.grad_norm == 0 && after == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_costs_what_its_documents_cost),
        cmocka_unit_test(a_block_teaches_what_its_documents_teach),
        cmocka_unit_test(documents_of_one_token_teach_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
