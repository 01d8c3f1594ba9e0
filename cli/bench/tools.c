/* Utilities of lckv bench: parsing of lists, means and quantiles, the chart that compares configs. See bench.h. */
#include "cli/bench/bench.h"

#include "cli/output.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------- flags */

enum { MOST_TOKENS = 1 << 28 };

static bool read_number(const char *text, char end_with, int64_t least, int64_t *out, const char **behind) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    *out = number;
    *behind = end + (*end != '\0');
    return end != text && !errno && *end == end_with && number >= least && number <= MOST_TOKENS;
}

int bench_numbers(const flag_list *list, const char *name, int64_t least, int64_t *numbers) {
    const char *behind;
    if (list->count > BENCH_MAX_LENGTHS)
        return usage_error("bench", "--%s: expected at most %d numbers, found %d", name, BENCH_MAX_LENGTHS,
                           list->count);
    for (int i = 0; i < list->count; i++)
        if (!read_number(list->items[i], '\0', least, &numbers[i], &behind))
            return usage_error("bench", "--%s: expected integers >= %lld, found \"%s\"", name, (long long)least,
                               list->items[i]);
    return EXIT_FINE;
}

int bench_read_lengths(const bench_options *o, bench_lengths *out, int *count) {
    const flag_list *list = &o->lengths;
    if (list->count > BENCH_MAX_LENGTHS)
        return usage_error("bench", "--lengths: expected at most %d, found %d", BENCH_MAX_LENGTHS, list->count);
    for (*count = 0; *count < list->count; ++*count) {
        bench_lengths *l = &out[*count];
        const char *behind = l->text = list->items[*count];
        if (!read_number(behind, '+', 1, &l->prompt, &behind) || !read_number(behind, '\0', 1, &l->new_tokens, &behind))
            return usage_error("bench", "--lengths: expected prompt length + new tokens such as 512+128, found \"%s\"",
                               l->text);
    }
    return EXIT_FINE;
}

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

/* ---------------------------------------------------------------- the chart */

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
    const chart_rows whole = {.title = of->title,
                              .value_title = of->value_title,
                              .groups = group,
                              .count = groups,
                              .bars = true,
                              .decimals = of->decimals,
                              .level = NAN};
    char *svg = chart_rows_svg(&whole);
    free(names);
    free(bars);
    free(group);
    return svg;
}
