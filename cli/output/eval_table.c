/* The results table of lm-evaluation-harness (lm_eval/utils.py, make_table, in the layout of pytablewriter): Markdown,
 * one line per metric; text is left-aligned, numbers are right-aligned with as many decimals as the column needs. */
#include "eval_table.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 9, CELL_BYTES = 128, VALUE = 6, ERROR = 8 };

static const char *const HEADERS[2][COLUMNS] = {
    {"Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"},
    {"Groups", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"},
};
static const bool RIGHT[COLUMNS] = {[1] = true, [3] = true, [VALUE] = true, [ERROR] = true};

typedef struct row {
    char cells[COLUMNS][CELL_BYTES];
} row;

typedef struct table {
    row *rows;
    int count;
} table;

/* ---------------------------------------------------------------- filling */

static void set_number(char cell[CELL_BYTES], const json_t *value) {
    if (json_is_number(value))
        snprintf(cell, CELL_BYTES, "%.4f", json_number_value(value));
    else
        snprintf(cell, CELL_BYTES, "N/A");
}

static row *add_row(table *t) {
    t->rows = need(realloc(t->rows, (size_t)(t->count + 1) * sizeof *t->rows));
    memset(&t->rows[t->count], 0, sizeof *t->rows);
    return &t->rows[t->count++];
}

/* `metric` is "acc,none". */
static void add_metric(table *t, const json_t *results, const char *task, const json_t *values, const char *metric) {
    row *r = add_row(t);
    char key[CELL_BYTES];
    int length = (int)strcspn(metric, ",");
    const json_t *higher = json_object_get(json_object_get(results, "higher_is_better"), task);
    snprintf(r->cells[2], CELL_BYTES, "%s", metric + length + (metric[length] == ','));
    snprintf(r->cells[3], CELL_BYTES, "%lld",
             (long long)json_integer_value(json_object_get(json_object_get(results, "n-shot"), task)));
    snprintf(r->cells[4], CELL_BYTES, "%.*s", length, metric);
    snprintf(r->cells[5], CELL_BYTES, "%s", json_is_true(json_object_get(higher, r->cells[4])) ? "↑" : "↓");
    set_number(r->cells[VALUE], json_object_get(values, metric));
    snprintf(key, sizeof key, "%.*s_stderr%s", length, metric, metric + length);
    snprintf(r->cells[7], CELL_BYTES, "±");
    set_number(r->cells[ERROR], json_object_get(values, key));
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The sorted keys of an object. Release with free(). */
static const char **sorted_keys(const json_t *object, size_t *count) {
    const char *key;
    json_t *value;
    const char **keys = need(calloc(json_object_size(object) + 1, sizeof *keys));
    *count = 0;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) keys[(*count)++] = key;
    qsort(keys, *count, sizeof *keys, by_name);
    return keys;
}

static void add_task(table *t, const json_t *results, const char *section, const char *task, bool inside) {
    const json_t *values = json_object_get(json_object_get(results, section), task);
    size_t count;
    int first = t->count;
    const char **keys = sorted_keys(values, &count);
    for (size_t i = 0; i < count; i++)
        if (strchr(keys[i], ',') && !strstr(keys[i], "_stderr,")) add_metric(t, results, task, values, keys[i]);
    free(keys);
    if (t->count == first) return;
    snprintf(t->rows[first].cells[0], CELL_BYTES, "%s%s", inside ? " - " : "", task);
    snprintf(t->rows[first].cells[1], CELL_BYTES, "%g",
             json_number_value(json_object_get(json_object_get(results, "versions"), task)));
}

/* ---------------------------------------------------------------- layout */

static int decimals_needed(const char *number) {
    const char *point = strchr(number, '.');
    int length = point ? (int)strlen(point + 1) : 0;
    while (length && point[length] == '0') length--;
    return length;
}

static void trim_decimals(table *t, int column) {
    int max_decimals = 0;
    for (int i = 0; i < t->count; i++) {
        int own = decimals_needed(t->rows[i].cells[column]);
        max_decimals = own > max_decimals ? own : max_decimals;
    }
    for (int i = 0; i < t->count; i++) {
        char *point = strchr(t->rows[i].cells[column], '.');
        if (point) point[max_decimals ? max_decimals + 1 : 0] = '\0';
    }
}

static void print_text(const char *text) {
    print_bytes(text, strlen(text));
}

static void print_repeated(char c, int count) {
    for (int i = 0; i < count; i++) print_bytes(&c, 1);
}

static void print_cell(const char *text, int width, int left) {
    int rest = width - display_width(text, strlen(text));
    print_repeated(' ', left < rest ? left : rest);
    print_text(text);
    print_repeated(' ', rest - (left < rest ? left : rest));
    print_text("|");
}

static void print_table(const table *t, const char *const headers[COLUMNS]) {
    int widths[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        widths[c] =
            display_width(headers[c], strlen(headers[c])) > 3 ? display_width(headers[c], strlen(headers[c])) : 3;
        for (int i = 0; i < t->count; i++) {
            int own = display_width(t->rows[i].cells[c], strlen(t->rows[i].cells[c]));
            widths[c] = own > widths[c] ? own : widths[c];
        }
    }
    print_text("|");
    for (int c = 0; c < COLUMNS; c++)
        print_cell(headers[c], widths[c], (widths[c] - display_width(headers[c], strlen(headers[c]))) / 2);
    print_text("\n|");
    for (int c = 0; c < COLUMNS; c++) {
        print_repeated('-', widths[c] - RIGHT[c]);
        print_text(RIGHT[c] ? ":|" : "|");
    }
    for (int i = 0; i < t->count; i++) {
        print_text("\n|");
        for (int c = 0; c < COLUMNS; c++) print_cell(t->rows[i].cells[c], widths[c], RIGHT[c] ? widths[c] : 0);
    }
    print_text("\n");
}

/* ---------------------------------------------------------------- tables */

/* Tasks of a group are listed after it, indented. */
static bool is_inside_a_group(const json_t *results, const char *task) {
    const char *group;
    json_t *names, *name;
    size_t i;
    json_object_foreach(json_object_get(results, "group_subtasks"), group, names) {
        json_array_foreach(names, i, name) if (!strcmp(json_string_value(name), task)) return true;
    }
    return false;
}

static void add_tasks(table *t, const json_t *results) {
    size_t count, parts;
    const char **keys = sorted_keys(json_object_get(results, "results"), &count);
    for (size_t i = 0; i < count; i++) {
        const json_t *names = json_object_get(json_object_get(results, "group_subtasks"), keys[i]), *name;
        if (is_inside_a_group(results, keys[i])) continue;
        add_task(t, results, "results", keys[i], false);
        json_array_foreach(names, parts, name) add_task(t, results, "results", json_string_value(name), true);
    }
    free(keys);
}

static void add_groups(table *t, const json_t *results) {
    size_t count;
    const char **keys = sorted_keys(json_object_get(results, "groups"), &count);
    for (size_t i = 0; i < count; i++) add_task(t, results, "groups", keys[i], false);
    free(keys);
}

void print_eval_tables(const json_t *results) {
    for (int kind = 0; kind < 2; kind++) {
        table t = {0};
        if (kind)
            add_groups(&t, results);
        else
            add_tasks(&t, results);
        if (kind && t.count) print_text("\n");
        trim_decimals(&t, VALUE);
        trim_decimals(&t, ERROR);
        if (t.count) print_table(&t, HEADERS[kind]);
        free(t.rows);
    }
}
