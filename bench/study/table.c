/* study_table DIR: writes the results of bench/study/run in DIR as a table (table.md, table.csv), the divergence by
 * number of iterations (iterations.csv), and figures (figures.c). Numbers that depend on the seed are means, with the
 * standard deviation over the seeds. Variants without a result, or with a part of them, are no error. study_table
 * --figures DIR: draws the figures again from the two .csv files. Leaves out: measuring. */
#include "figures.h"

#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "cli/output/result_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_VARIANTS = 64, MAX_SEEDS = 9, MAX_ITERATIONS = 64, PATH_BYTES = 1024, NAME_BYTES = 64 };

/* Divergence that counts as converged: a hundredth of what models of this size differ by from seed to seed. */
static const double CONVERGED = 1e-3;

static const table_column COLUMNS[] = {
    {.key = "layout", .title = "variant"},
    {.key = "passes", .title = "m + b"},
    {.key = "kv_bytes_per_token", .title = "KV bytes/token"},
    {.key = "parameters", .title = "parameters"},
    {.key = "seeds", .title = "seeds"},
    {.key = "dev_loss", .title = "dev loss", .decimals = 3, .deviation = "dev_loss_deviation"},
    {.key = "plan_excess", .title = "m + b iterations", .decimals = 4, .deviation = "plan_excess_deviation"},
    {.key = "kl", .title = "KL", .decimals = 5, .deviation = "kl_deviation"},
    {.key = "iterations_needed", .title = "KL below 0.001"},
    {.key = "train_ratio", .title = "training speed", .decimals = 2},
    {.key = "prompt_ratio", .title = "prefill speed", .decimals = 2},
    {.key = "decode_ratio", .title = "decode speed", .decimals = 2},
    {.key = "batch_ratio", .title = "largest batch", .decimals = 2},
    {0},
};

static const table_column ITERATIONS_COLUMNS[] = {
    {.key = "layout", .title = "variant"},
    {.key = "iterations", .title = "iterations"},
    {.key = "kl", .title = "KL", .decimals = 6, .deviation = "kl_deviation"},
    {0},
};

/* A number that was measured with several seeds. */
typedef struct sample {
    double sum, squares;
    int count;
} sample;

typedef struct variant {
    char name[NAME_BYTES];
    int m, b;
    sample loss; /* of the exact form */
    sample kl[MAX_ITERATIONS + 1],
        excess[MAX_ITERATIONS + 1]; /* by iterations: divergence, and loss above the exact one */
} variant;

typedef struct study {
    const char *folder;
    variant variants[MAX_VARIANTS];
    int count;
    json_t *rows; /* of the table, one per variant with a result */
} study;

/* ---------------------------------------------------------------- samples */

static void sample_add(sample *s, double x) {
    s->sum += x;
    s->squares += x * x;
    s->count++;
}

static double sample_mean(const sample *s) {
    return s->count ? s->sum / s->count : NAN;
}

static double sample_deviation(const sample *s) {
    return s->count > 1 ? sqrt(fmax((s->squares - s->sum * sample_mean(s)) / (s->count - 1), 0)) : NAN;
}

/* Sets KEY and KEY_deviation, unless the sample is too small. */
static void set_sample(json_t *row, const char *key, const sample *s) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s_deviation", key);
    if (s->count > 0) json_object_set_new(row, key, json_real(sample_mean(s)));
    if (s->count > 1) json_object_set_new(row, name, json_real(sample_deviation(s)));
}

/* ---------------------------------------------------------------- reading */

static int complain(const char *what, const char *name) {
    return failure("study_table", "%s '%s'", what, name);
}

/* A file of a variant; *out is NULL if it does not exist. */
static int load(const study *s, const variant *v, const char *file, json_t **out) {
    char path[PATH_BYTES];
    json_error_t error;
    *out = NULL;
    snprintf(path, sizeof path, "%s/%s/%s", s->folder, v->name, file);
    if (access(path, F_OK)) return EXIT_FINE;
    *out = json_load_file(path, 0, &error);
    return *out ? EXIT_FINE : failure("study_table", "%s: %s", path, error.text);
}

