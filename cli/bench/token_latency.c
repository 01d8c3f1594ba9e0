/* lckv bench --measure stream: time per token of a long text, by position. With a window, the sink
 * cache (StreamingLLM) keeps memory and time constant; --window_length 0 keeps all tokens. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/open_model.h"
#include "cli/output/output.h"
#include "cli/output/timer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const table_column COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "first", .title = "from token"},
    {.key = "tokens", .title = "tokens"},
    {.key = "mean_ms", .title = "ms/token", .decimals = 3, .deviation = "deviation_ms"},
    {.key = "p50_ms", .title = "p50", .decimals = 3},
    {.key = "p99_ms", .title = "p99", .decimals = 3},
    {.key = "max_ms", .title = "max", .decimals = 3},
    {.key = "resident_mib", .title = "resident MiB", .decimals = 1},
    {0},
};

enum { ROWS = 32 }; /* rows per config: sections of the text */

/* State of the measurement. */
typedef struct stream {
    const bench_options *o;
    const char *config;
    json_t *rows;
    bench_sample milliseconds; /* times of the tokens of the current row */
    int64_t tokens;            /* tokens so far */
    int64_t tokens_per_row;
    double last; /* time of the last token in seconds; 0: none yet */
} stream;

/* Resident memory of this process in bytes. */
static double resident_bytes(void) {
    double pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*s %lf", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * (double)sysconf(_SC_PAGESIZE);
}

static void add_row(stream *s) {
    char name[64];
    bench_sample *ms = &s->milliseconds;
    json_t *row = json_pack("{s:s, s:I, s:I}", "model", bench_name(s->config, name), "first",
                            (json_int_t)(s->tokens - ms->count), "tokens", (json_int_t)ms->count);
    bench_set_mean(row, "mean_ms", "deviation_ms", ms);
    json_object_set_new(row, "p50_ms", json_real(bench_quantile(ms, 0.5)));
    json_object_set_new(row, "p99_ms", json_real(bench_quantile(ms, 0.99)));
    json_object_set_new(row, "max_ms", json_real(bench_quantile(ms, 1)));
    json_object_set_new(row, "resident_mib", json_real(resident_bytes() / (1 << 20)));
    json_array_append_new(s->rows, row);
    ms->count = 0;
}

/* Times each token but the first one, which comes from prefill. */
static bool each_token(void *user, const lckv_token *token) {
    stream *s = user;
    char all[48];
    double now = timer_seconds();
    if (!token) return !interrupted();
    s->tokens++;
    if (s->last > 0) bench_sample_add(&s->milliseconds, 1e3 * (now - s->last));
    if (progress_due())
        progress((double)s->tokens / (double)s->o->num_tokens, "%s: %lld of %s", s->config, (long long)s->tokens,
                 human_quantity(s->o->num_tokens, "token", all));
    if ((s->tokens % s->tokens_per_row == 0 || s->tokens == s->o->num_tokens) && s->milliseconds.count) add_row(s);
    s->last = timer_seconds(); /* leaves out the time spent in this function */
    return !interrupted();
}

static int run(stream *s, const bench_model *m) {
    static const int32_t first = 1;
    const lckv_prompt prompt = {&first, 1};
    lckv_generate_options g = lckv_generate_defaults();
    lckv_generation *result;
    g.length = s->o->num_tokens;
    g.temperature = 0;
    g.ignore_eos = true;
    g.window_length = s->o->window_length;
    g.num_sink_tokens = s->o->window_length ? s->o->num_sink_tokens : 0;
    g.bf16 = s->o->bf16;
    g.kv_dtype = kv_dtype_name(s->o->kv_dtype);
    g.callback = each_token;
    g.user = s;
    int status = lckv_generate(m->model, NULL, &prompt, 1, &g, &result);
    progress_end();
    lckv_generation_free(result);
    return status < 0 ? library_error("bench", status) : EXIT_FINE;
}

static int run_config(const bench_options *o, const char *config, json_t *rows) {
    bench_model m;
    stream s = {.o = o, .config = config, .rows = rows, .tokens_per_row = (o->num_tokens + ROWS - 1) / ROWS};
    int64_t positions = o->window_length ? o->window_length : o->num_tokens + 1;
    int status = bench_model_open(o, config, o->device, positions, &m);
    int code = status < 0 ? library_error("bench", status) : run(&s, &m);
    bench_sample_free(&s.milliseconds);
    bench_model_close(&m);
    return code;
}

/* ---------------------------------------------------------------- the chart */

static char *draw(const bench_options *o, const json_t *rows) {
    int count = (int)json_array_size(rows);
    chart_point *points = need(calloc((size_t)count, sizeof *points));
    int *point_counts = need(calloc((size_t)o->configs.count, sizeof *point_counts));
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        points[i].x =
            json_number_value(json_object_get(row, "first")) + json_number_value(json_object_get(row, "tokens")) / 2;
        points[i].y = json_number_value(json_object_get(row, "mean_ms"));
        points[i].deviation = json_number_value(json_object_get(row, "deviation_ms"));
    }
    for (int c = 0; c < o->configs.count; c++) point_counts[c] = count / o->configs.count;
    const chart_lines chart = {.title = "Time per token by position",
                               .x_title = "position",
                               .y_title = "ms per token, mean ± standard deviation",
                               .level = 0};
    char *svg = bench_lines(&o->configs, point_counts, points, chart);
    free(point_counts);
    free(points);
    return svg;
}

int bench_stream(const bench_options *o, bench_result *out) {
    int code = o->window_length ? check_sink_cache("bench", o->num_sink_tokens, o->window_length) : EXIT_FINE;
    for (int i = 0; i < o->configs.count && !code; i++) code = run_config(o, o->configs.items[i], out->rows);
    out->columns = COLUMNS;
    if (!code && o->svg) out->svg = draw(o, out->rows);
    return code;
}
