/* lckv bench --profile: time by op, as rows of a table and as a Chrome trace. See bench.h.
 *
 * The trace is an object with "traceEvents", the JSON format of chrome://tracing and Perfetto. Each run is a process of
 * the trace, which starts at 0. */
#include "cli/bench/bench.h"

#include "cli/output/output.h"

#include <stdlib.h>
#include <string.h>

const table_column BENCH_PROFILE_COLUMNS[] = {
    {.key = "model", .title = "model"},
    {.key = "test", .title = "test"},
    {.key = "op", .title = "op"},
    {.key = "calls", .title = "calls"},
    {.key = "milliseconds", .title = "ms", .decimals = 3},
    {.key = "share", .title = "share", .decimals = 3},
    {.key = "gflops", .title = "GFLOP/s", .decimals = 1},
    {.key = "gbytes_per_second", .title = "GB/s", .decimals = 1},
    {0},
};

/* ---------------------------------------------------------------- a profiled run */

int bench_engine_profile(bench_engine *e, lckv_device *device, const bench_requests *r, bench_calls *out) {
    *out = (bench_calls){0};
    bench_times times;
    int status = lckv_profile_start(device);
    if (status < 0) return status;
    status = bench_engine_run(e, r, &times);
    int stopped = lckv_profile_stop(device, &out->items, &out->count);
    out->seconds = times.seconds;
    if (status >= 0) status = stopped;
    if (status < 0) bench_calls_free(out);
    return status;
}

void bench_calls_free(bench_calls *c) {
    lckv_free(c->items);
    *c = (bench_calls){0};
}

/* ---------------------------------------------------------------- time by op */

typedef struct op_total {
    const char *op;
    int64_t calls;
    double seconds, flops, bytes;
} op_total;

enum { MAX_OPS = 64 };

/* Sums the calls by op. Returns the number of ops. */
static int sum_by_op(const bench_calls *c, op_total totals[MAX_OPS]) {
    int count = 0;
    for (int64_t i = 0; i < c->count; i++) {
        const lckv_op_call *call = &c->items[i];
        int at = 0;
        while (at < count && strcmp(totals[at].op, call->op)) at++;
        if (at == MAX_OPS) continue;
        if (at == count) totals[count++] = (op_total){.op = call->op};
        totals[at].calls++;
        totals[at].seconds += call->seconds;
        totals[at].flops += call->flops;
        totals[at].bytes += call->bytes;
    }
    return count;
}

static int by_time(const void *a, const void *b) {
    double x = ((const op_total *)a)->seconds, y = ((const op_total *)b)->seconds;
    return (x < y) - (x > y);
}

static json_t *row_of(const char *model, const char *test, const char *op, double seconds, double all) {
    return json_pack("{s:s, s:s, s:s, s:f, s:f}", "model", model, "test", test, "op", op, "milliseconds", 1e3 * seconds,
                     "share", seconds / all);
}

static void add_rows(json_t *rows, const char *model, const char *test, const bench_calls *c) {
    op_total totals[MAX_OPS];
    int count = sum_by_op(c, totals);
    double rest = c->seconds;
    qsort(totals, (size_t)count, sizeof *totals, by_time);
    for (int i = 0; i < count; i++) {
        const op_total *t = &totals[i];
        json_t *row = row_of(model, test, t->op, t->seconds, c->seconds);
        json_object_set_new(row, "calls", json_integer(t->calls));
        if (t->flops > 0) json_object_set_new(row, "gflops", json_real(1e-9 * t->flops / t->seconds));
        json_object_set_new(row, "gbytes_per_second", json_real(1e-9 * t->bytes / t->seconds));
        json_array_append_new(rows, row);
        rest -= t->seconds;
    }
    json_array_append_new(rows, row_of(model, test, "(outside ops)", rest, c->seconds));
}

/* ---------------------------------------------------------------- the trace */

/* Quoted and escaped. Release with free(). */
static char *quoted(const char *text) {
    json_t *value = json_string(text);
    char *out = need(json_dumps(value, JSON_ENCODE_ANY));
    json_decref(value);
    return out;
}

static void add_events(FILE *trace, int process, const char *model, const char *test, const bench_calls *c) {
    char title[160];
    snprintf(title, sizeof title, "%.64s %.64s", model, test);
    char *name = quoted(title);
    fprintf(trace, "%s{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"tid\":1,\"args\":{\"name\":%s}}",
            process > 1 ? ",\n" : "", process, name);
    free(name);
    for (int64_t i = 0; i < c->count; i++) {
        const lckv_op_call *call = &c->items[i];
        fprintf(trace,
                ",\n{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"op\",\"pid\":%d,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,"
                "\"args\":{\"flops\":%.0f,\"bytes\":%.0f}}",
                call->op, process, 1e6 * call->begin, 1e6 * call->seconds, call->flops, call->bytes);
    }
}

/* ---------------------------------------------------------------- all runs */

void bench_profile_open(bench_profile *p) {
    *p = (bench_profile){.rows = json_array()};
    p->trace = need(open_memstream(&p->text, &p->length));
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", p->trace);
}

void bench_profile_add(bench_profile *p, const char *model, const char *test, const bench_calls *calls) {
    add_events(p->trace, ++p->runs, model, test, calls);
    add_rows(p->rows, model, test, calls);
}

void bench_profile_close(bench_profile *p, bench_result *out) {
    fputs("\n]}\n", p->trace);
    if (fclose(p->trace)) need(NULL);
    out->trace = p->text;
    out->ops = p->rows;
    *p = (bench_profile){0};
}