static int load_of_seed(const study *s, const variant *v, int seed, const char *file, json_t **out) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "seed-%d/%s", seed, file);
    return load(s, v, name, out);
}

static json_t *row_of(const json_t *bench, size_t i) {
    return json_array_get(json_object_get(bench, "rows"), i);
}

static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void copy_value(json_t *row, const char *key, const json_t *from, const char *from_key) {
    json_t *value = json_object_get(from, from_key);
    if (value) json_object_set(row, key, value);
}

/* The last row is the exact form, without a number of iterations. */
static void add_iterations(variant *v, const json_t *measured) {
    size_t i;
    json_t *form;
    json_array_foreach(json_object_get(measured, "rows"), i, form) {
        json_int_t iterations = json_integer_value(json_object_get(form, "iterations"));
        if (iterations < 1 || iterations > MAX_ITERATIONS) continue;
        sample_add(&v->kl[iterations], number_of(form, "kl"));
        sample_add(&v->excess[iterations], number_of(form, "more_than_exact"));
    }
}

/* Without loops, training is in the exact form, and no other is measured. */
static int read_seed(const study *s, variant *v, int seed) {
    json_t *trained, *exact, *iterations;
    int code = load_of_seed(s, v, seed, "train.json", &trained);
    if (!code) code = load_of_seed(s, v, seed, "exact.json", &exact);
    if (!code) code = load_of_seed(s, v, seed, "iterations.json", &iterations);
    if (code) return code;
    bool whole = trained && (!exact == !iterations);
    if (whole) {
        sample_add(&v->loss, number_of(exact ? exact : trained, "eval_loss"));
        add_iterations(v, iterations);
    }
    json_decref(trained);
    json_decref(exact);
    json_decref(iterations);
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- rows */

/* For a sequence of 1024 tokens; windows store fewer tokens. */
static void add_sizes(json_t *row, const json_t *inspected) {
    const json_t *serving = json_object_get(json_object_get(inspected, "memory"), "serving");
    double tokens = number_of(serving, "length"), bytes = number_of(serving, "kv_cache");
    if (tokens > 0) json_object_set_new(row, "kv_bytes_per_token", json_integer(llround(bytes / tokens)));
    copy_value(row, "parameters", inspected, "parameters");
}

/* The smallest number of iterations with a divergence below CONVERGED. */
static json_t *iterations_needed(const variant *v) {
    char more[32];
    int most = 0;
    for (int i = 1; i <= MAX_ITERATIONS && v->kl[i].count; i++, most++)
        if (sample_mean(&v->kl[i]) < CONVERGED) return json_integer(i);
    snprintf(more, sizeof more, "> %d", most);
    return json_string(more);
}

static void add_convergence(json_t *row, const variant *v) {
    char passes[32];
    bool loops = v->kl[1].count > 0;
    int trained = v->m + v->b;
    snprintf(passes, sizeof passes, "%d + %d", v->m, v->b);
    json_object_set_new(row, "passes", json_string(loops ? passes : "-"));
    if (!loops) return;
    json_object_set_new(row, "iterations_needed", iterations_needed(v));
    if (trained > MAX_ITERATIONS) return;
    set_sample(row, "plan_excess", &v->excess[trained]);
    set_sample(row, "kl", &v->kl[trained]);
}

/* Relative to the plain model. */
static void add_training_ratios(json_t *rows) {
    double reference = 0;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (!strcmp(json_string_value(json_object_get(row, "layout")), "plain"))
        reference = number_of(row, "train_tokens_per_second");
    json_array_foreach(rows, i, row) {
        double speed = number_of(row, "train_tokens_per_second");
        if (speed > 0 && reference > 0) json_object_set_new(row, "train_ratio", json_real(speed / reference));
    }
}

/* The rows of the plain model come first: two tests of speed, one of batches. */
static void add_speed(json_t *row, const json_t *speed, const json_t *batch) {
    copy_value(row, "prompt_ratio", row_of(speed, 2), "ratio");
    copy_value(row, "decode_ratio", row_of(speed, 3), "ratio");
    copy_value(row, "prompt_tokens_per_second", row_of(speed, 2), "tokens_per_second");
    copy_value(row, "decode_tokens_per_second", row_of(speed, 3), "tokens_per_second");
    copy_value(row, "batch", row_of(batch, 1), "batch");
    copy_value(row, "batch_ratio", row_of(batch, 1), "batch_ratio");
}

static int add_measurements(const study *s, const variant *v, json_t *row) {
    json_t *inspected, *training, *speed, *batch;
    int code = load(s, v, "inspect.json", &inspected);
    if (!code) code = load(s, v, "training_speed.json", &training);
    if (!code) code = load(s, v, "speed.json", &speed);
    if (!code) code = load(s, v, "batch.json", &batch);
    if (code) return code;
    add_sizes(row, inspected);
    copy_value(row, "train_tokens_per_second", training, "tokens_per_second");
    add_speed(row, speed, batch);
    json_t *all[] = {inspected, training, speed, batch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) json_decref(all[i]);
    return EXIT_FINE;
}

static int read_variant(study *s, variant *v) {
    int code = EXIT_FINE;
    for (int seed = 1; !code && seed <= MAX_SEEDS; seed++) code = read_seed(s, v, seed);
    if (code || !v->loss.count) return code;
    json_t *row = json_pack("{s:s, s:i}", "layout", v->name, "seeds", v->loss.count);
    add_convergence(row, v);
    set_sample(row, "dev_loss", &v->loss);
    code = add_measurements(s, v, row);
    json_array_append_new(s->rows, row);
    return code;
}

static int read_variants(study *s) {
    char path[PATH_BYTES], line[1024];
    int code = EXIT_FINE;
    snprintf(path, sizeof path, "%s/variants.txt", s->folder);
    FILE *file = fopen(path, "r");
    if (!file) return complain("cannot read", path);
    while (!code && s->count < MAX_VARIANTS && fgets(line, sizeof line, file)) {
        variant *v = &s->variants[s->count++];
        if (sscanf(line, "%63s %*s %d %d", v->name, &v->m, &v->b) != 3)
            code = complain("expected NAME LAYER_TYPES M B, found", line);
        else
            code = read_variant(s, v);
    }
    fclose(file);
    add_training_ratios(s->rows);
    return code;
}

/* ---------------------------------------------------------------- files */

static int write_table(const study *s, table_form form, const table_column *columns, const json_t *rows,
                       const char *name) {
    char path[PATH_BYTES], *text = table_text(form, columns, rows);
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    int code = write_file("study_table", path, text);
    free(text);
    return code;
}

static int write_iterations(const study *s) {
    json_t *all = json_array();
    for (int i = 0; i < s->count; i++) {
        const variant *v = &s->variants[i];
        for (int iterations = 1; iterations <= MAX_ITERATIONS; iterations++) {
            if (!v->kl[iterations].count) continue;
            json_t *row = json_pack("{s:s, s:i}", "layout", v->name, "iterations", iterations);
            set_sample(row, "kl", &v->kl[iterations]);
            json_array_append_new(all, row);
        }
    }
    int code = write_table(s, TABLE_CSV, ITERATIONS_COLUMNS, all, "iterations.csv");
    json_decref(all);
    return code;
}

static int tabulate(const char *folder) {
    static study s;
    s.folder = folder;
    s.rows = json_array();
    int code = read_variants(&s);
    if (!code) code = write_table(&s, TABLE_MARKDOWN, COLUMNS, s.rows, "table.md");
    if (!code) code = write_table(&s, TABLE_CSV, COLUMNS, s.rows, "table.csv");
    if (!code) code = write_iterations(&s);
    json_decref(s.rows);
    return code;
}

int main(int argc, char **argv) {
    bool figures_alone = argc == 3 && !strcmp(argv[1], "--figures");
    if (argc != 2 && !figures_alone) return usage_error("study_table", "usage: study_table [--figures] DIR");
    int code = figures_alone ? EXIT_FINE : tabulate(argv[argc - 1]);
    return code ? code : study_figures(argv[argc - 1]);
}
