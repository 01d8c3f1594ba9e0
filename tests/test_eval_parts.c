/* Parts of lckv eval: templates, Python's random numbers, documents, task descriptions, questions. */
#include "eval/tasks/python_random.h"
#include "eval/tasks/task_metrics.h"
#include "eval/tasks/task_prompt.h"
#include "eval/tasks/task_template.h"

#include "folder_fixture.h"

#include <math.h>

static json_t *parse(const char *text) {
    json_t *value;
    OK(json_parse(text, strlen(text), "test", &value));
    return value;
}

/* ---------------------------------------------------------------- templates */

static const char DOCUMENT[] = "{\"q\": \" Why\\u00a0?\\t\", \"n\": 3, \"list\": [\"a-b\", \"c-d-e\"],"
                               "\"in\": {\"text\": [\"x\"]}, \"h\": \"\\u00e9A [no] b [title] c [open\\n] d\"}";

static void assert_fills(const char *source, const char *expected) {
    text_buffer out = {0};
    json_t *document = parse(DOCUMENT);
    OK(task_template_render(source, document, &out));
    assert_string_equal(out.data ? out.data : "", expected);
    text_free(&out);
    json_decref(document);
}

static void templates_fill(void **state) {
    (void)state;
    assert_fills("plain } { text", "plain } { text");
    assert_fills("<{{q}}>", "< Why\u00a0?\t>");
    assert_fills("<{{q|trim}}>{{ n }}{{list[1]}}", "<Why\u00a0?>3c-d-e");
    assert_fills("<{{q|ltrim}}>", "<Why\u00a0?\t>");
    assert_fills("{{in.text[0]}}", "x");
    assert_fills("{{list[1]|before('-')}} {{list[1]|after('-')}}", "c d-e");
    assert_fills("{{list[1]|before_last('-')}} {{list[1]|after_last('-')}}", "c-d e");
    assert_fills("<{{list[1]|before('/')}}> {{list[1]|after_last('/')}}", "<> c-d-e"); /* like str.rpartition() */
    assert_fills("{{h|replace(' [title]', '. ')|without('[', ']')|replace('  ', ' ')}}", "\u00e9A b. c [open\n] d");
    assert_fills("{{h|capitalize|before(' ')}}", "\u00c9a");
}

static void lists_are_filtered_item_by_item(void **state) {
    (void)state;
    json_t *document = parse(DOCUMENT), *value, *expected = parse("[\"B\", \"D-e\"]");
    OK(task_template_value("list|after('-')|capitalize", document, &value));
    assert_true(json_equal(value, expected));
    json_decref(document);
    json_decref(expected);
    json_decref(value);
}

static void refuses_template(const char *source, const char *part) {
    text_buffer out = {0};
    json_t *document = parse(DOCUMENT);
    FAILS(task_template_render(source, document, &out), LCKV_ERROR_FORMAT, part);
    text_free(&out);
    json_decref(document);
}

static void wrong_templates_say_so(void **state) {
    (void)state;
    refuses_template("{{q", "without }}");
    refuses_template("{{}}", "expected a name");
    refuses_template("{{zzz}}", "no field 'zzz'");
    refuses_template("{{list[7]}}", "no item 7");
    refuses_template("{{list[0}}", "expected ]");
    refuses_template("{{list[x]}}", "an integer");
    refuses_template("{{q|shout}}", "unknown filter 'shout'");
    refuses_template("{{q|before}}", "expected (");
    refuses_template("{{q|before(x)}}", "single quotes");
    refuses_template("{{q|before('x}}", "ends in a single quote");
    refuses_template("{{q trim}}", "the end of the expression");
    refuses_template("{{n|trim}}", "expected a string");
    refuses_template("{{list}}", "expected a string");
}

/* ---------------------------------------------------------------- Python's random numbers */

/* python3.11: r = random.Random(1234); r.sample(range(100), 3); r.sample(range(1838), 6); r.sample(range(10), 9);
 * r.choices(range(50), k=5) */
static void draws_as_python_does(void **state) {
    (void)state;
    static const int64_t expected[] = {99, 56, 14, 15, 185, 1652, 1192, 71, 1375, 1, 9, 5, 8, 0, 7, 4, 6, 2};
    int64_t drawn[18];
    python_random r;
    python_random_seed(&r, 1234);
    OK(python_random_sample(&r, 100, 3, drawn));
    OK(python_random_sample(&r, 1838, 6, drawn + 3));
    OK(python_random_sample(&r, 10, 9, drawn + 9));
    assert_memory_equal(drawn, expected, sizeof expected);
    static const int64_t choices[] = {30, 7, 9, 5, 0};
    for (int i = 0; i < 5; i++) assert_int_equal(python_random_choice(&r, 50), choices[i]);
    FAILS(python_random_sample(&r, 2, 3, drawn), LCKV_ERROR_ARGUMENT, "3 of 2");
}

