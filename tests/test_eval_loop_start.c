/* A folder with a learned start: scoring, the engine and the program use it, and the result does not depend on other
 * requests. */
#include "model/model.h"

#include "model_folder.h"
#include "program.h"

static double mean_nll(const char *name, bool no_loop_start, int iterations, lckv_encoding encoding) {
    enum { COUNT = 40 };
    lckv_device *d;
    lckv_model *m;
    int32_t ids[COUNT];
    float logprobs[COUNT];
    double sum = 0;
    lckv_model_options options = lckv_model_defaults();
    lckv_score_options score = lckv_score_defaults();
    options.no_loop_start = no_loop_start;
    score.encoding = encoding;
    score.encoding_iterations = iterations;
    OK(lckv_device_open("cpu", 2, &d));
    OK(lckv_model_open(d, name, &options, &m));
    for (int i = 0; i < COUNT; i++) ids[i] = 3 + i * 7 % 97;
    OK(lckv_score(m, ids, COUNT, &score, logprobs));
    for (int i = 0; i + 1 < COUNT; i++) sum -= (double)logprobs[i];
    lckv_model_free(m);
    lckv_device_close(d);
    return sum / (COUNT - 1);
}

static const char *write_text(const folder *f) {
    static char text[6000];
    size_t at = 0;
    for (int i = 0; at < sizeof text - 64; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "the %s sat on the %s. ", i % 3 ? "cat" : "dog",
                               i % 5 ? "mat" : "log");
    return put_text_in(f, "text.txt", text);
}

static lckv_fit_result fit_to(lckv_device *d, const char *name, const char *const *text) {
    lckv_fit_result result;
    lckv_fit_options o = lckv_fit_defaults();
    o.model_name_or_path = o.output_dir = name;
    o.files = text;
    o.file_count = 1;
    o.steps = 60;
    o.block_size = 32;
    OK(lckv_fit_loop_start(d, &o, &result));
    return result;
}

static void a_folder_with_a_start_is_used(void **state) {
    const folder *f = *state;
    lckv_device *d;
    lckv_fit_result result;
    lckv_fit_options o = lckv_fit_defaults();
    const char *text = write_text(f), *name = in(f, "model");
    double before = mean_nll(name, false, 1, LCKV_ENCODING_PLAN);
    double exact = mean_nll(name, false, 0, LCKV_ENCODING_SEQUENTIAL);
    OK(lckv_device_open("cpu", 2, &d));
    result = fit_to(d, name, &text);
    assert_int_equal(result.plan_iterations, 3);
    assert_int_equal(result.measured, 3);
    assert_true(result.parameters > 0 && result.default_iterations >= 1 && result.default_iterations <= 3);
    assert_true(mean_nll(name, true, 1, LCKV_ENCODING_PLAN) == before);
    assert_true(mean_nll(name, false, 1, LCKV_ENCODING_PLAN) != before);
    assert_true(mean_nll(name, false, 0, LCKV_ENCODING_SEQUENTIAL) == exact);
    assert_true(mean_nll(name, false, 0, LCKV_ENCODING_PLAN) ==
                mean_nll(name, false, result.default_iterations, LCKV_ENCODING_PLAN));
    assert_true(fabs(mean_nll(name, false, 40, LCKV_ENCODING_PLAN) - exact) < 1e-4);
    o.model_name_or_path = o.output_dir = name;
    FAILS(lckv_fit_loop_start(d, &o, &result), LCKV_ERROR_ARGUMENT, "text file");
    o.files = &text;
    o.file_count = 1;
    o.learning_rate = 2;
    FAILS(lckv_fit_loop_start(d, &o, &result), LCKV_ERROR_ARGUMENT, "learning_rate");
    lckv_device_close(d);
}

/* Evaluation takes the iterations that generation and scoring take. */
static void evaluation_takes_the_default_iterations(void **state) {
    enum { COUNT = 40 };
    const folder *f = *state;
    lckv_device *d;
    lckv_model *m;
    lckv_perplexity *p;
    int32_t ids[COUNT];
    const char *text = write_text(f), *name = in(f, "model");
    OK(lckv_device_open("cpu", 2, &d));
    fit_to(d, name, &text);
    OK(lckv_model_open(d, name, NULL, &m));
    m->loop_start->kl.start[0] = 0; /* one iteration is enough */
    lckv_perplexity_options o = lckv_perplexity_defaults();
    o.encoding = LCKV_ENCODING_PLAN;
    o.block_size = COUNT;
    for (int i = 0; i < COUNT; i++) ids[i] = 3 + i * 7 % 97;
    OK(lckv_perplexity_open(m, &o, &p));
    OK(lckv_perplexity_read(p, ids, COUNT));
    double found = lckv_perplexity_so_far(p).mean_nll;
    lckv_perplexity_free(p);
    lckv_model_free(m);
    lckv_device_close(d);
    assert_true(fabs(found - mean_nll(name, false, 1, LCKV_ENCODING_PLAN)) < 1e-5);
    assert_true(fabs(found - mean_nll(name, false, 3, LCKV_ENCODING_PLAN)) > 1e-4);
}

