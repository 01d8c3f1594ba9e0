/* lckv bench --measure speed: prefill and decode throughput, with the names of llama-bench: pp512 is the prefill of 512
 * tokens (and samples one), tg128 decodes 128; "@ d1024" starts with 1024 tokens in the KV cache. See bench.h.
 *
 * The speed is compared with the reference speeds of the device: prefill, which is limited by matrix products, with the
 * FLOP/s of a large product; decode, which is limited by reading the weights, with the bandwidth of the memory. */
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

/* What is measured of one test. */
typedef struct speed_samples {
    bench_sample tokens;    /* tokens/s */
    bench_sample bandwidth; /* decode: bytes of weights that are read per second */
    bench_sample seconds;   /* prefill: duration of a run */
    double flops;           /* prefill: of a run; 0: not counted */
    bool sequential;        /* most prompt tokens were processed token by token */
} speed_samples;

/* What the tests of one config share. */
typedef struct speed_run {
    const bench_options *o;
    const char *config;
    bench_model model, counted;          /* on the device, and on the counting device */
    const lckv_device_speeds *reference; /* 0: not measured */
    bench_profile *profile;              /* NULL: none */
} speed_run;

static const table_column COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "kv_bytes_per_token", .title = "KV bytes/token"},
    {.key = "sequences", .title = "sequences"},
    {.key = "test", .title = "test"},
    {.key = "tokens_per_second", .title = "tokens/s", .decimals = 1, .deviation = "deviation"},
    {.key = "share_of_product", .title = "share of product", .decimals = 2},
    {.key = "share_of_copy", .title = "share of copy", .decimals = 2},
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

static bench_requests requests_of(const bench_options *o, const speed_test *t) {
    return (bench_requests){
        .count = o->num_sequences, .prefix = t->depth, .prompt_length = prompt_of(t), .new_tokens = new_tokens_of(t)};
}

/* The warmup creates primitives, allocates memory, captures GPU graphs, and fills the cache to the depth. */
static int repeat_test(const bench_options *o, bench_engine *e, const speed_test *t, const bench_requests *shown,
                       speed_samples *s) {
    bench_requests r = requests_of(o, t);
    bench_times *times = need(calloc((size_t)o->repetitions, sizeof *times));
    r.label = shown->label;
    r.progress = shown->progress;
    r.share = shown->share;
    int code = bench_outcome(e, bench_engine_repeat(e, &r, r.new_tokens, o->repetitions, times));
    for (int64_t i = 0; i < o->repetitions && !code; i++) {
        bench_sample_add(&s->tokens, speed_of(t, o->num_sequences, &times[i]));
        bench_sample_add(&s->seconds, times[i].seconds);
        bench_sample_add(&s->bandwidth, times[i].decode_bytes / times[i].decode_seconds);
        s->sequential = times[i].sequential;
    }
    free(times);
    return code;
}

/* One more run, so that the profile does not change the measured speed. */
static int profile_test(const speed_run *run, bench_engine *e, const speed_test *t) {
    char name[64];
    bench_calls calls;
    bench_requests r = requests_of(run->o, t);
    r.seed = (uint64_t)run->o->repetitions + 1;
    progress(-1, "%.60s %.40s: profile", run->config, t->name);
    int code = bench_outcome(e, bench_engine_profile(e, run->model.device, &r, &calls));
    if (!code) bench_profile_add(run->profile, bench_name(run->config, name), t->name, &calls);
    bench_calls_free(&calls);
    return code;
}

static int run_test(const speed_run *run, const speed_test *t, const bench_requests *shown, speed_samples *s) {
    bench_engine e;
    int64_t length = prompt_of(t) + new_tokens_of(t);
    int status = bench_engine_open(run->o, &run->model, run->o->num_sequences, length, 0, &e);
    int code = status < 0 ? library_error("bench", status) : repeat_test(run->o, &e, t, shown, s);
    if (!code && run->profile) code = profile_test(run, &e, t);
    bench_engine_close(&e);
    return code;
}

/* ---------------------------------------------------------------- shares of the reference speeds */

/* FLOPs of a run after the warmup, in the form that the device used for the prompts. */
static int count_run(const speed_run *run, bench_engine *e, const speed_test *t, double *flops) {
    bench_calls calls;
    bench_times ignored;
    bench_requests r = requests_of(run->o, t);
    int status = bench_engine_run(e, &r, &ignored);
    r.seed = 1;
    if (status >= 0) status = bench_engine_profile(e, run->counted.device, &r, &calls);
    if (status < 0) return status;
    *flops = 0;
    for (int64_t i = 0; i < calls.count; i++) *flops += calls.items[i].flops;
    bench_calls_free(&calls);
    return LCKV_OK;
}

