/* lckv bench as a program: the rows of each measure and the values that are known in advance (tests, the batch that
 * fits a memory budget, agreement of plan and device, number of tokens a server sends); output formats; invalid flags.
 * Speeds are not checked. */
#include "served.h"

#include "model_folder.h"

#include <math.h>

static const char CONFIG[] =
    "{\"model_type\":\"%s\",\"hidden_size\":64,\"intermediate_size\":96,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":4,\"num_hidden_layers\":8,\"vocab_size\":300,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"initializer_range\":0.1,\"torch_dtype\":\"float32\"%s}";

static int folder_with_configs(void **state) {
    char text[1024];
    if (model_folder_open(state)) return -1;
    snprintf(text, sizeof text, CONFIG, "llama", "");
    put_text(in(*state, "plain.json"), text);
    snprintf(text, sizeof text, CONFIG, "lckv-llama", ",\"layer_types\":\"0_6_6_6_6_6_6_7\"");
    put_text(in(*state, "lckv.json"), text);
    return 0;
}

#define WITH_CONFIGS(test) cmocka_unit_test_setup_teardown(test, folder_with_configs, folder_close)
#define BENCH(f)                                                                                                       \
    "bench", "--device", "cpu", "--threads", "2", "--config_name", in((f), "plain.json"), in((f), "lckv.json")

enum { KV_PLAIN = 8 * 2 * 64 * 4, KV_LCKV = 3 * 2 * 64 * 4 }; /* bytes per token: slots, K and V, heads, f32 */

static const json_t *row_of(const json_t *result, size_t i) {
    return json_array_get(json_object_get(result, "rows"), i);
}

static double number(const json_t *row, const char *key) {
    const json_t *value = json_object_get(row, key);
    if (!json_is_number(value)) fail_msg("there is no number '%s'", key);
    return json_number_value(value);
}

