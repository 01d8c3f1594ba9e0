/* lckv bench --measure batch: the largest batch that fits into memory for a prompt length and a number of new tokens,
 * and its throughput including prefill, as measured in the LCKV paper (arXiv 2405.10637, section 3.1).
 *
 * --search plan runs on the counting device, which only adds up memory; --search try runs ever larger batches on the
 * device. A run is the prefill of all prompts and one decode step, with the KV cache of the full length; later
 * steps need no more memory. Host data structures are not counted. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/open_model.h"
#include "cli/output/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const table_column COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "kv_bytes_per_token", .title = "KV bytes/token"},
    {.key = "lengths", .title = "lengths"},
    {.key = "batch", .title = "batch"},
    {.key = "batch_ratio", .title = "ratio", .decimals = 2},
    {.key = "batch_from", .title = "batch from"},
    {.key = "kv_gib", .title = "KV GiB", .decimals = 2},
    {.key = "planned_gib", .title = "planned GiB", .decimals = 2},
    {.key = "prompt_seconds", .title = "prefill, s", .decimals = 2},
    {.key = "decode_seconds", .title = "decode, s", .decimals = 2},
    {.key = "tokens_per_second", .title = "tokens/s", .decimals = 1, .deviation = "deviation"},
    {.key = "ratio", .title = "ratio", .decimals = 2},
    {0},
};

/* Allowance for memory that is not counted: device libraries and the program itself.
 * src/train/cost/choose_batch_size.c has the same. */
static const double UNCOUNTED_FACTOR = 1.05;
enum { MAX_SEQUENCES = 1 << 16 };
enum { OUT_OF_MEMORY = -1 }; /* returned in place of an exit code */

/* The search for the largest batch of one config and one pair of lengths. */
typedef struct batch_search {
    const bench_options *o;
    const char *config;
    bench_lengths lengths;
    bench_model counted; /* the model on the counting device */
    bench_model *real;   /* the model on the device; NULL with --plan_only */
    double memory_limit; /* bytes, including the weights */
    int found_by;        /* BENCH_BY_PLAN or BENCH_BY_TRYING */
    int status;          /* status of the library; negative: the search failed */
} batch_search;

/* ---------------------------------------------------------------- --search plan */

static bench_requests requests_of(const batch_search *s, int64_t batch, const char *label) {
    return (bench_requests){.count = batch,
                            .prompt_length = s->lengths.prompt,
                            .new_tokens = s->lengths.new_tokens,
                            .stop_early = true,
                            .label = label};
}

/* Memory of the same run on the counting device. */
static int plan(const batch_search *s, int64_t batch, lckv_memory *out) {
    const lckv_serving_shape shape = {.struct_size = sizeof shape,
                                      .sequences = batch,
                                      .length = s->lengths.prompt + s->lengths.new_tokens,
                                      .prompt_length = s->lengths.prompt,
                                      .bf16 = s->o->bf16,
                                      .kv_dtype = kv_dtype_name(s->o->kv_dtype)};
    return lckv_memory_for_serving(s->counted.config, &shape, out);
}

static bool fits_by_plan(batch_search *s, int64_t batch) {
    lckv_memory p;
    progress(-1, "%s %s: planning batch %lld", s->config, s->lengths.text, (long long)batch);
    s->status = plan(s, batch, &p);
    return s->status >= 0 && UNCOUNTED_FACTOR * (double)p.total <= s->memory_limit;
}

/* ---------------------------------------------------------------- --search try */

/* Limits the memory of a CPU, because Linux overcommits memory: without a limit the process may be killed. */
static int limit_memory(const batch_search *s) {
    lckv_device_info info;
    int status = lckv_device_describe(s->real->device, &info);
    if (status < 0 || (strcmp(info.name, "cpu") && !s->o->memory_limit)) return status;
    return lckv_device_limit(s->real->device, (int64_t)s->memory_limit);
}

static bool fits_when_tried(batch_search *s, int64_t batch) {
    lckv_memory p;
    bench_engine e = {0};
    bench_times times;
    char label[128];
    bench_requests r = requests_of(s, batch, label);
    snprintf(label, sizeof label, "%.60s %.20s: trying batch %lld", s->config, s->lengths.text, (long long)batch);
    progress(-1, "%s", label);
    s->status = plan(s, batch, &p); /* size of the KV cache */
    if (s->status < 0) return false;
    s->status =
        bench_engine_open(s->o, s->real, batch, s->lengths.prompt + s->lengths.new_tokens, p.kv_cache_reserved, &e);
    if (s->status >= 0) s->status = bench_engine_run(&e, &r, &times);
    bench_engine_close(&e);
    bool fits = s->status >= 0;
    if (s->status == LCKV_ERROR_MEMORY) s->status = LCKV_OK;
    return fits;
}

