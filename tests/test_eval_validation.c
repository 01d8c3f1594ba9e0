/* The validation results of a trainer against the logits of the model that it wrote. */
#include "train_run_fixture.h"

static float logit(const safetensors_entry *logits, int64_t i) {
    float value;
    memcpy(&value, logits->data + i * 4, 4);
    return value;
}

/* The number of ids in a row of 16 that are the argmax of the preceding logits, which are written to a file. */
static int64_t chosen_of_row(folder *r, lckv_model *model, int row) {
    int32_t ids[16];
    float logprobs[15];
    safetensors_file file;
    lckv_score_options options = lckv_score_defaults();
    options.encoding = LCKV_ENCODING_PLAN; /* as in training */
    options.logits_file = in(r, "logits.safetensors");
    row_ids(row, 16, ids);
    OK(lckv_score(model, ids, 16, &options, logprobs));
    OK(safetensors_open(options.logits_file, &file));
    const safetensors_entry *logits = safetensors_find(&file, "logits");
    int64_t chosen = 0;
    for (int i = 0; i < 15; i++) {
        int best = 0;
        for (int v = 1; v < VOCAB; v++)
            if (logit(logits, i * VOCAB + v) > logit(logits, i * VOCAB + best)) best = v;
        chosen += best == ids[i + 1];
    }
    safetensors_close(&file);
    return chosen;
}

static void expect_accuracy(const run *t, int rows) {
    lckv_device *device;
    lckv_model *model;
    int64_t chosen = 0;
    lckv_model_options defaults = lckv_model_defaults();
    OK(lckv_device_open("cpu", 1, &device));
    OK(lckv_model_open(device, t->options.output_dir, &defaults, &model));
    for (int row = 0; row < rows; row++) chosen += chosen_of_row(t->folder, model, row);
    assert_true(chosen > 0 && t->result.eval_accuracy == (double)chosen / (15.0 * rows));
    lckv_model_free(model);
    lckv_device_close(device);
}

static void accuracy_is_the_share_of_labels_that_are_the_largest(void **state) {
    run t;
    run_begin(&t, state);
    use_validation(&t, 7);
    t.options.per_device_eval_batch_size = 4;
    OK(run_go(&t));
    expect_accuracy(&t, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(accuracy_is_the_share_of_labels_that_are_the_largest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
