/* The script run_clm.py and lckv train read the same documents, cut the same blocks, and compute the same loss. */
#include "base/text/json.h"
#include "lckv.h"

#include "folder_fixture.h"

static const double TOLERANCE = 1e-4; /* the script's loss is a mean of f32 means, ours a sum in f64 */

/* The input of a run of the script, and its result. */
typedef struct script_case {
    json_t *row;
    const char *name;
} script_case;

static int64_t whole(const script_case *c, const char *key) {
    const json_t *value = json_object_get(c->row, key);
    return value ? json_integer_value(value) : 0;
}

static double number(const script_case *c, const char *key) {
    return json_number_value(json_object_get(c->row, key));
}

static lckv_train_options options_of(const script_case *c, const char *const *text, folder *r) {
    lckv_train_options o = lckv_train_defaults();
    o.model_name_or_path = SHARED_DIR "/data/models/stories260k";
    o.do_train = false;
    o.device = "cpu";
    o.output_dir = in(r, c->name);
    o.block_size = whole(c, "block_size");
    o.max_eval_samples = whole(c, "max_eval_samples");
    o.validation_split_percentage = whole(c, "validation_split_percentage");
    o.keep_linebreaks = !json_is_false(json_object_get(c->row, "keep_linebreaks"));
    o.validation_files = o.train_files = text;
    o.validation_file_count = o.train_file_count = 1;
    if (o.validation_split_percentage) o.validation_file_count = 0;
    return o;
}

static void check_case(const script_case *c, const char *const *text, folder *r) {
    lckv_train_options o = options_of(c, text, r);
    lckv_trainer *t;
    lckv_train_result result;
    OK(lckv_trainer_create(&o, &t));
    lckv_train_summary summary = lckv_trainer_summary(t);
    OK(lckv_trainer_run(t, &result));
    lckv_trainer_free(t);
    double loss = number(c, "eval_loss"), accuracy = number(c, "eval_accuracy"), perplexity = number(c, "perplexity");
    assert_int_equal(summary.validation_blocks, whole(c, "eval_samples"));
    if (!(fabs(result.eval_loss - loss) <= TOLERANCE))
        fail_msg("%s: eval_loss %.7f, expected %.7f", c->name, result.eval_loss, loss);
    if (!(fabs(result.eval_accuracy - accuracy) <= TOLERANCE))
        fail_msg("%s: eval_accuracy %.7f, expected %.7f", c->name, result.eval_accuracy, accuracy);
    if (!(fabs(result.perplexity / perplexity - 1) <= TOLERANCE))
        fail_msg("%s: perplexity %.7f, expected %.7f", c->name, result.perplexity, perplexity);
}

static void evaluations_equal_the_scripts(void **state) {
    const char *text = SHARED_DIR "/data/text/wiki.test.raw";
    json_t *expected;
    script_case c;
    if (!file_exists(text)) {
        print_message("skipped: %s is not there\n", text);
        skip();
    }
    OK(json_read_file(SOURCE_DIR "/tests/train/run_clm.json", &expected));
    json_object_foreach(expected, c.name, c.row) check_case(&c, &text, *state);
    assert_true(json_object_size(expected) >= 4);
    json_decref(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(evaluations_equal_the_scripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