static const char *word(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

/* ---------------------------------------------------------------- speed */

static void speed_has_a_row_for_each_test(void **state) {
    const folder *f = *state;
    static const char *const TESTS[] = {"pp40", "tg8", "pp40 @ d64", "tg8 @ d64"};
    json_t *r = RUN_JSON(f, BENCH(f), "--prompt_lengths", "40", "--new_lengths", "8", "--depths", "0,64",
                         "--repetitions", "2", "--num_sequences", "2", "--svg", in(f, "chart.svg"));
    assert_string_equal(word(r, "measure"), "speed");
    assert_int_equal(json_array_size(json_object_get(r, "rows")), 8);
    for (size_t i = 0; i < 8; i++) {
        const json_t *row = row_of(r, i);
        assert_string_equal(word(row, "model"), i < 4 ? "plain" : "lckv");
        assert_string_equal(word(row, "test"), TESTS[i % 4]);
        assert_int_equal((int)number(row, "kv_bytes_per_token"), i < 4 ? KV_PLAIN : KV_LCKV);
        assert_true(number(row, "tokens_per_second") > 0 && number(row, "deviation") >= 0);
        double first = number(row_of(r, i % 4), "tokens_per_second");
        assert_true(fabs(number(row, "ratio") - number(row, "tokens_per_second") / first) < 1e-6);
        bool prefill = i % 2 == 0;
        assert_true(number(row, prefill ? "share_of_product" : "share_of_copy") > 0);
        assert_null(json_object_get(row, prefill ? "share_of_copy" : "share_of_product"));
    }
    const json_t *reference = json_object_get(r, "reference");
    assert_true(number(reference, "product_flops_per_second") > 0 && number(reference, "copy_bytes_per_second") > 0);
    assert_null(json_object_get(r, "ops"));
    assert_file_says(in(f, "chart.svg"), "pp40 @ d64</text>");
    assert_file_says(in(f, "chart.svg"), "class=\"error over\"");
    json_decref(r);
}

static void forms_of_output(void **state) {
    const folder *f = *state;
    outcome csv = RUN(f, BENCH(f), "--prompt_lengths", "0", "--new_lengths", "4", "--repetitions", "1", "--csv");
    assert_int_equal(csv.code, 0);
    assert_non_null(strstr(csv.output, "model,kv_bytes_per_token,sequences,test,tokens_per_second,deviation,"
                                       "share_of_product,share_of_copy,ratio\n"));
    assert_non_null(strstr(csv.output, "\nlckv,1536,1,tg4,"));
    outcome md = RUN(f, BENCH(f), "--prompt_lengths", "4", "--new_lengths", "0", "--repetitions", "1", "--md");
    assert_int_equal(md.code, 0);
    assert_true(!strncmp(md.output, "| model |", 9));
    assert_non_null(strstr(md.output, "|-------|---------------:|"));
    assert_non_null(strstr(md.output, "\n| lckv  |           1536 |"));
    outcome_free(&csv);
    outcome_free(&md);
}

/* ---------------------------------------------------------------- profiles */

static json_t *read_json(const char *path) {
    json_error_t e;
    json_t *tree = json_load_file(path, 0, &e);
    if (!tree) fail_msg("%s: %s", path, e.text);
    return tree;
}

/* Each run is a process of the trace: its name, then its ops, one after the other. */
static void the_trace_is_that_of_chrome(const char *path, size_t runs) {
    json_t *trace = read_json(path), *event;
    size_t i, named = 0;
    double end = 0;
    json_array_foreach(json_object_get(trace, "traceEvents"), i, event) {
        if (!strcmp(word(event, "ph"), "M")) {
            assert_string_equal(word(event, "name"), "process_name");
            named++;
            end = 0;
            continue;
        }
        assert_string_equal(word(event, "ph"), "X");
        assert_int_equal((int)number(event, "pid"), named);
        assert_true(number(event, "ts") > end - 0.01 && number(event, "dur") >= 0);
        end = number(event, "ts") + number(event, "dur");
    }
    assert_int_equal(named, runs);
    json_decref(trace);
}

static void profiles_have_the_time_by_op(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, BENCH(f), "--prompt_lengths", "40", "--new_lengths", "8", "--repetitions", "1", "--profile",
                         in(f, "runs/trace.json"));
    assert_int_equal(json_array_size(json_object_get(r, "rows")), 4);
    const json_t *ops = json_object_get(r, "ops");
    json_t *row;
    size_t i;
    double share = 0, attention = 0, ends = 0;
    json_array_foreach(ops, i, row) {
        share += number(row, "share");
        assert_true(number(row, "milliseconds") >= 0);
        /* the step that reads one prompt token, and 8 more */
        if (!strcmp(word(row, "op"), "attention") && !strcmp(word(row, "test"), "tg8") &&
            !strcmp(word(row, "model"), "plain"))
            attention = number(row, "calls");
        ends += !strcmp(word(row, "op"), "(outside ops)");
    }
    assert_true(ends == 4 && fabs(share - 4) < 1e-6);
    assert_true(attention == (1 + 8) * 8);
    the_trace_is_that_of_chrome(in(f, "runs/trace.json"), 4);
    json_decref(r);
}

static void a_profile_is_a_second_table(void **state) {
    const folder *f = *state;
    outcome o = RUN(f, BENCH(f), "--prompt_lengths", "0", "--new_lengths", "4", "--repetitions", "1", "--profile",
                    in(f, "trace.json"));
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.output, "share of copy"));
    const char *second = strstr(o.output, "\n\nmodel");
    assert_non_null(second);
    assert_non_null(strstr(second, "attention"));
    assert_non_null(strstr(second, "(outside ops)"));
    outcome_free(&o);
    REFUSES(f, 2, "--profile requires --measure speed", BENCH(f), "--measure", "costs", "--profile", "x");
    REFUSES(f, 2, "--profile and --csv cannot be combined", BENCH(f), "--csv", "--profile", "x");
    REFUSES(f, 1, "it is a folder", BENCH(f), "--profile", in(f, "."));
    REFUSES(f, 1, "trace.json", BENCH(f), "--profile", in(f, "trace.json/below/x"));
}

/* ---------------------------------------------------------------- the largest batch */

enum { BUDGET = 40 << 20, PROMPT = 20, NEW = 80 };

