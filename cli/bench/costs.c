/* lckv bench --measure costs: the cost table of a config, by which --encoding auto chooses (docs/serving.md). It is
 * read from the file of --cost_table, or measured and added to it. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/open_model.h"
#include "cli/output/output.h"

#include <stdio.h>

static const table_column COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "encoding", .title = "encoding"},
    {.key = "rows", .title = "rows"},
    {.key = "depth", .title = "depth"},
    {.key = "milliseconds", .title = "ms/step", .decimals = 3},
    {.key = "tokens_per_second", .title = "tokens/s", .decimals = 0},
    {0},
};

static void add_rows(const char *config, const lckv_step_cost *costs, int count, json_t *rows) {
    char name[64];
    for (int i = 0; i < count; i++) {
        const lckv_step_cost *c = &costs[i];
        json_array_append_new(rows, json_pack("{s:s, s:s, s:I, s:I, s:f, s:f}", "model", bench_name(config, name),
                                              "encoding", encoding_name(c->encoding), "rows", (json_int_t)c->rows,
                                              "depth", (json_int_t)c->depth, "milliseconds", 1e3 * c->seconds,
                                              "tokens_per_second", (double)c->rows / c->seconds));
    }
}

static int measure_config(const bench_options *o, const char *config, json_t *rows) {
    bench_model m;
    bench_engine e = {0};
    const lckv_step_cost *costs;
    int count;
    int status = bench_model_open(o, config, o->device, 0, &m);
    progress(-1, "measuring steps of %s", config);
    if (status >= 0) status = bench_engine_open(o, &m, 1, 0, 0, &e);
    if (status >= 0) status = lckv_engine_costs(e.engine, &costs, &count);
    progress_end();
    int code = status < 0 ? library_error("bench", status) : EXIT_FINE;
    if (!code && !count) notice("%s has no loops, so that there is nothing to choose", config);
    if (!code) add_rows(config, costs, count, rows);
    bench_engine_close(&e);
    bench_model_close(&m);
    return code;
}

int bench_costs(const bench_options *o, bench_result *out) {
    int code = EXIT_FINE;
    for (int i = 0; i < o->configs.count && !code; i++) code = measure_config(o, o->configs.items[i], out->rows);
    out->columns = COLUMNS;
    return code;
}
