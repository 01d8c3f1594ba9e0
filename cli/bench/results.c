/* Results of lckv bench: means and quantiles of samples, ratios between rows, charts that compare models. See bench.h.
 */
#include "cli/bench/bench.h"

#include "cli/output/output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- samples */

void bench_sample_add(bench_sample *s, double value) {
    bool full = (s->count & (s->count - 1)) == 0; /* the capacity is a power of two */
    if (full) s->values = need(realloc(s->values, (size_t)(s->count ? 2 * s->count : 1) * sizeof *s->values));
    s->values[s->count++] = value;
}

void bench_sample_free(bench_sample *s) {
    free(s->values);
    *s = (bench_sample){0};
}

double bench_mean(const bench_sample *s) {
    double sum = 0;
    for (int i = 0; i < s->count; i++) sum += s->values[i];
    return sum / s->count;
}

double bench_deviation(const bench_sample *s) {
    double mean = bench_mean(s), sum = 0;
    for (int i = 0; i < s->count; i++) sum += (s->values[i] - mean) * (s->values[i] - mean);
    return s->count > 1 ? sqrt(sum / (s->count - 1)) : NAN;
}

void bench_set_mean(json_t *row, const char *key, const char *deviation, const bench_sample *s) {
    json_object_set_new(row, key, json_real(bench_mean(s)));
    if (s->count > 1) json_object_set_new(row, deviation, json_real(bench_deviation(s)));
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_quantile(const bench_sample *s, double share) {
    if (!s->count) return NAN;
    qsort(s->values, (size_t)s->count, sizeof *s->values, by_value);
    int rank = (int)ceil(share * s->count) - 1;
    return s->values[rank < 0 ? 0 : rank];
}

/* ---------------------------------------------------------------- rows */

const json_t *bench_find_row(const json_t *rows, const char *key, const char *text) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (!strcmp(json_string_value(json_object_get(row, key)), text)) return row;
    }
    return NULL;
}

void bench_set_ratio(json_t *row, const json_t *rows, const char *key, const char *value_key, const char *ratio_key) {
    const json_t *first = bench_find_row(rows, key, json_string_value(json_object_get(row, key)));
    const json_t *reference = json_object_get(first ? first : row, value_key);
    if (!reference) reference = json_object_get(row, value_key);
    double ratio = json_number_value(json_object_get(row, value_key)) / json_number_value(reference);
    if (isfinite(ratio)) json_object_set_new(row, ratio_key, json_real(ratio));
}

/* ---------------------------------------------------------------- charts */

char *bench_lines(const flag_list *models, const int *point_counts, const chart_point *points, chart_lines chart) {
    chart_series *series = need(calloc((size_t)models->count, sizeof *series));
    char(*names)[64] = need(calloc((size_t)models->count, sizeof *names));
    for (int i = 0; i < models->count; i++) {
        series[i] = (chart_series){bench_name(models->items[i], names[i]), points, point_counts[i]};
        points += point_counts[i];
    }
    chart.series = series;
    chart.count = models->count;
    char *svg = chart_lines_svg(&chart);
    free(names);
    free(series);
    return svg;
}

char *bench_bars(const bench_options *o, const json_t *rows, const bench_bars_of *of) {
    int configs = o->configs.count, groups = of->group_count;
    chart_group *group = need(calloc((size_t)groups, sizeof *group));
    chart_row *bars = need(calloc((size_t)configs * (size_t)groups, sizeof *bars));
    char(*names)[64] = need(calloc((size_t)configs, sizeof *names));
    for (int c = 0; c < configs; c++) bench_name(o->configs.items[c], names[c]);
    for (int g = 0; g < groups; g++) {
        group[g] = (chart_group){of->groups[g], bars + g * configs, configs};
        for (int c = 0; c < configs; c++) {
            const json_t *row = json_array_get(rows, (size_t)(c * groups + g)), *value = json_object_get(row, of->key);
            double deviation = of->deviation ? json_number_value(json_object_get(row, of->deviation)) : 0;
            bars[g * configs + c] = (chart_row){names[c], value ? json_number_value(value) : NAN, deviation, c};
        }
    }
    const chart_rows chart = {.title = of->title,
                              .value_title = of->value_title,
                              .groups = group,
                              .count = groups,
                              .bars = true,
                              .decimals = of->decimals,
                              .level = NAN};
    char *svg = chart_rows_svg(&chart);
    free(names);
    free(bars);
    free(group);
    return svg;
}
