#include "result_table.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_BYTES = 160 };

static void format_number(const json_t *value, int decimals, char cell[CELL_BYTES]) {
    if (json_is_integer(value))
        snprintf(cell, CELL_BYTES, "%lld", (long long)json_integer_value(value));
    else
        snprintf(cell, CELL_BYTES, "%.*f", decimals, json_real_value(value));
}

static void format_cell(const table_column *c, const json_t *row, char cell[CELL_BYTES]) {
    const json_t *value = json_object_get(row, c->key), *deviation = json_object_get(row, c->deviation);
    if (json_is_string(value)) {
        snprintf(cell, CELL_BYTES, "%s", json_string_value(value));
    } else if (json_is_number(value)) {
        format_number(value, c->decimals, cell);
        size_t length = strlen(cell);
        if (json_is_number(deviation))
            snprintf(cell + length, CELL_BYTES - length, " ± %.*f", c->decimals, json_number_value(deviation));
    } else {
        snprintf(cell, CELL_BYTES, "-");
    }
}

static int count_columns(const table_column *columns) {
    int count = 0;
    while (columns[count].key) count++;
    return count;
}

/* ---------------------------------------------------------------- CSV */

static void add_quoted(FILE *out, const char *s) {
    if (!s[strcspn(s, ",\"\n")]) {
        fputs(s, out);
        return;
    }
    fputc('"', out);
    for (; *s; s++) fputs(*s == '"' ? "\"\"" : (const char[]){*s, '\0'}, out);
    fputc('"', out);
}

static void add_value(FILE *out, const json_t *value) {
    if (json_is_string(value)) add_quoted(out, json_string_value(value));
    if (json_is_integer(value)) fprintf(out, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) fprintf(out, "%.9g", json_real_value(value));
}

static void add_csv(FILE *out, const table_column *columns, const json_t *rows) {
    size_t i;
    json_t *row;
    for (const table_column *c = columns; c->key; c++) {
        fprintf(out, "%s%s", c == columns ? "" : ",", c->key);
        if (c->deviation) fprintf(out, ",%s", c->deviation);
    }
    json_array_foreach(rows, i, row) {
        fputc('\n', out);
        for (const table_column *c = columns; c->key; c++) {
            if (c != columns) fputc(',', out);
            add_value(out, json_object_get(row, c->key));
            if (c->deviation) fputc(',', out);
            if (c->deviation) add_value(out, json_object_get(row, c->deviation));
        }
    }
    fputc('\n', out);
}

/* ---------------------------------------------------------------- text and Markdown */

static bool is_number(const table_column *c, const json_t *rows) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (json_is_string(json_object_get(row, c->key))) return false;
    return true;
}

/* Columns without any value are left out. */
static bool is_shown(const table_column *c, const json_t *rows) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (json_object_get(row, c->key)) return true;
    return false;
}

static int width_of(const table_column *c, const json_t *rows) {
    char cell[CELL_BYTES];
    int width = display_width(c->title, strlen(c->title));
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        format_cell(c, row, cell);
        if (display_width(cell, strlen(cell)) > width) width = display_width(cell, strlen(cell));
    }
    return width;
}

static void add_cell(FILE *out, const char *cell, int width, bool right, const char *before, const char *after) {
    int rest = width - display_width(cell, strlen(cell));
    fprintf(out, "%s%*s%s%*s%s", before, right ? rest : 0, "", cell, right ? 0 : rest, "", after);
}

static void add_rule(FILE *out, int width, bool right) {
    fputc('|', out);
    for (int i = 0; i < width + 1; i++) fputc('-', out);
    fputc(right ? ':' : '-', out);
}

/* Text is Markdown without bars. */
static void add_shown(FILE *out, bool markdown, const table_column *columns, int count, const json_t *rows) {
    int *widths = need(calloc((size_t)count + 1, sizeof *widths));
    const char *before = markdown ? "| " : "", *after = markdown ? " " : "  ";
    char cell[CELL_BYTES];
    size_t i;
    json_t *row;
    for (int c = 0; c < count; c++) widths[c] = width_of(&columns[c], rows);
    for (int c = 0; c < count; c++)
        add_cell(out, columns[c].title, widths[c], is_number(&columns[c], rows), before, after);
    fputs(markdown ? "|\n" : "\n", out);
    for (int c = 0; c < count && markdown; c++) add_rule(out, widths[c], is_number(&columns[c], rows));
    if (markdown) fputs("|\n", out);
    json_array_foreach(rows, i, row) {
        for (int c = 0; c < count; c++) {
            format_cell(&columns[c], row, cell);
            add_cell(out, cell, widths[c], is_number(&columns[c], rows), before, after);
        }
        fputs(markdown ? "|\n" : "\n", out);
    }
    free(widths);
}

static void add_aligned(FILE *out, bool markdown, const table_column *columns, const json_t *rows) {
    table_column *shown = need(calloc((size_t)count_columns(columns) + 1, sizeof *shown));
    int count = 0;
    for (const table_column *c = columns; c->key; c++)
        if (is_shown(c, rows)) shown[count++] = *c;
    add_shown(out, markdown, shown, count, rows);
    free(shown);
}

char *table_text(table_form form, const table_column *columns, const json_t *rows) {
    char *text = NULL;
    size_t length;
    FILE *out = need(open_memstream(&text, &length));
    if (form == TABLE_CSV)
        add_csv(out, columns, rows);
    else
        add_aligned(out, form == TABLE_MARKDOWN, columns, rows);
    if (fclose(out)) text = NULL;
    return need(text);
}
