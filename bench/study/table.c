/* study_table DIR: writes the results of bench/study/run in DIR as a table (table.md, table.csv), the divergence by
 * number of iterations (iterations.csv), and figures (figures.c). study_table --figures DIR: draws the figures again
 * from the two .csv files. Leaves out: measuring. */
#include "figures.h"

#include "cli/flags/flags.h"
#include "cli/output/output.h"
#include "cli/output/result_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LAYOUTS = 64, PATH_BYTES = 1024, NAME_BYTES = 64 };

static const table_column COLUMNS[] = {
    {.key = "layout", .title = "layer map"},
    {.key = "passes", .title = "m + b"},
    {.key = "kv_bytes_per_token", .title = "KV bytes/token"},
    {.key = "parameters", .title = "parameters"},
    {.key = "dev_loss", .title = "dev loss", .decimals = 3, .deviation = "dev_loss_deviation"},
    {.key = "exact_loss", .title = "exact form", .decimals = 3},
    {.key = "plan_loss", .title = "m + b iterations", .decimals = 3},
    {.key = "kl", .title = "KL", .decimals = 5},
    {.key = "train_ratio", .title = "training speed", .decimals = 2},
    {.key = "prompt_ratio", .title = "prefill speed", .decimals = 2},
    {.key = "decode_ratio", .title = "decode speed", .decimals = 2},
    {.key = "batch_ratio", .title = "largest batch", .decimals = 2},
    {0},
};

static const table_column ITERATIONS_COLUMNS[] = {
    {.key = "layout", .title = "layer map"},
    {.key = "iterations", .title = "iterations"},
    {.key = "kl", .title = "KL", .decimals = 6},
    {0},
};

typedef struct layout {
    char name[NAME_BYTES];
    int m, b;
    json_t *iterations; /* rows of lckv bench --measure iterations */
} layout;

typedef struct study {
    const char *folder;
    layout layouts[MAX_LAYOUTS];
    int count;
    json_t *rows; /* of the table, one per layer map */
} study;

/* ---------------------------------------------------------------- reading */

static int complain(const char *what, const char *name) {
    return failure("study_table", "%s '%s'", what, name);
}

static json_t *load(const study *s, const layout *l, const char *file) {
    char path[PATH_BYTES];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s/%s", s->folder, l->name, file);
    json_t *json = json_load_file(path, 0, &error);
    if (!json) failure("study_table", "%s: %s", path, error.text);
    return json;
}

static bool has_file(const study *s, const layout *l, const char *file) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s/%s", s->folder, l->name, file);
    return access(path, R_OK) == 0;
}

static json_t *row_of(const json_t *bench, size_t i) {
    return json_array_get(json_object_get(bench, "rows"), i);
}

static void copy_value(json_t *row, const char *key, const json_t *from, const char *from_key) {
    json_t *value = json_object_get(from, from_key);
    if (value) json_object_set(row, key, value);
}

/* For a sequence of 1024 tokens; windows store fewer tokens. */
static void add_sizes(json_t *row, const json_t *inspected) {
    const json_t *serving = json_object_get(json_object_get(inspected, "memory"), "serving");
    double tokens = json_number_value(json_object_get(serving, "length"));
    double bytes = json_number_value(json_object_get(serving, "kv_cache"));
    json_object_set_new(row, "kv_bytes_per_token", json_integer(llround(bytes / tokens)));
    copy_value(row, "parameters", inspected, "parameters");
    copy_value(row, "layer_types", inspected, "layer_types");
}

/* Copies the row with the iterations of training, and the last row, which is the exact form. */
static void add_forms(json_t *row, const layout *l) {
    size_t i, count = json_array_size(l->iterations);
    json_t *form;
    copy_value(row, "exact_loss", json_array_get(l->iterations, count - 1), "loss");
    json_array_foreach(l->iterations, i, form) {
        if (json_integer_value(json_object_get(form, "iterations")) != l->m + l->b) continue;
        copy_value(row, "plan_loss", form, "loss");
        copy_value(row, "kl", form, "kl");
    }
}

