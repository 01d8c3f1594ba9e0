/* The figures of the study, see figures.h: dev loss by layer map, grouped by KV bytes per token, and of one loop by its
 * training; and divergence from the exact form by the number of iterations, for the layer maps with loops, and for one
 * loop by its training. */
#include "figures.h"

#include "cli/bench/chart.h"
#include "cli/flags/flags.h"
#include "cli/output/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 1024, LINE_BYTES = 4096, MAX_COLUMNS = 32, MAX_ROWS = 64, MAX_POINTS = 64 };

typedef struct figures {
    const char *folder;
    json_t *table, *iterations; /* arrays of objects, one per line of the files */
} figures;

/* ---------------------------------------------------------------- reading */

/* Splits a line without quotes, as table.c writes it, in place. */
static int split_line(char *line, char *fields[MAX_COLUMNS]) {
    int count = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *at = line; at && count < MAX_COLUMNS; count++) {
        fields[count] = at;
        at = strchr(at, ',');
        if (at) *at++ = '\0';
    }
    return count;
}

static json_t *value_json(const char *text) {
    char *end;
    double number = strtod(text, &end);
    return *text && !*end ? json_real(number) : json_string(text);
}

/* Skips empty fields. */
static json_t *row_json(char *const *keys, char *const *fields, int count) {
    json_t *row = json_object();
    for (int i = 0; i < count; i++)
        if (*fields[i]) json_object_set_new(row, keys[i], value_json(fields[i]));
    return row;
}

static int read_csv(const figures *f, const char *name, json_t **out) {
    char path[PATH_BYTES], head[LINE_BYTES], line[LINE_BYTES], *keys[MAX_COLUMNS], *fields[MAX_COLUMNS];
    *out = json_array();
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return failure("study_table", "cannot read '%s'", path);
    int columns = fgets(head, sizeof head, file) ? split_line(head, keys) : 0, code = EXIT_FINE;
    while (!code && fgets(line, sizeof line, file)) {
        if (split_line(line, fields) == columns)
            json_array_append_new(*out, row_json(keys, fields, columns));
        else
            code = failure("study_table", "%s: expected %d fields in the line of '%s'", path, columns, line);
    }
    fclose(file);
    return code;
}