/* ---------------------------------------------------------------- the search */

typedef bool (*fits_function)(batch_search *s, int64_t batch);

/* Finds the largest batch that fits, by doubling and bisection. Returns 0 if not even one sequence fits. */
static int64_t largest(batch_search *s, fits_function fits) {
    int64_t fitting = 0, too_large = 1;
    while (too_large <= MAX_SEQUENCES && fits(s, too_large)) fitting = too_large, too_large *= 2;
    while (s->status >= 0 && too_large - fitting > 1) {
        int64_t middle = fitting + (too_large - fitting) / 2;
        if (fits(s, middle))
            fitting = middle;
        else
            too_large = middle;
    }
    progress_end();
    return fitting;
}

static int find_memory_limit(batch_search *s) {
    lckv_device *device;
    lckv_device_info info;
    int status = lckv_device_open(s->o->device, (int)s->o->threads, &device);
    if (status >= 0) status = lckv_device_describe(device, &info);
    if (status >= 0) s->memory_limit = s->o->memory_limit ? (double)s->o->memory_limit : (double)info.free_bytes;
    lckv_device_close(device);
    return status;
}

/* ---------------------------------------------------------------- throughput */

typedef struct throughput {
    bench_sample speeds;            /* new tokens/s, prefill included */
    bench_sample prompts, decoding; /* seconds of prefill and of decode */
} throughput;

static void throughput_free(throughput *t) {
    bench_sample_free(&t->speeds);
    bench_sample_free(&t->prompts);
    bench_sample_free(&t->decoding);
}

/* Repeats the whole batch. The warmup generates two tokens at most, so that it includes a step that only decodes. */
static int repeat_batch(const batch_search *s, bench_engine *e, int64_t batch, throughput *t) {
    char label[128];
    int64_t count = s->o->repetitions, new_tokens = s->lengths.new_tokens;
    bench_times *times = need(calloc((size_t)count, sizeof *times));
    bench_requests r = requests_of(s, batch, label);
    snprintf(label, sizeof label, "%.60s %.20s: batch %lld", s->config, s->lengths.text, (long long)batch);
    r.stop_early = false;
    r.share = 1;
    int status = bench_engine_repeat(e, &r, new_tokens > 1 ? 2 : 1, count, times);
    for (int64_t i = 0; i < count && status >= 0 && !e->failed; i++) {
        bench_sample_add(&t->speeds, (double)(batch * new_tokens) / times[i].seconds);
        bench_sample_add(&t->prompts, times[i].prompt_seconds);
        bench_sample_add(&t->decoding, times[i].decode_seconds);
    }
    free(times);
    progress_end();
    return status;
}

static int measure(const batch_search *s, int64_t batch, const lckv_memory *p, throughput *t) {
    bench_engine e;
    int64_t length = s->lengths.prompt + s->lengths.new_tokens;
    int status = bench_engine_open(s->o, s->real, batch, length, p->kv_cache_reserved, &e);
    if (status >= 0) status = repeat_batch(s, &e, batch, t);
    int code = status == LCKV_ERROR_MEMORY ? OUT_OF_MEMORY : bench_outcome(&e, status);
    bench_engine_close(&e);
    return code;
}

/* Near the limit, a run may find slightly less free memory than the run before. The batch is then reduced by 2 %. */
static int measure_what_fits(batch_search *s, int64_t *batch, lckv_memory *p, throughput *t) {
    int code = measure(s, *batch, p, t);
    while (code == OUT_OF_MEMORY && *batch > 1) {
        *batch -= (*batch + 49) / 50;
        s->found_by = BENCH_BY_TRYING;
        s->status = plan(s, *batch, p);
        code = s->status < 0 ? library_error("bench", s->status) : measure(s, *batch, p, t);
    }
    return code == OUT_OF_MEMORY ? library_error("bench", LCKV_ERROR_MEMORY) : code;
}

/* ---------------------------------------------------------------- rows */

