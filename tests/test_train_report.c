/* report.html: a self-contained file with the data of the curves, which is read here as its script reads it. Its look
 * is tested in a browser. */
#include "base/text/json.h"
#include "train/report/report_data.h"
#include "train/trainer.h"

#include "train_run_fixture.h"

static char *read_page(const run *t) {
    char *path, *page;
    size_t bytes;
    OK(path_join(t->options.output_dir, "report.html", &path));
    OK(file_read(path, &page, &bytes));
    free(path);
    return page;
}

/* The JSON in the page. */
static json_t *read_data(const run *t) {
    static const char BEGIN[] = "<script type=\"application/json\" id=\"data\">";
    char *page = read_page(t), *begin = strstr(page, BEGIN);
    json_t *data;
    assert_non_null(begin);
    begin += sizeof BEGIN - 1;
    char *end = strstr(begin, "</script>");
    assert_non_null(end);
    OK(json_parse(begin, (size_t)(end - begin), "report.html", &data));
    free(page);
    return data;
}

static const json_t *curve(const json_t *data, const char *group, const char *name) {
    const json_t *list = json_object_get(json_object_get(data, group), name);
    assert_true(json_is_array(list));
    return list;
}

static double at(const json_t *list, size_t i) {
    const json_t *value = json_array_get(list, i);
    if (!json_is_number(value)) fail_msg("entry %zu is no number", i);
    return json_number_value(value);
}

static void begin(run *t, void **state) {
    run_begin(t, state);
    use_validation(t, 5);
    t->options.max_steps = 8;
    t->options.logging_steps = 2;
    t->options.eval_strategy = LCKV_INTERVAL_STEPS;
    t->options.eval_steps = t->options.save_steps = 4;
    t->options.command = "lckv train '</script><!--<script>'";
}

static void a_page_needs_no_other_file(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    char *page = read_page(&t);
    const char *const never[] = {"src=",           "href=",       "@import",      "fetch(",
                                 "XMLHttpRequest", "<!--data-->", "<!--script-->"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strstr(page, never[i])) fail_msg("the page has \"%s\"", never[i]);
    char *address = strstr(page, "http");
    assert_int_equal(strncmp(address, "http://www.w3.org/2000/svg\"", 27), 0); /* a namespace, which is not fetched */
    assert_null(strstr(address + 4, "http"));
    int scripts = 0;
    for (char *end = page; (end = strstr(end, "</script>")); end++) scripts++;
    assert_int_equal(scripts, 2); /* the tags in the command are escaped */
    assert_non_null(strstr(page, "</html>"));
    free(page);
}

static void it_has_the_curves_of_the_run(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    json_t *data = read_data(&t);
    const char *const curves[] = {"step", "epoch", "loss", "grad_norm", "learning_rate", "tokens_per_second"};
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
        assert_int_equal(json_array_size(curve(data, "train", curves[i])), 4);
    for (size_t i = 0; i < 4; i++) {
        const lckv_train_progress *p = &t.story.steps[2 * i + 1];
        double mean = (t.story.steps[2 * i].loss + p->loss) / 2;
        assert_true(at(curve(data, "train", "step"), i) == (double)(2 * i + 2));
        assert_true(fabs(at(curve(data, "train", "loss"), i) - mean) < 1e-6 * mean); /* seven digits */
        assert_true(fabs(at(curve(data, "train", "grad_norm"), i) - p->grad_norm) < 1e-6 * p->grad_norm);
        assert_true(at(curve(data, "train", "tokens_per_second"), i) > 0);
    }
    assert_int_equal(json_array_size(curve(data, "evaluation", "loss")), 2);
    assert_true(at(curve(data, "evaluation", "step"), 1) == 8);
    assert_true(fabs(at(curve(data, "evaluation", "accuracy"), 1) - t.result.eval_accuracy) < 1e-6);
    assert_true(json_is_true(json_object_get(data, "finished")));
    assert_string_equal(json_string_value(json_object_get(data, "name")), "out");
    assert_string_equal(json_string_value(json_object_get(data, "command")), t.options.command);
    json_decref(data);
}

static void a_run_that_went_on_has_the_speeds_of_before(void **state) {
    run t;
    begin(&t, state);
    t.options.run_name = "a <b> of it";
    t.story.stop_after = 5;
    FAILS(run_go(&t), LCKV_ERROR_INTERRUPTED, "");
    json_t *data = read_data(&t); /* of the checkpoint that was written then */
    assert_true(json_is_false(json_object_get(data, "finished")));
    assert_int_equal(json_array_size(curve(data, "train", "loss")), 2);
    json_decref(data);
    t.story.stop_after = 0;
    OK(run_go(&t));
    data = read_data(&t);
    assert_int_equal(json_array_size(curve(data, "train", "loss")), 4);
    for (size_t i = 0; i < 4; i++) assert_true(at(curve(data, "train", "tokens_per_second"), i) > 0);
    assert_string_equal(json_string_value(json_object_get(data, "name")), "a <b> of it");
    json_decref(data);
}

static void neighbours_of_a_long_run_are_one_point(void **state) {
    run t;
    lckv_trainer *trainer;
    history h = {0};
    char *text, name[] = "long";
    json_t *data;
    const report_labels labels = {.name = name};
    begin(&t, state);
    OK(lckv_trainer_create(&t.options, &trainer));
    for (int step = 1; step <= 2 * REPORT_MAX_POINTS + 1; step++)
        OK(history_add(&h, (history_entry){.step = step, .loss = step % 6 ? step : NAN, .grad_norm = NAN}));
    run_view seen = trainer_view(trainer);
    OK(report_data(&seen, &h, &labels, &text));
    OK(json_parse(text, strlen(text), "data", &data));
    assert_int_equal(json_integer_value(json_object_get(data, "thinned")), 3);
    const json_t *losses = curve(data, "train", "loss"), *steps = curve(data, "train", "step");
    assert_int_equal(json_array_size(losses), (2 * REPORT_MAX_POINTS + 1 + 2) / 3);
    assert_true(at(losses, 0) == 2 && at(steps, 0) == 3);   /* 1, 2, 3 */
    assert_true(at(losses, 1) == 4.5 && at(steps, 1) == 6); /* 4, 5 */
    assert_true(json_is_null(json_array_get(curve(data, "train", "grad_norm"), 0)));
    json_decref(data);
    free(text);
    history_clear(&h);
    lckv_trainer_free(trainer);
}

static void a_report_that_cannot_be_written_ends_no_run(void **state) {
    run t;
    begin(&t, state);
    OK(folder_create(in(t.folder, "out/report.html/in the way")));
    t.options.overwrite_output_dir = true;
    t.options.max_steps = 4;
    FAILS(run_go(&t), LCKV_ERROR_FILE, "report.html"); /* only at the end */
    assert_true(folder_exists(in(t.folder, "out/checkpoint-4")));
    assert_true(output_has(&t, "model.safetensors"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_page_needs_no_other_file),
        IN_FOLDER(it_has_the_curves_of_the_run),
        IN_FOLDER(a_run_that_went_on_has_the_speeds_of_before),
        IN_FOLDER(neighbours_of_a_long_run_are_one_point),
        IN_FOLDER(a_report_that_cannot_be_written_ends_no_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