static double number_of(const json_t *row, const char *key) {
    const json_t *value = json_object_get(row, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *layout_of(const json_t *row) {
    const char *name = json_string_value(json_object_get(row, "layout"));
    return name ? name : "";
}

/* How a variant was trained. The others than AS_OTHERS have the layer map LOOP, by which their names begin. */
#define LOOP "sandwich-top-3"
typedef enum training {
    AS_OTHERS,       /* m = 7, b = 2 by the plan */
    WITH_ITERATIONS, /* by the plan, with other m and b */
    EXACT,
    WITH_START, /* by the plan, with a learned start */
    TRAININGS
} training;

static training training_of(const char *name) {
    const char *how = name + strlen(LOOP "-");
    if (strncmp(name, LOOP "-", strlen(LOOP "-"))) return AS_OTHERS;
    if (!strncmp(how, "exact", strlen("exact"))) return EXACT;
    return strstr(how, "-start") ? WITH_START : WITH_ITERATIONS;
}

/* The name of a variant of LOOP beside others. */
static const char *training_name(const char *name) {
    if (!strcmp(name, LOOP)) return "m7b2";
    return training_of(name) == AS_OTHERS ? name : name + strlen(LOOP "-");
}

static int write_chart(const figures *f, const char *name, char *svg) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    int code = write_file("study_table", path, svg);
    free(svg);
    return code;
}

/* ---------------------------------------------------------------- losses */

static int shape_of(const char *layout) {
    static const char *const SHAPES[] = {"plain", "pizza", "sandwich", "lasagna", "mixattention", "yoco"};
    enum { COUNT = sizeof SHAPES / sizeof *SHAPES };
    int shape = 0;
    while (shape < COUNT && strncmp(layout, SHAPES[shape], strlen(SHAPES[shape]))) shape++;
    return shape;
}

static int by_bytes(const void *a, const void *b) {
    double x = number_of(*(json_t *const *)a, "kv_bytes_per_token");
    double y = number_of(*(json_t *const *)b, "kv_bytes_per_token");
    if (x != y) return (x > y) - (x < y);
    x = number_of(*(json_t *const *)a, "place"), y = number_of(*(json_t *const *)b, "place");
    return (x > y) - (x < y);
}

/* Layer maps, each trained with m = 7, b = 2, sorted by KV bytes and then in the order of the table. Leaves out those
 * whose size is not known. */
static int sort_layouts(const figures *f, json_t *sorted[MAX_ROWS]) {
    int count = 0;
    json_t *row;
    size_t i;
    json_array_foreach(f->table, i, row) {
        bool known = !isnan(number_of(row, "kv_bytes_per_token"));
        if (training_of(layout_of(row)) != AS_OTHERS || !known || count == MAX_ROWS) continue;
        json_object_set_new(row, "place", json_integer((json_int_t)i));
        sorted[count++] = row;
    }
    qsort(sorted, (size_t)count, sizeof *sorted, by_bytes);
    return count;
}

/* NAN without a plain model. */
static double plain_loss(const figures *f) {
    json_t *row;
    size_t i;
    json_array_foreach(f->table, i, row) if (!strcmp(layout_of(row), "plain")) return number_of(row, "dev_loss");
    return NAN;
}

static int draw_losses(const figures *f) {
    static char names[MAX_ROWS][64];
    json_t *sorted[MAX_ROWS];
    chart_row rows[MAX_ROWS];
    chart_group groups[MAX_ROWS];
    int count = sort_layouts(f, sorted), group_count = 0;
    for (int i = 0; i < count; i++) {
        double bytes = number_of(sorted[i], "kv_bytes_per_token");
        rows[i] = (chart_row){layout_of(sorted[i]), number_of(sorted[i], "dev_loss"),
                              number_of(sorted[i], "dev_loss_deviation"), shape_of(layout_of(sorted[i]))};
        if (!i || bytes != number_of(sorted[i - 1], "kv_bytes_per_token")) {
            snprintf(names[group_count], sizeof names[0], "%.0f KV bytes per token", bytes);
            groups[group_count] = (chart_group){names[group_count], rows + i, 0};
            group_count++;
        }
        groups[group_count - 1].count++;
    }
    const chart_rows c = {
        .title = "Dev loss by layer map",
        .value_title = "nats per token; mean and standard deviation over seeds; dashed: the plain model",
        .groups = groups,
        .count = group_count,
        .decimals = 3,
        .level = plain_loss(f),
    };
    return write_chart(f, "loss.svg", chart_rows_svg(&c));
}

/* LOOP by its training; the dashed line is the plain model. No figure if it was trained in one way only. */
static int draw_loop_losses(const figures *f) {
    static const char *const TITLES[] = {"by the plan, m = 7 and b = 2", "by the plan, other m and b", "exact",
                                         "by the plan, with a learned start"};
    chart_row rows[TRAININGS][MAX_ROWS];
    chart_group groups[TRAININGS];
    int count = 0, drawn = 0;
    for (training how = 0; how < TRAININGS; how++) {
        size_t i;
        json_t *row;
        chart_group *g = &groups[count];
        *g = (chart_group){TITLES[how], rows[how], 0};
        json_array_foreach(f->table, i, row) {
            const char *name = layout_of(row);
            if (training_of(name) != how || (how == AS_OTHERS && strcmp(name, LOOP)) || g->count == MAX_ROWS) continue;
            rows[how][g->count++] = (chart_row){training_name(name), number_of(row, "dev_loss"),
                                                number_of(row, "dev_loss_deviation"), (int)how};
        }
        drawn += g->count;
        count += g->count > 0;
    }
    const chart_rows c = {
        .title = "Dev loss of " LOOP " by training",
        .value_title = "nats per token; mean and standard deviation over seeds; dashed: the plain model",
        .groups = groups,
        .count = count,
        .decimals = 3,
        .level = plain_loss(f),
    };
    return drawn > 1 ? write_chart(f, "loop_loss.svg", chart_rows_svg(&c)) : EXIT_FINE;
}

/* ---------------------------------------------------------------- convergence */

/* Divergences of a layer map, in the order of the file. */
static int read_points(const figures *f, const char *layout, chart_point points[MAX_POINTS]) {
    const double ROUNDING = 1e-8; /* of f32 */
    json_t *row;
    size_t i;
    int count = 0;
    json_array_foreach(f->iterations, i, row) {
        double kl = number_of(row, "kl");
        if (strcmp(layout_of(row), layout) || count == MAX_POINTS) continue;
        points[count++] =
            (chart_point){number_of(row, "iterations"), kl > ROUNDING ? kl : NAN, number_of(row, "kl_deviation")};
    }
    return count;
}

/* Which variants a figure has: those of some ways of training, as bits. */
typedef struct selection {
    unsigned trainings;
    const char *title, *file;
} selection;

static bool selects(const selection *s, const char *name) {
    bool base = s->trainings != 1u << AS_OTHERS && !strcmp(name, LOOP); /* for comparison */
    return base || s->trainings >> training_of(name) & 1;
}

/* No figure without a variant that is selected for its training. */
static int draw_convergence(const figures *f, const selection *s) {
    static chart_point points[MAX_ROWS][MAX_POINTS];
    chart_series series[MAX_ROWS];
    json_t *row;
    size_t i;
    int count = 0;
    bool own_names = s->trainings == 1u << AS_OTHERS, any = false;
    json_array_foreach(f->table, i, row) {
        const char *name = layout_of(row);
        int points_read = count < MAX_ROWS && selects(s, name) ? read_points(f, name, points[count]) : 0;
        if (!points_read) continue;
        series[count] = (chart_series){own_names ? name : training_name(name), points[count], points_read};
        any |= s->trainings >> training_of(name) & 1;
        count++;
    }
    const chart_lines c = {.title = s->title,
                           .x_title = "iterations at inference",
                           .y_title = "KL, nats per token; mean and standard deviation over seeds",
                           .series = series,
                           .count = count,
                           .log_y = true,
                           .level = NAN};
    return any ? write_chart(f, s->file, chart_lines_svg(&c)) : EXIT_FINE;
}

int study_figures(const char *folder) {
    static const selection SELECTIONS[] = {
        {1u << AS_OTHERS, "Convergence of prefill by layer map", "iterations.svg"},
        {1u << WITH_ITERATIONS, "Convergence of prefill by m and b of training", "training_iterations.svg"},
        {1u << EXACT | 1u << WITH_START, "Convergence of prefill: exact training and learned starts",
         "exact_iterations.svg"},
    };
    figures f = {.folder = folder};
    int code = read_csv(&f, "table.csv", &f.table);
    if (!code) code = read_csv(&f, "iterations.csv", &f.iterations);
    if (!code) code = draw_losses(&f);
    if (!code) code = draw_loop_losses(&f);
    for (size_t i = 0; !code && i < sizeof SELECTIONS / sizeof *SELECTIONS; i++)
        code = draw_convergence(&f, &SELECTIONS[i]);
    json_decref(f.table);
    json_decref(f.iterations);
    return code;
}
