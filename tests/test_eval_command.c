/* lckv eval as a program: the table, result files, invalid flags. Uses a small random model with a tokenizer that the
 * test creates. */
#include "program.h"

#include "model_folder.h"

static const char PIQA[] = "{\"goal\": \"the cat\", \"sol1\": \"sat on\", \"sol2\": \"a b\", \"label\": 0}\n"
                           "{\"goal\": \"a stop\", \"sol1\": \"b\", \"sol2\": \"the cat\", \"label\": 1}\n"
                           "{\"goal\": \"on a\", \"sol1\": \"cat.\", \"sol2\": \"sat\", \"label\": 1}\n";

static int open_with_questions(void **state) {
    if (model_folder_open(state)) return -1;
    put_text(in((folder *)*state, "piqa.jsonl"), PIQA);
    return 0;
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, open_with_questions, folder_close)
#define EVAL(f) "eval", "--model_name_or_path", in((f), "model")
#define TASKS(f) EVAL(f), "--data_dir", (f)->path, "--tasks"

static void the_table_and_the_file(void **state) {
    const folder *f = *state;
    size_t bytes;
    outcome o = RUN(f, TASKS(f), "piqa", "--output", in(f, "r.json"), "--log_samples", "--encoding", "sequential");
    json_t *r;
    if (o.code) fail_msg("%s", o.messages);
    const char *head = "|Tasks|Version|Filter|n-shot| Metric |   |";
    assert_true(!strncmp(o.output, head, strlen(head)));
    assert_non_null(strstr(o.output, "\n|piqa |      1|none  |     0|acc     |↑  |"));
    assert_non_null(strstr(o.output, "\n|     |       |none  |     0|acc_norm|↑  |"));
    outcome_free(&o);
    char *text = get(in(f, "r.json"), &bytes);
    OK(json_parse(text, bytes, "r.json", &r));
    json_t *samples = json_object_get(json_object_get(r, "samples"), "piqa");
    assert_int_equal(json_array_size(samples), 3);
    json_t *wanted =
        json_pack("[[s, s], [s, s]]", "Question: the cat\nAnswer:", " sat on", "Question: the cat\nAnswer:", " a b");
    assert_true(json_equal(json_object_get(json_array_get(samples, 0), "arguments"), wanted));
    json_t *n = json_object_get(json_object_get(r, "n-samples"), "piqa");
    assert_int_equal(json_integer_value(json_object_get(n, "effective")), 3);
    json_decref(wanted);
    json_decref(r);
    free(text);
}

/* With m + b = 3 and longer texts the plan is approximate, so that the exact form gives other sums. */
static void encodings_differ_and_limits_hold(void **state) {
    const folder *f = *state;
    json_t *a = RUN_JSON(f, TASKS(f), "piqa", "--log_samples", "--limit", "0.5");
    json_t *b = RUN_JSON(f, TASKS(f), "piqa", "--log_samples", "--limit", "2", "--encoding", "sequential");
    json_t *x = json_object_get(json_object_get(a, "samples"), "piqa");
    json_t *y = json_object_get(json_object_get(b, "samples"), "piqa");
    assert_int_equal(json_array_size(x), 2); /* half of three, rounded up */
    assert_int_equal(json_array_size(y), 2);
    assert_false(json_equal(x, y));
    json_decref(a);
    json_decref(b);
}

static void a_described_task(void **state) {
    const folder *f = *state;
    put_text(in(f, "own.json"),
             "{\"task\": \"own\", \"files\": [\"own_rows\"], \"metrics\": [\"acc\"], \"group_by\": \"kind\","
             "\"forms\": [{\"text\": \"{{q}}\", \"choices\": [\"a\", \"b\"], \"gold\": \"g\"}]}");
    put_text(in(f, "own_rows.jsonl"),
             "{\"q\": \"the\", \"g\": 0, \"kind\": \"x\"}\n{\"q\": \"on\", \"g\": 1, \"kind\": "
             "\"y\"}\n{\"q\": \"a\", \"g\": 1, \"kind\": \"x\"}\n");
    outcome o = RUN(f, TASKS(f), in(f, "own.json"));
    if (o.code) fail_msg("%s", o.messages);
    assert_non_null(strstr(o.output, "\n| - own_x|"));
    assert_non_null(strstr(o.output, "\n| - own_y|"));
    assert_non_null(strstr(o.output, "\n\n|Groups|"));
    outcome_free(&o);
}