/* Adds the memory of the batch. Called only if at least one sequence fits. */
static void add_memory(json_t *row, const lckv_memory *p) {
    const double GIB = 1 << 30;
    json_t *plan = json_pack("{s:I, s:I, s:f, s:I, s:f}", "kv_bytes", (json_int_t)p->kv_cache, "kv_bytes_reserved",
                             (json_int_t)p->kv_cache_reserved, "kv_gib", (double)p->kv_cache / GIB, "planned_bytes",
                             (json_int_t)p->total, "planned_gib", (double)p->total / GIB);
    json_object_update(row, plan);
    json_decref(plan);
}

static void add_row(const batch_search *s, int64_t batch, const lckv_memory *p, const throughput *t, json_t *rows) {
    static const char *const FROM[] = {"memory plan", "trying"};
    char name[64];
    json_t *row = json_pack("{s:s, s:I, s:s, s:I, s:s}", "model", bench_name(s->config, name), "kv_bytes_per_token",
                            (json_int_t)bench_kv_bytes(s->o, &s->counted), "lengths", s->lengths.text, "batch",
                            (json_int_t)batch, "batch_from", FROM[s->found_by]);
    if (batch) add_memory(row, p);
    bench_set_ratio(row, rows, "lengths", "batch", "batch_ratio");
    if (t->speeds.count) {
        json_object_set_new(row, "prompt_seconds", json_real(bench_mean(&t->prompts)));
        json_object_set_new(row, "decode_seconds", json_real(bench_mean(&t->decoding)));
        bench_set_mean(row, "tokens_per_second", "deviation", &t->speeds);
        bench_set_ratio(row, rows, "lengths", "tokens_per_second", "ratio");
    }
    json_array_append_new(rows, row);
}

static int run_lengths(batch_search *s, json_t *rows) {
    lckv_memory p = {0};
    throughput t = {0};
    s->found_by = s->o->search;
    int64_t batch = largest(s, s->o->search == BENCH_BY_TRYING ? fits_when_tried : fits_by_plan);
    if (s->status >= 0 && batch) s->status = plan(s, batch, &p);
    int code = s->status < 0 ? library_error("bench", s->status) : EXIT_FINE;
    if (!code && batch && s->real) code = measure_what_fits(s, &batch, &p, &t);
    if (!code) add_row(s, batch, &p, &t, rows);
    throughput_free(&t);
    return code;
}

static int run_config(const bench_options *o, const char *config, const bench_lengths *lengths, int count,
                      json_t *rows) {
    bench_model real = {0};
    batch_search s = {.o = o, .config = config};
    int64_t positions = 0;
    for (int i = 0; i < count; i++)
        if (lengths[i].prompt + lengths[i].new_tokens > positions)
            positions = lengths[i].prompt + lengths[i].new_tokens;
    int status = find_memory_limit(&s); /* free memory before the weights are loaded */
    if (status >= 0) status = bench_model_open(o, config, "count", positions, &s.counted);
    if (status >= 0 && !o->plan_only) {
        status = bench_model_open(o, config, o->device, positions, &real);
        s.real = &real;
    }
    if (status >= 0 && o->search == BENCH_BY_TRYING) status = limit_memory(&s);
    int code = status < 0 ? library_error("bench", status) : EXIT_FINE;
    for (int i = 0; i < count && !code; i++) {
        s.lengths = lengths[i];
        code = run_lengths(&s, rows);
    }
    bench_model_close(&real);
    bench_model_close(&s.counted);
    return code;
}

int bench_batch(const bench_options *o, bench_result *out) {
    static bench_lengths lengths[BENCH_MAX_LENGTHS];
    int count, code = bench_read_lengths(o, lengths, &count);
    if (!code && o->plan_only && o->search == BENCH_BY_TRYING)
        code = usage_error("bench", "--plan_only and --search try cannot be combined");
    for (int i = 0; i < o->configs.count && !code; i++)
        code = run_config(o, o->configs.items[i], lengths, count, out->rows);
    out->columns = COLUMNS;
    if (code || !o->svg) return code;
    const char *names[BENCH_MAX_LENGTHS];
    for (int i = 0; i < count; i++) names[i] = lengths[i].text;
    const bench_bars_of planned = {.title = "Largest batch by memory plan, by prompt + new tokens",
                                   .value_title = "sequences",
                                   .groups = names,
                                   .group_count = count,
                                   .key = "batch"};
    const bench_bars_of measured = {
        .title = "Throughput of the largest batch, by prompt + new tokens",
        .value_title = "new tokens/s, mean ± standard deviation",
        .groups = names,
        .group_count = count,
        .key = "tokens_per_second",
        .deviation = "deviation",
        .decimals = 1,
    };
    out->svg = bench_bars(o, out->rows, o->plan_only ? &planned : &measured);
    return code;
}