/* ---------------------------------------------------------------- descriptions */

#define DESCRIPTION(rest) "{\"task\": \"t\", \"files\": [\"t\"], \"metrics\": [\"acc\"]" rest "}"
#define FORMS ", \"forms\": [{\"text\": \"{{q}}\", \"choices\": \"c\", \"gold\": \"g\"}]"

static int open_description(const folder *f, const char *text, eval_task *task) {
    put_text(in(f, "t.json"), text);
    return eval_task_open(in(f, "t.json"), task);
}

static void refuses_description(const folder *f, int code, const char *text, const char *part) {
    eval_task task;
    FAILS(open_description(f, text, &task), code, part);
    assert_null(task.root);
}

static void wrong_descriptions_say_so(void **state) {
    const folder *f = *state;
    eval_task task;
    const int FORMAT = LCKV_ERROR_FORMAT;
    refuses_description(f, FORMAT, "[]", "should be an object");
    refuses_description(f, FORMAT, "{}", "'task' is missing");
    refuses_description(f, FORMAT, "{\"task\": \"t\"}", "'files' should name");
    refuses_description(f, FORMAT, DESCRIPTION(""), "'forms' should be a list");
    refuses_description(f, FORMAT, DESCRIPTION(", \"forms\": [3]"), "should be an object");
    refuses_description(f, FORMAT, DESCRIPTION(", \"forms\": [{\"text\": \"\", \"choices\": \"c\"}]"), "'gold' should");
    refuses_description(f, FORMAT, DESCRIPTION(", \"forms\": [{\"text\": \"\", \"gold\": 0}]"), "requires 'choices'");
    refuses_description(f, FORMAT, DESCRIPTION(", \"forms\": [{\"text\": 1}]"), "'text' should be");
    refuses_description(f, FORMAT, DESCRIPTION(", \"num_fewshot\": -1" FORMS), "0 to 1000");
    refuses_description(f, LCKV_ERROR_UNSUPPORTED, DESCRIPTION(", \"sampler\": \"best\"" FORMS), "found 'best'");
    refuses_description(f, LCKV_ERROR_UNSUPPORTED, DESCRIPTION(", \"output_type\": \"generate_until\"" FORMS),
                        "found 'generate_until'");
    refuses_description(f, LCKV_ERROR_UNSUPPORTED,
                        "{\"task\": \"t\", \"files\": [\"t\"], \"metrics\": [\"bleu\"]" FORMS "}", "no metric 'bleu'");
    FAILS(eval_task_open("piqqa", &task), LCKV_ERROR_ARGUMENT,
          "unknown task 'piqqa'; expected arc_challenge, arc_easy");
    FAILS(eval_task_open(in(f, "none.json"), &task), LCKV_ERROR_FILE, "none.json");
}

/* ---------------------------------------------------------------- documents */

static void expect_documents(const folder *f, const char *name, const char *text, int64_t lines, const char *expected) {
    const char *const names[] = {"absent", "d"};
    task_documents d;
    json_t *rows = parse(expected);
    put_text(in(f, name), text);
    OK(task_documents_load(f->path, names, 2, lines, &d));
    assert_true(json_equal(d.rows, rows));
    task_documents_free(&d);
    json_decref(rows);
    remove(in(f, name));
}

static void documents_are_read(void **state) {
    const folder *f = *state;
    expect_documents(f, "d.jsonl", "{\"a\": 1}\r\n\n{\"a\": 2}", 0, "[{\"a\": 1}, {\"a\": 2}]");
    expect_documents(f, "d.json", " [{\"a\": 1},\n {\"a\": 2}]", 0, "[{\"a\": 1}, {\"a\": 2}]");
    expect_documents(f, "d.txt", "x\ny\nz\n\n", 2, "[{\"lines\": [\"x\", \"y\"]}, {\"lines\": [\"z\", \"\"]}]");
}