static json_t *find_batch(const folder *f, const char *flag, const char *value) {
    return RUN_JSON(f, BENCH(f), "--measure", "batch", "--lengths", "20+80", "--memory_limit", "41943040",
                    "--repetitions", "1", flag, value);
}

/* By the plan: all memory but the weights is KV cache and some activations. */
static void the_plan_fills_the_budget(void **state) {
    const folder *f = *state;
    json_t *r = find_batch(f, "--plan_only", "True");
    static const int KV[] = {KV_PLAIN, KV_LCKV};
    assert_int_equal(json_array_size(json_object_get(r, "rows")), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = row_of(r, i);
        double batch = number(row, "batch"), planned = number(row, "planned_bytes");
        assert_string_equal(word(row, "batch_from"), "memory plan");
        assert_null(json_object_get(row, "tokens_per_second"));
        assert_true(batch >= 1 && 1.05 * planned <= BUDGET);
        assert_true(1.05 * planned > 0.85 * BUDGET); /* one more sequence, or chunk of 4 MiB, would not fit */
        assert_true(planned > batch * (PROMPT + NEW) * KV[i]);
    }
    assert_true(number(row_of(r, 1), "batch_ratio") > 2); /* 3 slots instead of 8, and fewer K and V weights */
    json_decref(r);
}

/* Except for the 5 % that the plan keeps free, and the CPU's allocation unit of 2 MiB. */
static void trying_finds_what_the_plan_says(void **state) {
    const folder *f = *state;
    json_t *planned = find_batch(f, "--search", "plan"), *tried = find_batch(f, "--search", "try");
    for (size_t i = 0; i < 2; i++) {
        const json_t *p = row_of(planned, i), *t = row_of(tried, i);
        assert_string_equal(word(t, "batch_from"), "trying");
        double bytes = number(t, "planned_bytes");
        assert_true(bytes <= BUDGET && bytes > 0.85 * number(p, "planned_bytes"));
        assert_true(number(t, "tokens_per_second") > 0 && number(p, "tokens_per_second") > 0);
        assert_true(number(t, "prompt_seconds") > 0 && number(t, "decode_seconds") > 0);
    }
    json_decref(planned);
    json_decref(tried);
}

static void no_batch_at_all(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, BENCH(f), "--measure", "batch", "--lengths", "20+80", "--memory_limit", "1000");
    assert_int_equal((int)number(row_of(r, 0), "batch"), 0);
    assert_null(json_object_get(row_of(r, 0), "tokens_per_second"));
    json_decref(r);
}

/* ---------------------------------------------------------------- streams */

static void a_stream_is_told_over_position(void **state) {
    const folder *f = *state;
    enum { TOKENS = 200 };
    json_t *r = RUN_JSON(f, BENCH(f), "--measure", "stream", "--num_tokens", "200", "--window_length", "16", "--svg",
                         in(f, "chart.svg"));
    size_t rows = json_array_size(json_object_get(r, "rows"));
    double next = 1; /* prefill yields the first token */
    for (size_t i = 0; i < rows / 2; i++) {
        const json_t *row = row_of(r, i);
        assert_true(number(row, "first") == next);
        assert_true(number(row, "mean_ms") > 0 && number(row, "max_ms") >= number(row, "p50_ms"));
        next += number(row, "tokens");
    }
    assert_true(next == TOKENS);
    assert_file_says(in(f, "chart.svg"), "<polyline");
    json_decref(r);
}

/* ---------------------------------------------------------------- iterations */

/* Twelve tokens are exact after twelve iterations (docs/model.md), up to rounding; before, the error falls on the
 * whole. */
