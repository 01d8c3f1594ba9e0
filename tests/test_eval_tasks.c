/* lckv_eval() against lm-evaluation-harness 0.4.13 with the trained model stories260k: seven tasks on the documents of
 * SHARED/data/eval; MMLU, LAMBADA and SciQ on those of tests/eval (reference.py there created expected.json).
 * Log-likelihoods to 1e-3; words and choices exactly. test_eval_parts.c tests the metrics.
 *
 * Few documents per task, to be fast; docs/evaluation.md reports a run over all of them. */
#include "base/text/json.h"

#include "folder_fixture.h"

#include <math.h>

#define TOLERANCE 1e-3
#define MODEL SHARED_DIR "/data/models/stories260k"
#define DOCUMENTS SHARED_DIR "/data/eval" /* compressed */

typedef struct opened {
    lckv_device *device;
    lckv_model *model;
    lckv_tokenizer *tokenizer;
    json_t *own, *shared; /* expected values */
} opened;

static int open_all(void **state) {
    static opened o;
    if (access(MODEL, R_OK)) return 0;
    OK(lckv_device_open("cpu", 2, &o.device));
    OK(lckv_model_open(o.device, MODEL, NULL, &o.model));
    OK(lckv_tokenizer_open(MODEL, &o.tokenizer));
    OK(json_read_file(SOURCE_DIR "/tests/eval/expected.json", &o.own));
    OK(json_read_file(SHARED_DIR "/data/eval/expected_stories260k.json", &o.shared));
    *state = &o;
    return 0;
}

static int close_all(void **state) {
    opened *o = *state;
    if (!o) return 0;
    lckv_tokenizer_free(o->tokenizer);
    lckv_model_free(o->model);
    lckv_device_close(o->device);
    json_decref(o->own);
    json_decref(o->shared);
    return 0;
}

static json_t *evaluate(const opened *o, const char *task, const char *data_dir, int64_t shots, int limit) {
    lckv_eval_options options = lckv_eval_defaults();
    char *text;
    json_t *results;
    options.tasks = &task;
    options.task_count = 1;
    options.data_dir = data_dir;
    options.num_fewshot = shots;
    options.limit = limit;
    options.log_samples = true;
    OK(lckv_eval(o->model, o->tokenizer, &options, &text));
    OK(json_parse(text, strlen(text), "results", &results));
    lckv_free(text);
    return results;
}

/* Checks sample i of a task: its log-likelihoods, and whether greedy decoding generates them, if that is known. */
static void compare_sample(const json_t *sample, const json_t *expected, size_t i) {
    const json_t *answers = json_object_get(sample, "filtered_resps"), *answer;
    const json_t *sums = json_array_get(json_object_get(expected, "loglikelihoods"), i);
    const json_t *greedy = json_array_get(json_object_get(expected, "greedy"), i);
    size_t j;
    assert_int_equal(json_array_size(answers), json_array_size(sums));
    json_array_foreach(answers, j, answer) {
        double found = json_real_value(json_array_get(answer, 0)), right = json_number_value(json_array_get(sums, j));
        if (!(fabs(found - right) <= TOLERANCE)) fail_msg("document %zu, choice %zu: %g, not %g", i, j, found, right);
        if (greedy) assert_true(json_equal(json_array_get(answer, 1), json_array_get(greedy, j)));
    }
}

static void compare_task(const json_t *results, const char *task, const json_t *expected, int documents) {
    const json_t *samples = json_object_get(json_object_get(results, "samples"), task), *sample;
    const json_t *first = json_object_get(expected, "first_document");
    size_t i;
    assert_non_null(expected);
    assert_int_equal(json_array_size(samples), documents);
    json_array_foreach(samples, i, sample) compare_sample(sample, expected, i);
    if (first) assert_true(json_equal(json_object_get(json_array_get(samples, 0), "arguments"), first));
}

static const opened *opened_or_skip(void **state) {
    if (*state) return *state;
    print_message("skipped: %s is absent\n", MODEL);
    skip();
    return NULL;
}

/* ---------------------------------------------------------------- own documents */

#define OWN SOURCE_DIR "/tests/eval"

static void mmlu_by_subject(void **state) {
    const opened *o = opened_or_skip(state);
    json_t *r = evaluate(o, "mmlu", OWN, 5, 1);
    const json_t *parts = json_object_get(json_object_get(r, "group_subtasks"), "mmlu");
    assert_int_equal(json_array_size(parts), 2);
    compare_task(r, "mmlu_high_school_chemistry", json_object_get(o->own, "mmlu_high_school_chemistry 5"), 1);
    compare_task(r, "mmlu_elementary_mathematics", json_object_get(o->own, "mmlu_elementary_mathematics 5"), 1);
    json_decref(r);
}

static void lambada(void **state) {
    const opened *o = opened_or_skip(state);
    json_t *r = evaluate(o, "lambada_openai", OWN, 0, 8);
    compare_task(r, "lambada_openai", json_object_get(o->own, "lambada_openai 0"), 8);
    json_decref(r);
}

static void sciq_with_examples(void **state) {
    const opened *o = opened_or_skip(state);
    json_t *r = evaluate(o, "sciq", OWN, 2, 1);
    compare_task(r, "sciq", json_object_get(o->own, "sciq 2"), 1);
    json_decref(r);
}

/* ---------------------------------------------------------------- shared documents */

static void compare_shared(const opened *o, const char *task) {
    json_t *r = evaluate(o, task, DOCUMENTS, 0, 1);
    compare_task(r, task, json_object_get(o->shared, task), 1);
    json_decref(r);
}

static void the_seven_tasks(void **state) {
    static const char *const TASKS[] = {"piqa",  "openbookqa", "arc_easy",  "arc_challenge",
                                        "boolq", "hellaswag",  "winogrande"};
    const opened *o = opened_or_skip(state);
    for (int i = 0; i < 7; i++) compare_shared(o, TASKS[i]);
}

/* Contexts that name a choice each, after few-shot examples that are drawn with the harness's seed. */
static void examples_of_winogrande(void **state) {
    const opened *o = opened_or_skip(state);
    json_t *r = evaluate(o, "winogrande", DOCUMENTS, 3, 1);
    compare_task(r, "winogrande", json_object_get(o->own, "winogrande 3"), 1);
    json_decref(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mmlu_by_subject),        cmocka_unit_test(lambada),
        cmocka_unit_test(sciq_with_examples),     cmocka_unit_test(the_seven_tasks),
        cmocka_unit_test(examples_of_winogrande),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