static void wrong_documents_say_where(void **state) {
    const folder *f = *state;
    const char *const names[] = {"d"};
    task_documents d;
    put_text(in(f, "d.txt"), "x\ny\nz\n");
    FAILS(task_documents_load(f->path, names, 1, 2, &d), LCKV_ERROR_FORMAT, "found 3 lines");
    FAILS(task_documents_load(f->path, names, 1, 0, &d), LCKV_ERROR_FORMAT, "requires 'lines'");
    put_text(in(f, "d.jsonl"), "{}\n[1]\n");
    FAILS(task_documents_load(f->path, names, 1, 0, &d), LCKV_ERROR_FORMAT, "d.jsonl:2: expected a JSON object");
    put_text(in(f, "d.jsonl"), "{}\n\n{\"a\n");
    FAILS(task_documents_load(f->path, names, 1, 0, &d), LCKV_ERROR_FORMAT, "d.jsonl:3: line 1");
    assert_null(d.rows);
}

/* ---------------------------------------------------------------- the hub's formats, and the harness's terms for them
 */

typedef struct form_case {
    const char *task, *document, *text, *answer;
    int choices;
} form_case;

static const form_case FORM_CASES[] = {
    {"piqa", "{\"goal\": \"G\", \"sol1\": \"A\", \"sol2\": \"B\", \"label\": 1}", "Question: G\nAnswer:", "B", 2},
    {"arc_easy",
     "{\"question\": \"Q\", \"choices\": {\"text\": [\"A\", \"B\", \"C\"], \"label\": [\"1\", \"2\", \"3\"]},"
     "\"answerKey\": \"3\"}",
     "Question: Q\nAnswer:", "C", 3},
    {"arc_challenge",
     "{\"question\": \"Q\", \"choices\": {\"text\": [\"A\", \"B\"], \"label\": [\"A\", \"B\"]},"
     "\"answerKey\": \"A\"}",
     "Question: Q\nAnswer:", "A", 2},
    {"openbookqa",
     "{\"question_stem\": \"Q\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]},"
     "\"answerKey\": \" B\"}",
     "Q", "b", 2},
    {"boolq", "{\"passage\": \"P\", \"question\": \"q\", \"label\": 0}", "P\nQuestion: q?\nAnswer:", "no", 2},
    {"hellaswag",
     "{\"activity_label\": \"Ride\", \"ctx_a\": \"A [x] b [title] c.\", \"ctx_b\": \"the MAN\", \"endings\": "
     "[\" one [y]\", \"two\", \"three\", \"a  b\"], \"label\": \"3\"}",
     "Ride: A b. c. The man", "a b", 4},
    {"winogrande",
     "{\"sentence\": \"Ann met Bo, so _ left.\", \"option1\": \"Ann\", \"option2\": \"Bo\","
     "\"answer\": \"2\"}",
     "Ann met Bo, so Bo", "left.", 2},
    {"mmlu", "{\"question\": \" Q \", \"subject\": \"s\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], \"answer\": 2}",
     "Q\nA. a\nB. b\nC. c\nD. d\nAnswer:", "C", 4},
    {"sciq",
     "{\"question\": \"Q\", \"distractor1\": \"a\", \"distractor2\": \"b\", \"distractor3\": \"c\","
     "\"correct_answer\": \"d\", \"support\": \"\\n S\"}",
     "S\nQuestion: Q\nAnswer:", "d", 4},
    {"lambada_openai", "{\"text\": \"he said it was her\"}", "he said it was", " her", 0},
};

static void tasks_know_the_hubs_fields(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FORM_CASES / sizeof *FORM_CASES; i++) {
        const form_case *c = &FORM_CASES[i];
        json_t *document = parse(c->document);
        eval_task task;
        task_prompt a;
        OK(eval_task_open(c->task, &task));
        OK(task_prompt_make(&task, document, &a));
        assert_string_equal(task_prompt_text(&a), c->text);
        assert_string_equal(task_prompt_answer(&a), c->answer);
        assert_int_equal(a.choice_count, c->choices);
        task_prompt_free(&a);
        eval_task_close(&task);
        json_decref(document);
    }
}

static void refuses_document(const char *name, const char *text, const char *part) {
    json_t *document = parse(text);
    eval_task task;
    task_prompt a;
    OK(eval_task_open(name, &task));
    FAILS(task_prompt_make(&task, document, &a), LCKV_ERROR_FORMAT, part);
    eval_task_close(&task);
    json_decref(document);
}

