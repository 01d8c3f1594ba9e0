/* lckv bench --measure stream: time per token of a long text, by position. A window uses the sink cache (StreamingLLM),
 * whose memory and time stay constant; --window_length 0 uses a cache that keeps everything. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/output.h"

#include <math.h>
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

enum { ROWS = 32 }; /* rows per config */

/* State of the measurement. Times are collected for the current row only. */
typedef struct stream {
    const bench_options *o;
    const char *config;
    json_t *rows;
    bench_sample milliseconds; /* of the current row */
    int64_t made, place;       /* tokens so far, and tokens per row */
    double before;             /* time of the last token; 0: none yet */
} stream;

/* Resident memory of this process in bytes. */
static double resident_bytes(void) {
    double pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*s %lf", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * (double)sysconf(_SC_PAGESIZE);
}

static void end_place(stream *s) {
    char name[64];
    bench_sample *ms = &s->milliseconds;
    json_t *row = json_pack("{s:s, s:I, s:I}", "model", bench_name(s->config, name), "first",
                            (json_int_t)(s->made - ms->count), "tokens", (json_int_t)ms->count);
    bench_set_mean(row, "mean_ms", "deviation_ms", ms);
    json_object_set_new(row, "p50_ms", json_real(bench_quantile(ms, 0.5)));
    json_object_set_new(row, "p99_ms", json_real(bench_quantile(ms, 0.99)));
    json_object_set_new(row, "max_ms", json_real(bench_quantile(ms, 1)));
    json_object_set_new(row, "resident_mib", json_real(resident_bytes() / (1 << 20)));
    json_array_append_new(s->rows, row);
    ms->count = 0;
}

/* The first token comes from prefill and is not timed. */
static bool each_token(void *user, const lckv_token *token) {
    stream *s = user;
    double now = bench_now();
    if (!token) return !interrupted();
    s->made++;
    if (s->before > 0) bench_sample_add(&s->milliseconds, 1e3 * (now - s->before));
    if (progress_due())
        progress((double)s->made / (double)s->o->num_tokens, "%s: %lld of %lld tokens", s->config, (long long)s->made,
                 (long long)s->o->num_tokens);
    if ((s->made % s->place == 0 || s->made == s->o->num_tokens) && s->milliseconds.count) end_place(s);
    s->before = bench_now(); /* exclude the time spent here */
    return !interrupted();
}

static int run(stream *s, const bench_model *m) {
    static const int32_t first = 1;
    const lckv_prompt prompt = {&first, 1};
    lckv_generate_options g = lckv_generate_defaults();
    lckv_generation *made;
    g.length = s->o->num_tokens;
    g.temperature = 0;
    g.ignore_eos = true;
    g.window_length = s->o->window_length;
    g.num_sink_tokens = s->o->window_length ? s->o->num_sink_tokens : 0;
    g.bf16 = s->o->bf16;
    g.callback = each_token;
    g.user = s;
    int status = lckv_generate(m->model, NULL, &prompt, 1, &g, &made);
    progress_end();
    lckv_generation_free(made);
    return status < 0 ? library_error("bench", status) : EXIT_FINE;
}

static int run_config(const bench_options *o, const char *config, json_t *rows) {
    bench_model m;
    stream s = {.o = o, .config = config, .rows = rows, .place = (o->num_tokens + ROWS - 1) / ROWS};
    int64_t positions = o->window_length ? o->window_length : o->num_tokens + 1;
    int status = bench_model_open(o, config, o->device, positions, &m);
    int code = status < 0 ? library_error("bench", status) : run(&s, &m);
    bench_sample_free(&s.milliseconds);
    bench_model_close(&m);
    return code;
}

/* ---------------------------------------------------------------- the chart */

static char *draw(const bench_options *o, const json_t *rows) {
    int configs = o->configs.count, each = (int)json_array_size(rows) / configs;
    chart_series *series = need(calloc((size_t)configs, sizeof *series));
    chart_point *points = need(calloc(json_array_size(rows), sizeof *points));
    char(*names)[64] = need(calloc((size_t)configs, sizeof *names));
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        points[i].x =
            json_number_value(json_object_get(row, "first")) + json_number_value(json_object_get(row, "tokens")) / 2;
        points[i].y = json_number_value(json_object_get(row, "mean_ms"));
        points[i].deviation = json_number_value(json_object_get(row, "deviation_ms"));
    }
    for (int c = 0; c < configs; c++)
        series[c] = (chart_series){bench_name(o->configs.items[c], names[c]), points + c * each, each};
    const chart_lines c = {.title = "Time per token by position",
                           .x_title = "position",
                           .y_title = "ms per token, mean ± standard deviation",
                           .series = series,
                           .count = configs,
                           .level = 0};
    char *svg = chart_lines_svg(&c);
    free(names);
    free(points);
    free(series);
    return svg;
}

int bench_stream(const bench_options *o, bench_result *out) {
    int code = EXIT_FINE;
    if (o->window_length && o->num_sink_tokens >= o->window_length)
        code = usage_error("bench", "--num_sink_tokens (%lld) must be less than --window_length (%lld)",
                           (long long)o->num_sink_tokens, (long long)o->window_length);
    for (int i = 0; i < o->configs.count && !code; i++) code = run_config(o, o->configs.items[i], out->rows);
    out->columns = COLUMNS;
    if (!code && o->svg) out->svg = draw(o, out->rows);
    return code;
}