static int count_flops(const speed_run *run, const speed_test *t, speed_samples *s) {
    bench_engine e;
    int64_t length = prompt_of(t) + new_tokens_of(t);
    int status = bench_engine_open(run->o, &run->counted, run->o->num_sequences, length, 0, &e);
    e.encoding = s->sequential ? LCKV_ENCODING_SEQUENTIAL : LCKV_ENCODING_PLAN;
    if (status >= 0) status = count_run(run, &e, t, &s->flops);
    bench_engine_close(&e);
    return status < 0 ? library_error("bench", status) : EXIT_FINE;
}

/* The reference of reading weights: on a CPU the bandwidth of reading with all threads, on a GPU that of a copy. */
static double memory_bandwidth(const lckv_device_speeds *s) {
    return s->read_bytes > 0 ? s->read_bytes : s->copy_bytes;
}

static void set_share(const speed_run *run, const speed_test *t, const speed_samples *s, json_t *row) {
    if (!run->reference->product_flops) return;
    if (t->prefill)
        json_object_set_new(row, "share_of_product",
                            json_real(s->flops / bench_mean(&s->seconds) / run->reference->product_flops));
    else
        json_object_set_new(row, "share_of_copy",
                            json_real(bench_mean(&s->bandwidth) / memory_bandwidth(run->reference)));
}

/* Measures the reference speeds once per command. Without memory for it, only the shares are missing. */
static int measure_reference(const bench_options *o, lckv_device_speeds *out) {
    lckv_device *device;
    progress(-1, "measuring the reference speeds of the device");
    int status = lckv_device_open(o->device, (int)o->threads, &device);
    if (status >= 0) status = lckv_device_speed(device, o->bf16, out);
    progress_end();
    lckv_device_close(device);
    if (status == LCKV_ERROR_MEMORY) notice("the reference speeds are not measured: %s", lckv_last_error());
    return status < 0 && status != LCKV_ERROR_MEMORY ? library_error("bench", status) : EXIT_FINE;
}

/* ---------------------------------------------------------------- all tests */

static void add_row(const speed_run *run, const speed_test *t, const speed_samples *s, json_t *rows) {
    char name[64];
    json_t *row = json_pack("{s:s, s:I, s:I, s:s}", "model", bench_name(run->config, name), "kv_bytes_per_token",
                            (json_int_t)bench_kv_bytes(run->o, &run->model), "sequences",
                            (json_int_t)run->o->num_sequences, "test", t->name);
    bench_set_mean(row, "tokens_per_second", "deviation", &s->tokens);
    set_share(run, t, s, row);
    bench_set_ratio(row, rows, "test", "tokens_per_second", "ratio");
    json_array_append_new(rows, row);
}

static int measure_test(const speed_run *run, const speed_test *t, double done, double share, json_t *rows) {
    char label[128];
    speed_samples s = {0};
    const bench_requests shown = {.label = label, .progress = done, .share = share};
    snprintf(label, sizeof label, "%.60s %.40s", run->config, t->name);
    progress(shown.progress, "%s", label);
    int code = run_test(run, t, &shown, &s);
    if (!code && t->prefill && run->reference->product_flops > 0) code = count_flops(run, t, &s);
    if (!code) add_row(run, t, &s, rows);
    bench_sample_free(&s.tokens);
    bench_sample_free(&s.seconds);
    bench_sample_free(&s.bandwidth);
    return code;
}

/* `run`: without models. */
static int measure_config(speed_run run, const speed_test *tests, int count, json_t *rows) {
    int64_t positions = 0;
    for (int i = 0; i < count; i++) {
        int64_t length = prompt_of(&tests[i]) + new_tokens_of(&tests[i]);
        positions = length > positions ? length : positions;
    }
    int status = bench_model_open(run.o, run.config, run.o->device, positions, &run.model);
    if (status >= 0) status = bench_model_open(run.o, run.config, "count", positions, &run.counted);
    int code = status < 0 ? library_error("bench", status) : EXIT_FINE;
    for (int i = 0; i < count && !code; i++) code = measure_test(&run, &tests[i], (double)i / count, 1.0 / count, rows);
    progress_end();
    bench_model_close(&run.counted);
    bench_model_close(&run.model);
    return code;
}

static int measure_all(const bench_options *o, const speed_test *tests, int count, bench_result *out) {
    bench_profile profile;
    speed_run run = {.o = o, .reference = &out->speeds, .profile = o->profile ? &profile : NULL};
    int code = measure_reference(o, &out->speeds);
    if (o->profile) bench_profile_open(&profile);
    for (int i = 0; i < o->configs.count && !code; i++) {
        run.config = o->configs.items[i];
        code = measure_config(run, tests, count, out->rows);
    }
    if (o->profile) bench_profile_close(&profile, out);
    return code;
}

int bench_speed(const bench_options *o, bench_result *out) {
    static speed_test tests[MAX_TESTS];
    int count, code = read_tests(o, tests, &count);
    if (!code) code = measure_all(o, tests, count, out);
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
