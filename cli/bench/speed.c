/* lckv bench --measure speed: prefill and decode throughput, with the names of llama-bench: pp512 is the prefill of 512
 * tokens (and samples one), tg128 decodes 128; "@ d1024" starts with 1024 tokens in the KV cache. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/output/output.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct speed_test {
    char name[64];         /* "pp512 @ d1024" */
    bool prefill;          /* measures prefill; false: decode */
    int64_t tokens, depth; /* tokens to process per sequence, and tokens in the KV cache before */
} speed_test;

enum { MAX_TESTS = 3 * BENCH_MAX_LENGTHS };

static const table_column COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "kv_bytes_per_token", .title = "KV bytes/token"},
    {.key = "sequences", .title = "sequences"},
    {.key = "test", .title = "test"},
    {.key = "tokens_per_second", .title = "tokens/s", .decimals = 1, .deviation = "deviation"},
    {.key = "ratio", .title = "ratio", .decimals = 2},
    {0},
};

/* ---------------------------------------------------------------- tests */

static void add_test(speed_test *tests, int *count, bool prefill, int64_t tokens, int64_t depth) {
    if (*count == MAX_TESTS) return;
    speed_test *t = &tests[(*count)++];
    int length = snprintf(t->name, sizeof t->name, "%s%lld", prefill ? "pp" : "tg", (long long)tokens);
    if (depth) snprintf(t->name + length, sizeof t->name - (size_t)length, " @ d%lld", (long long)depth);
    t->prefill = prefill;
    t->tokens = tokens;
    t->depth = depth;
}

static int read_tests(const bench_options *o, speed_test *tests, int *count) {
    int64_t prompts[BENCH_MAX_LENGTHS], new_tokens[BENCH_MAX_LENGTHS], depths[BENCH_MAX_LENGTHS];
    int code = bench_numbers(&o->prompt_lengths, "prompt_lengths", 0, prompts);
    if (!code) code = bench_numbers(&o->new_lengths, "new_lengths", 0, new_tokens);
    if (!code) code = bench_numbers(&o->depths, "depths", 0, depths);
    *count = 0;
    for (int d = 0; d < o->depths.count && !code; d++) {
        for (int i = 0; i < o->prompt_lengths.count; i++)
            if (prompts[i]) add_test(tests, count, true, prompts[i], depths[d]);
        for (int i = 0; i < o->new_lengths.count; i++)
            if (new_tokens[i]) add_test(tests, count, false, new_tokens[i], depths[d]);
    }
    if (code || *count) return code;
    return usage_error("bench", "nothing to measure; set --prompt_lengths or --new_lengths");
}

/* ---------------------------------------------------------------- one test */

/* Prompt length: the tokens in the cache before the test, plus the tokens of a prefill test. Decode needs at least one
 * prompt token. */
static int64_t prompt_of(const speed_test *t) {
    if (t->prefill) return t->depth + t->tokens;
    return t->depth ? t->depth : 1;
}

/* Prefill samples the first token, so decode requests one more than it counts. */
static int64_t new_tokens_of(const speed_test *t) {
    return t->prefill ? 1 : t->tokens + 1;
}

static double speed_of(const speed_test *t, int64_t sequences, const bench_times *times) {
    if (!t->prefill) return (double)times->decode_tokens / times->decode_seconds;
    return (double)(sequences * prompt_of(t) - times->cached_tokens) / times->seconds;
}

/* The warmup creates primitives, allocates memory, captures GPU graphs, and fills the cache to the depth. */
static int repeat_test(const bench_options *o, bench_engine *e, const speed_test *t, const bench_requests *shown,
                       bench_sample *speeds) {
    bench_requests r = *shown;
    bench_times *times = need(calloc((size_t)o->repetitions, sizeof *times));
    r.count = o->num_sequences;
    r.prefix = t->depth;
    r.prompt_length = prompt_of(t);
    r.new_tokens = new_tokens_of(t);
    int code = bench_outcome(e, bench_engine_repeat(e, &r, r.new_tokens, o->repetitions, times));
    for (int64_t i = 0; i < o->repetitions && !code; i++)
        bench_sample_add(speeds, speed_of(t, o->num_sequences, &times[i]));
    free(times);
    return code;
}

static int run_test(const bench_options *o, const bench_model *m, const speed_test *t, const bench_requests *shown,
                    bench_sample *speeds) {
    bench_engine e;
    int64_t length = prompt_of(t) + new_tokens_of(t);
    int status = bench_engine_open(o, m, o->num_sequences, length, 0, &e);
    int code = status < 0 ? library_error("bench", status) : repeat_test(o, &e, t, shown, speeds);
    bench_engine_close(&e);
    return code;
}

/* ---------------------------------------------------------------- all tests */

static void add_row(const bench_options *o, const bench_model *m, const char *config, const speed_test *t,
                    const bench_sample *speeds, json_t *rows) {
    char name[64];
    json_t *row =
        json_pack("{s:s, s:I, s:I, s:s}", "model", bench_name(config, name), "kv_bytes_per_token",
                  (json_int_t)bench_kv_bytes(o, m), "sequences", (json_int_t)o->num_sequences, "test", t->name);
    bench_set_mean(row, "tokens_per_second", "deviation", speeds);
    bench_set_ratio(row, rows, "test", "tokens_per_second", "ratio");
    json_array_append_new(rows, row);
}

static int measure_config(const bench_options *o, const char *config, const speed_test *tests, int count,
                          json_t *rows) {
    bench_model m;
    int64_t positions = 0;
    for (int i = 0; i < count; i++) {
        int64_t length = prompt_of(&tests[i]) + new_tokens_of(&tests[i]);
        positions = length > positions ? length : positions;
    }
    int status = bench_model_open(o, config, o->device, positions, &m);
    int code = status < 0 ? library_error("bench", status) : EXIT_FINE;
    for (int i = 0; i < count && !code; i++) {
        char label[128];
        bench_sample speeds = {0};
        const bench_requests shown = {.label = label, .progress = (double)i / count, .share = 1.0 / count};
        snprintf(label, sizeof label, "%.60s %.40s", config, tests[i].name);
        progress(shown.progress, "%s", label);
        code = run_test(o, &m, &tests[i], &shown, &speeds);
        if (!code) add_row(o, &m, config, &tests[i], &speeds, rows);
        bench_sample_free(&speeds);
    }
    progress_end();
    bench_model_close(&m);
    return code;
}

int bench_speed(const bench_options *o, bench_result *out) {
    static speed_test tests[MAX_TESTS];
    int count, code = read_tests(o, tests, &count);
    for (int i = 0; i < o->configs.count && !code; i++)
        code = measure_config(o, o->configs.items[i], tests, count, out->rows);
    out->columns = COLUMNS;
    if (code || !o->svg) return code;
    const char *names[MAX_TESTS];
    for (int i = 0; i < count; i++) names[i] = tests[i].name;
    const bench_bars_of bars = {
        .title = "Throughput of prefill (pp) and decode (tg), by tokens; @ d: tokens in the cache",
        .value_title = "tokens/s, mean ± standard deviation",
        .groups = names,
        .group_count = count,
        .key = "tokens_per_second",
        .deviation = "deviation",
        .decimals = 1,
    };
    out->svg = bench_bars(o, out->rows, &bars);
    return code;
}
