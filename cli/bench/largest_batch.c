/* lckv bench --measure batch: the largest batch that fits into memory for a prompt length and a number of new tokens,
 * and its throughput including prefill, as measured in the LCKV paper (arXiv 2405.10637, section 3.1).
 *
 * --search plan runs on the counting device, which only adds up memory; --search try runs ever larger batches on the
 * device itself. A run is the prefill of all prompts and one decode step, with the KV cache of the full length; later
 * steps need no more memory. Host data structures are not counted. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/output.h"

#include <math.h>
#include <stdio.h>
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

/* Allowance for memory that is not counted: device libraries and the program itself. src/train/fit.c has the same. */
static const double UNCOUNTED_FACTOR = 1.05;
enum { MAX_SEQUENCES = 1 << 16, NOT_ENOUGH = -1 /* out of memory; returned among exit codes */ };

typedef struct searching {
    const bench_options *o;
    const char *config;
    bench_lengths lengths;
    bench_model counted, *real; /* real: NULL with --plan_only */
    double room;                /* memory limit in bytes, including the weights */
    int found_by;               /* BENCH_BY_.. */
    int status;                 /* status of the library if the search failed */
} searching;

/* ---------------------------------------------------------------- --search plan */

static bench_requests part_of(const searching *s, int64_t batch, const char *what) {
    return (bench_requests){.count = batch,
                            .prompt_length = s->lengths.prompt,
                            .new_tokens = s->lengths.new_tokens,
                            .stop_early = true,
                            .what = what};
}

/* Memory of the same run on the counting device. */
static int plan(const searching *s, int64_t batch, lckv_memory *out) {
    const lckv_serving_shape shape = {.struct_size = sizeof shape,
                                      .sequences = batch,
                                      .length = s->lengths.prompt + s->lengths.new_tokens,
                                      .prompt_length = s->lengths.prompt,
                                      .bf16 = s->o->bf16};
    return lckv_memory_for_serving(s->counted.config, &shape, out);
}

static bool fits_by_plan(searching *s, int64_t batch) {
    lckv_memory p;
    progress(-1, "%s %s: planning batch %lld", s->config, s->lengths.text, (long long)batch);
    s->status = plan(s, batch, &p);
    return s->status >= 0 && UNCOUNTED_FACTOR * (double)p.total <= s->room;
}

/* ---------------------------------------------------------------- --search try */

/* Limits the memory of CPUs: Linux overcommits memory, so without a limit the process may be killed. */
static int limit_memory(const searching *s) {
    lckv_device_info info;
    int status = lckv_device_describe(s->real->device, &info);
    if (status < 0 || (strcmp(info.name, "cpu") && !s->o->memory_limit)) return status;
    return lckv_device_limit(s->real->device, (int64_t)s->room);
}

