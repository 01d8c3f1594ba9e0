/* lckv's tuning and trl's SFTTrainer on the same rows with the same weights: losses of 20 steps in each case of
 * tests/tune/trl.json, which names the version. */
#include "base/text/json.h"
#include "lckv.h"

#include "folder_fixture.h"

/* The difference is 2e-5, from f32 sums in another order over 20 steps of AdamW. */
static const double TOLERANCE = 2e-4;

enum { STEPS = 20 };

typedef struct seen {
    double loss[STEPS];
    int count;
} seen;

static bool listen(void *user, const lckv_train_progress *p) {
    seen *s = user;
    if (p->phase == LCKV_TRAIN_STEPPING && s->count < STEPS) s->loss[s->count++] = p->loss;
    return true;
}

/* ---------------------------------------------------------------- rows */

static const char *text_of(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

/* row_of() of trl_reference.py. */
static json_t *row_of(const json_t *row, const char *kind) {
    const char *input = text_of(row, "input"), *output = text_of(row, "output");
    json_t *asked = json_sprintf("%s%s%s", text_of(row, "instruction"), *input ? "\n" : "", input), *out;
    const char *words = json_string_value(asked);
    if (!strcmp(kind, "text"))
        out = json_pack("{so}", "text", json_sprintf("%s\n%s", words, output));
    else if (!strcmp(kind, "completion"))
        out = json_pack("{so ss}", "prompt", json_sprintf("%s\n", words), "completion", output);
    else if (!strcmp(kind, "messages"))
        out = json_pack("{s[{ss ss}{ss ss}]}", "messages", "role", "user", "content", words, "role", "assistant",
                        "content", output);
    else
        out = json_pack("{s[{ss ss}] s[{ss ss}]}", "prompt", "role", "user", "content", words, "completion", "role",
                        "assistant", "content", output);
    assert_non_null(out);
    json_decref(asked);
    return out;
}

static const char *write_rows(folder *r, const json_t *rows, size_t count, const char *kind, const char *name) {
    const char *path = in(r, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < count; i++) {
        json_t *row = row_of(json_array_get(rows, i), kind);
        assert_int_equal(json_dumpf(row, file, JSON_COMPACT), 0);
        fputc('\n', file);
        json_decref(row);
    }
    assert_int_equal(fclose(file), 0);
    return path;
}

/* ---------------------------------------------------------------- a case */

static lckv_train_options options_of(const json_t *c, const lckv_tuning *how, folder *r, const char *name) {
    lckv_train_options o = lckv_train_defaults();
    const json_t *longest = json_object_get(c, "max_length");
    o.model_name_or_path = SHARED_DIR "/data/models/stories260k";
    o.tuning = how;
    o.output_dir = in(r, name);
    o.block_size = longest ? json_integer_value(longest) : 512;
    o.per_device_train_batch_size = 4;
    o.max_steps = STEPS;
    o.learning_rate = 1e-3;
    o.lr_scheduler_type = LCKV_SCHEDULE_CONSTANT;
    o.shuffle = false;
    o.save_strategy = LCKV_INTERVAL_NO;
    o.device = "cpu";
    return o;
}

static void check_case(const json_t *c, const char *name, const char *rows, const char *chat_template, folder *r) {
    lckv_tuning how = lckv_tuning_defaults();
    how.chat_template = chat_template;
    how.packing = json_is_true(json_object_get(c, "packing"));
    how.assistant_only_loss = json_is_true(json_object_get(c, "assistant_only_loss"));
    if (json_is_false(json_object_get(c, "completion_only_loss"))) how.completion_only_loss = LCKV_COMPLETION_LOSS_NO;
    lckv_train_options o = options_of(c, &how, r, name);
    seen s = {0};
    lckv_trainer *t;
    o.train_files = &rows;
    o.train_file_count = 1;
    o.callback = listen;
    o.user = &s;
    OK(lckv_trainer_create(&o, &t));
    OK(lckv_trainer_run(t, NULL));
    lckv_trainer_free(t);
    assert_int_equal(s.count, STEPS);
    for (size_t i = 0; i < STEPS; i++) {
        double expected = json_number_value(json_array_get(json_object_get(c, "loss"), i));
        if (!(fabs(s.loss[i] - expected) <= TOLERANCE))
            fail_msg("%s, step %zu: loss %.6f, trl has %.6f", name, i + 1, s.loss[i], expected);
    }
}

static void losses_equal_those_of_trl(void **state) {
    const char *source = SHARED_DIR "/data/sft/rasbt-instruction-data.json", *name;
    json_t *rows, *expected, *c;
    if (!file_exists(source)) {
        print_message("skipped: %s is not there\n", source);
        skip();
    }
    OK(json_read_file(source, &rows));
    OK(json_read_file(SOURCE_DIR "/tests/tune/trl.json", &expected));
    const char *chat_template = put_text_in(*state, "template.jinja", text_of(expected, "template"));
    size_t count = (size_t)json_integer_value(json_object_get(expected, "rows"));
    const json_t *cases = json_object_get(expected, "cases");
    assert_true(json_object_size(cases) >= 10);
    json_object_foreach((json_t *)(uintptr_t)cases, name, c) {
        char file[64];
        snprintf(file, sizeof file, "%s.jsonl", text_of(c, "rows"));
        check_case(c, name, write_rows(*state, rows, count, text_of(c, "rows"), file), chat_template, *state);
    }
    json_decref(rows);
    json_decref(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(losses_equal_those_of_trl)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