/* ---------------------------------------------------------------- the engine */

enum { REQUESTS = 3, PROMPT = 45 };

static void keep_logprob(void *user, const lckv_event *e) {
    double *logprobs = user;
    if (e->token >= 0) logprobs[e->request - 1] = e->logprob;
}

/* The log-probability of the first new token of each prompt, with a budget of prompt tokens per step. */
static void run_engine(lckv_model *m, int first, int count, int64_t budget, double *logprobs) {
    lckv_engine *e;
    lckv_engine_options o = lckv_engine_defaults();
    o.batch_invariant = true;
    o.prefill_chunk_size = 16;
    o.max_num_batched_tokens = budget;
    o.callback = keep_logprob;
    o.user = logprobs + first;
    OK(lckv_engine_create(m, NULL, &o, &e));
    for (int i = first; i < first + count; i++) {
        int32_t ids[PROMPT];
        uint64_t id;
        lckv_request r = lckv_request_defaults();
        for (int k = 0; k < PROMPT; k++) ids[k] = 3 + (k * (5 + i) + i) % 200;
        r.prompt = (lckv_prompt){ids, PROMPT - 5 * i};
        r.max_new_tokens = 2;
        r.temperature = 0;
        r.ignore_eos = true;
        OK(lckv_engine_submit(e, &r, &id));
    }
    while (!lckv_engine_idle(e)) OK(lckv_engine_step(e));
    lckv_engine_free(e);
}

static void company_and_budget_change_no_bit(void **state) {
    const folder *f = *state;
    lckv_device *d;
    lckv_model *m;
    double alone[REQUESTS], together[REQUESTS], narrow[REQUESTS];
    const char *text = write_text(f), *name = in(f, "model");
    OK(lckv_device_open("cpu", 2, &d));
    fit_to(d, name, &text);
    OK(lckv_model_open(d, name, NULL, &m));
    for (int i = 0; i < REQUESTS; i++) run_engine(m, i, 1, 0, alone);
    run_engine(m, 0, REQUESTS, 0, together);
    run_engine(m, 0, REQUESTS, 17, narrow);
    for (int i = 0; i < REQUESTS; i++) {
        assert_true(alone[i] == together[i]);
        assert_true(alone[i] == narrow[i]);
    }
    lckv_model_free(m);
    lckv_device_close(d);
}

/* ---------------------------------------------------------------- the program */

static void convert_fits_a_start(void **state) {
    const folder *f = *state;
    const char *text = write_text(f), *name = in(f, "model"), *out = in(f, "out");
    outcome o = RUN(f, "convert", "--model_name_or_path", name, "--fit_loop_start", text, "--loop_start_steps", "20",
                    "--loop_start_width", "8", "--device", "cpu", "--json", "--output_dir", out);
    if (o.code) fail_msg("%s", o.messages);
    json_t *result = json_loads(o.output, 0, NULL), *fit = json_object_get(result, "loop_start");
    assert_int_equal(json_integer_value(json_object_get(fit, "steps")), 20);
    assert_int_equal(json_array_size(json_object_get(fit, "kl_zeros")), 3);
    assert_non_null(strstr(o.messages, "iterations from it are as exact as 3 from zeros"));
    json_decref(result);
    outcome_free(&o);
    assert_true(file_exists(in(f, "out/loop_start.safetensors")));
    assert_true(mean_nll(out, true, 1, LCKV_ENCODING_PLAN) == mean_nll(name, false, 1, LCKV_ENCODING_PLAN));
    o = RUN(f, "score", "--model_name_or_path", out, "--text", "the cat sat on the mat. the cat", "--no_loop_start");
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    put_text(in(f, "out/loop_start.safetensors"), "damaged");
    o = RUN(f, "score", "--model_name_or_path", out, "--text", "the cat sat on the mat. the cat");
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "loop_start.safetensors"));
    outcome_free(&o);
    o = RUN(f, "convert", "--model_name_or_path", name, "--fit_loop_start", text, "--config_overrides",
            "layer_types=0_1_2_3", "--output_dir", in(f, "plain"));
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "loops"));
    outcome_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_folder_with_a_start_is_used, model_folder_open, folder_close),
        cmocka_unit_test_setup_teardown(evaluation_takes_the_default_iterations, model_folder_open, folder_close),
        cmocka_unit_test_setup_teardown(company_and_budget_change_no_bit, model_folder_open, folder_close),
        cmocka_unit_test_setup_teardown(convert_fits_a_start, model_folder_open, folder_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