static bool fits_when_tried(searching *s, int64_t batch) {
    lckv_memory p;
    bench_engine e = {0};
    bench_times times;
    char what[128];
    bench_requests r = part_of(s, batch, what);
    snprintf(what, sizeof what, "%.60s %.20s: trying batch %lld", s->config, s->lengths.text, (long long)batch);
    progress(-1, "%s", what);
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

typedef bool (*fits_function)(searching *s, int64_t batch);

/* The largest batch that fits, by doubling and bisection; 0: not even one sequence. */
static int64_t largest(searching *s, fits_function fits) {
    int64_t good = 0, bad = 1;
    while (bad <= MAX_SEQUENCES && fits(s, bad)) good = bad, bad *= 2;
    while (s->status >= 0 && bad - good > 1) {
        int64_t middle = good + (bad - good) / 2;
        if (fits(s, middle))
            good = middle;
        else
            bad = middle;
    }
    progress_end();
    return good;
}

static int find_room(searching *s) {
    lckv_device *device;
    lckv_device_info info;
    int status = lckv_device_open(s->o->device, (int)s->o->threads, &device);
    if (status >= 0) status = lckv_device_describe(device, &info);
    if (status >= 0) s->room = s->o->memory_limit ? (double)s->o->memory_limit : (double)info.free_bytes;
    lckv_device_close(device);
    return status;
}

/* ---------------------------------------------------------------- throughput */

typedef struct throughput {
    bench_sample speeds, prompts, decoding;
} throughput;

static void throughput_free(throughput *t) {
    bench_sample_free(&t->speeds);
    bench_sample_free(&t->prompts);
    bench_sample_free(&t->decoding);
}

/* Repeats the whole batch. The first, shorter round is a warmup. */
static int take_rounds(const searching *s, bench_engine *e, int64_t batch, throughput *t) {
    bench_times times;
    char what[128];
    bench_requests r = part_of(s, batch, what);
    int64_t rounds = s->o->repetitions;
    int status = LCKV_OK;
    snprintf(what, sizeof what, "%.60s %.20s: batch %lld", s->config, s->lengths.text, (long long)batch);
    r.stop_early = false;
    r.share = 1 / (double)(rounds + 1);
    for (int64_t i = 0; i <= rounds && status >= 0; i++) {
        r.seed = (uint64_t)i;
        r.new_tokens = i ? s->lengths.new_tokens : 1 + (s->lengths.new_tokens > 1);
        r.begins = (double)i * r.share;
        status = bench_engine_run(e, &r, &times);
        if (!i || status < 0) continue;
        bench_sample_add(&t->speeds, (double)(batch * s->lengths.new_tokens) / times.seconds);
        bench_sample_add(&t->prompts, times.prompt_seconds);
        bench_sample_add(&t->decoding, times.decode_seconds);
    }
    progress_end();
    return status;
}

static int measure(const searching *s, int64_t batch, const lckv_memory *p, throughput *t) {
    bench_engine e;
    int64_t length = s->lengths.prompt + s->lengths.new_tokens;
    int status = bench_engine_open(s->o, s->real, batch, length, p->kv_cache_reserved, &e);
    if (status >= 0) status = take_rounds(s, &e, batch, t);
    int code = status == LCKV_ERROR_MEMORY ? NOT_ENOUGH : bench_outcome(&e, status);
    bench_engine_close(&e);
    return code;
}

/* Near the limit, a run may find slightly less free memory than the one before. Then the batch is reduced by 2 %. */
static int measure_what_fits(searching *s, int64_t *batch, lckv_memory *p, throughput *t) {
    int code = measure(s, *batch, p, t);
    while (code == NOT_ENOUGH && *batch > 1) {
        *batch -= (*batch + 49) / 50;
        s->found_by = BENCH_BY_TRYING;
        s->status = plan(s, *batch, p);
        code = s->status < 0 ? library_error("bench", s->status) : measure(s, *batch, p, t);
    }
    return code == NOT_ENOUGH ? library_error("bench", LCKV_ERROR_MEMORY) : code;
}

/* ---------------------------------------------------------------- rows */

/* The value of the first config for the same lengths, or NAN. */
static double of_first(const json_t *rows, const char *lengths, const char *key) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (strcmp(json_string_value(json_object_get(row, "lengths")), lengths)) continue;
        const json_t *value = json_object_get(row, key);
        return json_is_number(value) ? json_number_value(value) : NAN;
    }
    return NAN;
}

static void set_ratio(json_t *rows, json_t *row, const char *lengths, const char *key, const char *ratio_key) {
    double own = json_number_value(json_object_get(row, key)), first = of_first(rows, lengths, key);
    double ratio = own / (isnan(first) ? own : first);
    if (isfinite(ratio)) json_object_set_new(row, ratio_key, json_real(ratio));
}

/* Only if at least one sequence fits. */
static void add_plan(json_t *row, const lckv_memory *p) {
    const double GIB = 1 << 30;
    json_t *plan = json_pack("{s:I, s:I, s:f, s:I, s:f}", "kv_bytes", (json_int_t)p->kv_cache, "kv_bytes_reserved",
                             (json_int_t)p->kv_cache_reserved, "kv_gib", (double)p->kv_cache / GIB, "planned_bytes",
                             (json_int_t)p->total, "planned_gib", (double)p->total / GIB);
    json_object_update(row, plan);
    json_decref(plan);
}

static void add_row(const searching *s, int64_t batch, const lckv_memory *p, const throughput *t, json_t *rows) {
    static const char *const FROM[] = {"memory plan", "trying"};
    char name[64];
    json_t *row = json_pack("{s:s, s:I, s:s, s:I, s:s}", "model", bench_name(s->config, name), "kv_bytes_per_token",
                            (json_int_t)bench_kv_bytes(s->o, &s->counted), "lengths", s->lengths.text, "batch",
                            (json_int_t)batch, "batch_from", FROM[s->found_by]);
    if (batch) add_plan(row, p);
    set_ratio(rows, row, s->lengths.text, "batch", "batch_ratio");
    if (t->speeds.count) {
        json_object_set_new(row, "prompt_seconds", json_real(bench_mean(&t->prompts)));
        json_object_set_new(row, "decode_seconds", json_real(bench_mean(&t->decoding)));
        bench_set_mean(row, "tokens_per_second", "deviation", &t->speeds);
        set_ratio(rows, row, s->lengths.text, "tokens_per_second", "ratio");
    }
    json_array_append_new(rows, row);
}

static int run_lengths(searching *s, json_t *rows) {
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
    searching s = {.o = o, .config = config};
    int64_t positions = 0;
    for (int i = 0; i < count; i++)
        if (lengths[i].prompt + lengths[i].new_tokens > positions)
            positions = lengths[i].prompt + lengths[i].new_tokens;
    int status = find_room(&s); /* before the weights are loaded */
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