static void runs_come_to_the_exact_form(void **state) {
    const folder *f = *state;
    enum { BLOCK = 12 };
    put_text(in(f, "text.txt"), "the cat sat on the cat. a b, a b; the stopping. the cat sat on the cat. a b, a b;");
    json_t *r = RUN_JSON(f, "bench", "--device", "cpu", "--threads", "2", "--measure", "iterations",
                         "--model_name_or_path", in(f, "model"), "--file", in(f, "text.txt"), "--block_size", "12",
                         "--num_blocks", "2", "--max_iterations", "12", "--svg", in(f, "chart.svg"));
    assert_int_equal(json_array_size(json_object_get(r, "rows")), BLOCK + 1);
    const json_t *last = row_of(r, BLOCK - 1), *exact = row_of(r, BLOCK);
    assert_string_equal(word(exact, "form"), "exact");
    assert_true(number(row_of(r, 0), "kl") > 1e-3 && number(last, "kl") < 1e-9);
    assert_true(number(row_of(r, 2), "kl") > number(row_of(r, 8), "kl"));
    assert_true(fabs(number(last, "loss") - number(exact, "loss")) < 1e-5);
    for (size_t i = 0; i < BLOCK; i++)
        assert_true(fabs(number(row_of(r, i), "loss") - number(row_of(r, i), "more_than_exact") -
                         number(exact, "loss")) < 1e-6);
    assert_file_says(in(f, "chart.svg"), "<polyline");
    json_decref(r);
    r = RUN_JSON(f, "bench", "--device", "cpu", "--measure", "iterations", "--model_name_or_path", in(f, "model"),
                 "--file", in(f, "text.txt"), "--block_size", "12", "--config_overrides", "layer_types=0_0_2_3");
    assert_int_equal(json_array_size(json_object_get(r, "rows")), 1); /* without a loop there is only one form */
    json_decref(r);
}

/* ---------------------------------------------------------------- servers */

static void a_server_is_asked(void **state) {
    const folder *f = *state;
    char url[64];
    served s = SERVE(state, "--api_key", "secret");
    snprintf(url, sizeof url, "http://127.0.0.1:%d", s.port);
    json_t *r = RUN_JSON(f, "bench", "--measure", "load", "--url", url, "--api_key", "secret", "--request_rates",
                         "100,0", "--num_requests", "6", "--lengths", "9+7", "--svg", in(f, "chart.svg"));
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = row_of(r, i);
        assert_int_equal((int)number(row, "answered"), 6);
        assert_int_equal((int)number(row, "failed"), 0);
        assert_int_equal((int)number(row, "tokens"), 6 * 7);
        assert_true(number(row, "first_p99_ms") >= number(row, "first_p50_ms") && number(row, "first_p50_ms") > 0);
        assert_true(number(row, "between_p50_ms") >= 0);
    }
    json_decref(r);
    REFUSES(f, 1, "the server responded with status 401", "bench", "--measure", "load", "--url", url, "--num_requests",
            "2", "--request_rates", "0");
    stop(&s);
    REFUSES(f, 1, "all requests to", "bench", "--measure", "load", "--url", url, "--num_requests", "2",
            "--request_rates", "0");
}

/* ---------------------------------------------------------------- minimal inputs */

/* A single value has no deviation, and if no batch fits there is no plan. */
static void of_one_value_no_deviation_is_told(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, BENCH(f), "--prompt_lengths", "1", "--new_lengths", "1", "--repetitions", "1");
    for (size_t i = 0; i < 4; i++) assert_null(json_object_get(row_of(r, i), "deviation"));
    json_decref(r);
    outcome o = RUN(f, BENCH(f), "--prompt_lengths", "1", "--new_lengths", "1", "--repetitions", "1", "--svg",
                    in(f, "chart.svg"));
    assert_true(o.code == 0 && !strstr(o.output, "±"));
    outcome_free(&o);
    size_t bytes;
    char *svg = get(in(f, "chart.svg"), &bytes);
    assert_true(strstr(svg, "<rect x=") && !strstr(svg, "class=\"error"));
    free(svg);
    r = RUN_JSON(f, "bench", "--measure", "stream", "--config_name", in(f, "plain.json"), "--num_tokens", "2",
                 "--device", "cpu");
    assert_int_equal(json_array_size(json_object_get(r, "rows")), 1); /* the first token has no latency of its own */
    assert_null(json_object_get(row_of(r, 0), "deviation_ms"));
    json_decref(r);
    r = RUN_JSON(f, BENCH(f), "--measure", "batch", "--lengths", "1+1", "--plan_only", "--memory_limit", "1000");
    assert_int_equal((int)number(row_of(r, 0), "batch"), 0);
    assert_null(json_object_get(row_of(r, 0), "planned_bytes"));
    json_decref(r);
}