static void texts_and_their_files(void **state) {
    const folder *f = *state;
    size_t bytes;
    put_text(in(f, "t.txt"), "the cat sat on the cat. a b a b the stop on a cat");
    json_t *r = RUN_JSON(f, EVAL(f), "--file", in(f, "t.txt"), "--sink_cache", "--window_length", "6",
                         "--num_eval_tokens", "9", "--output_dir", in(f, "out"));
    json_t *again = RUN_JSON(f, EVAL(f), "--file", in(f, "t.txt"), "--streaming", "--window_length", "6",
                             "--num_eval_tokens", "9", "--start_position", "4000000");
    double nll = json_real_value(json_object_get(r, "mean_nll")),
           other = json_real_value(json_object_get(again, "mean_nll"));
    assert_int_equal(json_integer_value(json_object_get(r, "tokens")), 9);
    assert_true(nll > 0 && nll - other < 1e-4 && other - nll < 1e-4);
    json_decref(r);
    json_decref(again);
    char *log = get(in(f, "out/log.txt"), &bytes), *ppl = get(in(f, "out/ppl.txt"), &bytes);
    int lines = 0;
    double sum = 0;
    for (char *at = log; *at; at = strchr(at, '\n') + 1, lines++) sum += strtod(at, NULL);
    assert_int_equal(lines, 9);
    assert_true(sum / 9 - nll < 1e-6 && nll - sum / 9 < 1e-6);
    assert_true(strtod(ppl, NULL) > 1);
    assert_true(file_exists(in(f, "out/curve.csv")));
    assert_file_says(in(f, "out/curve.svg"), "<polyline");
    free(log);
    free(ppl);
}

static void texts_that_are_not_utf8_cause_a_warning(void **state) {
    const folder *f = *state;
    put_text(in(f, "good.txt"), "the cat sat");
    put_text(in(f, "latin1.txt"), "the cat\n\ncaf\xe9");
    char files[2 * PATH_BYTES];
    snprintf(files, sizeof files, "%s,%s", in(f, "good.txt"), in(f, "latin1.txt"));
    outcome o = RUN(f, EVAL(f), "--file", files);
    assert_int_equal(o.code, 0);
    assert_non_null(
        strstr(o.messages, "latin1.txt: line 3, byte 4 is not valid UTF-8: each ill-formed part is read as"));
    assert_null(strstr(o.messages, "good.txt: line"));
    outcome_free(&o);
}

static void wrong_use(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "expected either --data_dir (with --tasks) or --file", EVAL(f));
    REFUSES(f, 2, "expected either --data_dir (with --tasks) or --file", TASKS(f), "piqa", "--file", "x");
    REFUSES(f, 2, "--data_dir is required", EVAL(f), "--tasks", "piqa");
    REFUSES(f, 2, "must be less than --window_length", EVAL(f), "--file", "x", "--streaming", "--window_length", "2");
    REFUSES(f, 2, "must be less than --block_size", EVAL(f), "--file", "x", "--stride", "9", "--block_size", "9");
    REFUSES(f, 2, "--limit has no effect with --file", EVAL(f), "--file", "x", "--limit", "3");
    REFUSES(f, 2, "--stride has no effect without --file", TASKS(f), "piqa", "--stride", "3");
    REFUSES(f, 1, "unknown task 'piqqa'", TASKS(f), "piqqa");
    REFUSES(f, 1, "expected sciq/test.jsonl", TASKS(f), "sciq");
    REFUSES(f, 1, "num_fewshot is 3, but there are 2 examples", TASKS(f), "piqa", "--num_fewshot", "3");
    REFUSES(f, 1, "cannot read", EVAL(f), "--file", in(f, "none.txt"));
    put_text(in(f, "empty.txt"), "");
    REFUSES(f, 1, "no tokens to score", EVAL(f), "--file", in(f, "empty.txt"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(the_table_and_the_file),
        WITH_MODEL(encodings_differ_and_limits_hold),
        WITH_MODEL(a_described_task),
        WITH_MODEL(texts_and_their_files),
        WITH_MODEL(texts_that_are_not_utf8_cause_a_warning),
        WITH_MODEL(wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