static void documents_that_do_not_fit_say_so(void **state) {
    (void)state;
    refuses_document("piqa", "{\"goal\": \"G\"}", "no form of the task");
    refuses_document("piqa", "{\"query\": \"G\", \"choices\": [\"a\", \"b\"], \"gold\": 2}", "is 2, but there are 2");
    refuses_document("piqa", "{\"query\": \"G\", \"choices\": [\"a\", \"b\"], \"gold\": \"x\"}", "an integer");
    refuses_document("piqa", "{\"query\": \"G\", \"choices\": [], \"gold\": 0}", "1 to 64 texts, found 0");
    refuses_document("piqa", "{\"query\": \"G\", \"choices\": [1], \"gold\": 0}", "only texts");
    refuses_document("arc_easy",
                     "{\"question\": \"Q\", \"choices\": {\"text\": [\"a\"], \"label\": [\"A\"]},"
                     "\"answerKey\": \"E\"}",
                     "none of the labels");
}

/* ---------------------------------------------------------------- metrics */

/* Two of four are correct: 0.5, and sqrt(4 * 0.25 / 3) / sqrt(4). By length in characters, the second choice always
 * wins. */
static void means_and_their_errors(void **state) {
    (void)state;
    eval_answer answers[2] = {{-4, false}, {-6, false}};
    int lengths[2] = {2, 6}, count;
    eval_question items[4];
    eval_task task = {.kind = TASK_MULTIPLE_CHOICE, .acc = true, .acc_norm = true};
    eval_questions part = {.name = "t", .items = items, .count = 4};
    eval_metric metrics[EVAL_MAX_METRICS];
    for (int i = 0; i < 4; i++)
        items[i] = (eval_question){.count = 2, .lengths = lengths, .gold = i % 2, .answers = answers};
    items[0].gold = items[1].gold = 0;
    OK(eval_metrics_of(&task, &part, metrics, &count));
    assert_int_equal(count, 2);
    assert_true(fabs(metrics[0].value - 0.75) < 1e-15 && fabs(metrics[0].error - 0.25) < 1e-15);
    assert_true(fabs(metrics[1].value - 0.25) < 1e-15 && fabs(metrics[1].error - 0.25) < 1e-15);
    part.count = 1;
    OK(eval_metrics_of(&task, &part, metrics, &count));
    assert_true(isnan(metrics[0].error));
    part.count = 0;
    FAILS(eval_metrics_of(&task, &part, metrics, &count), LCKV_ERROR_FORMAT, "no documents");
}

/* Metrics from the harness's log-likelihoods (tests/eval/expected.json), which were rounded to 4 digits. */
static void metrics_are_the_harnesss(void **state) {
    (void)state;
    json_t *all, *sums;
    size_t i;
    int count;
    eval_answer answers[50];
    eval_question items[50];
    eval_metric metrics[EVAL_MAX_METRICS];
    eval_task task = {.kind = TASK_LOGLIKELIHOOD, .acc = true, .perplexity = true};
    eval_questions part = {.name = "t", .items = items, .count = 50};
    OK(json_read_file(SOURCE_DIR "/tests/eval/expected.json", &all));
    const json_t *expected = json_object_get(all, "lambada_openai 2"), *greedy = json_object_get(expected, "greedy");
    json_array_foreach(json_object_get(expected, "loglikelihoods"), i, sums) {
        answers[i].loglikelihood = json_number_value(json_array_get(sums, 0));
        answers[i].greedy = json_is_true(json_array_get(json_array_get(greedy, i), 0));
        items[i] = (eval_question){.count = 1, .answers = &answers[i]};
    }
    OK(eval_metrics_of(&task, &part, metrics, &count));
    assert_int_equal(count, 2);
    for (int m = 0; m < count; m++) {
        char value[64], error[64];
        snprintf(value, sizeof value, "%s,none", metrics[m].name);
        snprintf(error, sizeof error, "%s_stderr,none", metrics[m].name);
        const json_t *right = json_object_get(expected, "metrics");
        double a = json_number_value(json_object_get(right, value)),
               b = json_number_value(json_object_get(right, error));
        assert_true(fabs(metrics[m].value / a - 1) < 1e-4 && fabs(metrics[m].error / b - 1) < 1e-4);
    }
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_fill),
        cmocka_unit_test(lists_are_filtered_item_by_item),
        cmocka_unit_test(wrong_templates_say_so),
        cmocka_unit_test(draws_as_python_does),
        cmocka_unit_test_setup_teardown(wrong_descriptions_say_so, folder_open, folder_close),
        cmocka_unit_test_setup_teardown(documents_are_read, folder_open, folder_close),
        cmocka_unit_test_setup_teardown(wrong_documents_say_where, folder_open, folder_close),
        cmocka_unit_test(tasks_know_the_hubs_fields),
        cmocka_unit_test(documents_that_do_not_fit_say_so),
        cmocka_unit_test(means_and_their_errors),
        cmocka_unit_test(metrics_are_the_harnesss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