/* ---------------------------------------------------------------- costs */

/* A table of both forms, measured once: the second run reads it from the file. */
static void costs_are_printed_and_kept(void **state) {
    const folder *f = *state;
    json_t *runs[2];
    for (int i = 0; i < 2; i++)
        runs[i] = RUN_JSON(f, BENCH(f), "--measure", "costs", "--cost_table", in(f, "tables/costs.json"),
                           "--config_overrides", "max_position_embeddings=1024");
    assert_string_equal(word(runs[0], "measure"), "costs");
    assert_true(json_equal(json_object_get(runs[0], "rows"), json_object_get(runs[1], "rows")));
    size_t count = json_array_size(json_object_get(runs[0], "rows")), planned = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *row = row_of(runs[0], i);
        assert_string_equal(word(row, "model"), "lckv"); /* without loops there is nothing to choose */
        planned += !strcmp(word(row, "encoding"), "plan");
        assert_true(number(row, "rows") >= 1 && number(row, "depth") >= 0 && number(row, "milliseconds") > 0);
    }
    assert_true(planned >= 2 && count - planned >= 4);
    for (int i = 0; i < 2; i++) json_decref(runs[i]);
    put_text(in(f, "tables/costs.json"), "{}");
    REFUSES(f, 1, "costs.json", BENCH(f), "--measure", "costs", "--cost_table", in(f, "tables/costs.json"));
}

/* ---------------------------------------------------------------- invalid arguments */

static void wrong_flags_are_refused(void **state) {
    const folder *f = *state;
    REFUSES(f, 2, "--config_name is required", "bench");
    REFUSES(f, 2, "cannot be combined", BENCH(f), "--csv", "--md");
    REFUSES(f, 2, "found \"12x\"", BENCH(f), "--prompt_lengths", "12x");
    REFUSES(f, 2, "nothing to measure", BENCH(f), "--prompt_lengths", "0", "--new_lengths", "0");
    REFUSES(f, 2, "such as 512+128, found \"512\"", BENCH(f), "--measure", "batch", "--lengths", "512");
    REFUSES(f, 2, "--plan_only and --search try", BENCH(f), "--measure", "batch", "--plan_only", "--search", "try");
    REFUSES(f, 2, "must be less than --window_length", BENCH(f), "--measure", "stream", "--window_length", "4",
            "--num_sink_tokens", "4");
    REFUSES(f, 2, "requires --model_name_or_path and --file", "bench", "--measure", "iterations", "--file", "x");
    put_text(in(f, "short.txt"), "the cat");
    REFUSES(f, 2, "expected at least --block_size (256)", "bench", "--device", "cpu", "--measure", "iterations",
            "--model_name_or_path", in(f, "model"), "--file", in(f, "short.txt"));
    REFUSES(f, 2, "found \"-1\"", "bench", "--measure", "load", "--request_rates=-1");
    REFUSES(f, 1, "nowhere.json", "bench", "--device", "cpu", "--config_name", in(f, "nowhere.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_CONFIGS(speed_has_a_row_for_each_test),
        WITH_CONFIGS(forms_of_output),
        WITH_CONFIGS(profiles_have_the_time_by_op),
        WITH_CONFIGS(a_profile_is_a_second_table),
        WITH_CONFIGS(the_plan_fills_the_budget),
        WITH_CONFIGS(trying_finds_what_the_plan_says),
        WITH_CONFIGS(no_batch_at_all),
        WITH_CONFIGS(a_stream_is_told_over_position),
        WITH_CONFIGS(runs_come_to_the_exact_form),
        WITH_CONFIGS(a_server_is_asked),
        WITH_CONFIGS(costs_are_printed_and_kept),
        WITH_CONFIGS(of_one_value_no_deviation_is_told),
        WITH_CONFIGS(wrong_flags_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