/* The mean and the standard deviation over the seeds. */
static void add_losses(const study *s, const layout *l, json_t *row, const json_t *trained) {
    double sum = json_number_value(json_object_get(trained, "eval_loss")), squares = sum * sum;
    int count = 1;
    for (char file[] = "seed-2.json"; has_file(s, l, file); file[5]++, count++) {
        json_t *again = load(s, l, file);
        double loss = json_number_value(json_object_get(again, "eval_loss"));
        sum += loss;
        squares += loss * loss;
        json_decref(again);
    }
    double mean = sum / count, variance = count > 1 ? (squares - sum * mean) / (count - 1) : 0;
    json_object_set_new(row, "dev_loss", json_real(mean));
    json_object_set_new(row, "seeds", json_integer(count));
    if (count > 1) json_object_set_new(row, "dev_loss_deviation", json_real(sqrt(fmax(variance, 0))));
}

/* Relative to the plain model, which is the first row. */
static void add_training_speed(const study *s, json_t *row, const json_t *trained) {
    const json_t *plain = json_array_size(s->rows) ? json_array_get(s->rows, 0) : row;
    copy_value(row, "train_tokens_per_second", trained, "tokens_per_second");
    json_object_set_new(row, "train_ratio",
                        json_real(json_number_value(json_object_get(row, "train_tokens_per_second")) /
                                  json_number_value(json_object_get(plain, "train_tokens_per_second"))));
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

static int read_layout(study *s, layout *l) {
    char passes[32];
    json_t *trained = load(s, l, "train.json"), *inspected = load(s, l, "inspect.json"),
           *iterations = load(s, l, "iterations.json");
    json_t *speed = load(s, l, "speed.json"), *batch = load(s, l, "batch.json");
    json_t *row = json_pack("{s:s}", "layout", l->name);
    bool whole = trained && inspected && iterations && speed && batch;
    if (whole) {
        l->iterations = json_incref(json_object_get(iterations, "rows"));
        snprintf(passes, sizeof passes, "%d + %d", l->m, l->b);
        json_object_set_new(row, "passes", json_string(json_array_size(l->iterations) > 1 ? passes : "-"));
        add_sizes(row, inspected);
        add_losses(s, l, row, trained);
        add_training_speed(s, row, trained);
        add_forms(row, l);
        add_speed(row, speed, batch);
        json_array_append(s->rows, row);
    }
    json_t *all[] = {trained, inspected, iterations, speed, batch, row};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) json_decref(all[i]);
    return whole ? EXIT_FINE : EXIT_FAILED;
}

static int read_layouts(study *s) {
    char path[PATH_BYTES], line[1024];
    int code = EXIT_FINE;
    snprintf(path, sizeof path, "%s/layouts.txt", s->folder);
    FILE *file = fopen(path, "r");
    if (!file) return complain("cannot read", path);
    while (!code && s->count < MAX_LAYOUTS && fgets(line, sizeof line, file)) {
        layout *l = &s->layouts[s->count++];
        if (sscanf(line, "%63s %*s %d %d", l->name, &l->m, &l->b) != 3)
            code = complain("expected NAME LAYER_TYPES M B, found", line);
        else
            code = read_layout(s, l);
    }
    fclose(file);
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
    json_t *all = json_array(), *row;
    size_t j;
    for (int i = 0; i < s->count; i++) json_array_foreach(s->layouts[i].iterations, j, row) {
            json_t *named = json_deep_copy(row);
            json_object_set_new(named, "layout", json_string(s->layouts[i].name));
            if (json_object_get(row, "iterations")) json_array_append(all, named);
            json_decref(named);
        }
    int code = write_table(s, TABLE_CSV, ITERATIONS_COLUMNS, all, "iterations.csv");
    json_decref(all);
    return code;
}

static int tabulate(const char *folder) {
    static study s;
    s.folder = folder;
    s.rows = json_array();
    int code = read_layouts(&s);
    if (!code) code = write_table(&s, TABLE_MARKDOWN, COLUMNS, s.rows, "table.md");
    if (!code) code = write_table(&s, TABLE_CSV, COLUMNS, s.rows, "table.csv");
    if (!code) code = write_iterations(&s);
    for (int i = 0; i < s.count; i++) json_decref(s.layouts[i].iterations);
    json_decref(s.rows);
    return code;
}

int main(int argc, char **argv) {
    bool figures_alone = argc == 3 && !strcmp(argv[1], "--figures");
    if (argc != 2 && !figures_alone) return usage_error("study_table", "usage: study_table [--figures] DIR");
    int code = figures_alone ? EXIT_FINE : tabulate(argv[argc - 1]);
    return code ? code : study_figures(argv[argc - 1]);
}
