/* Documents of a task, see task_documents.h. */
#include "eval/tasks/task_documents.h"

#include "base/files/file.h"
#include "base/text/text_buffer.h"
#include "data/documents/byte_stream.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- finding */

static const char *const ENDINGS[] = {".jsonl", ".json", ".txt"};

/* *path stays NULL if FOLDER/NAME exists with none of the endings. */
static int find_one(const char *folder, const char *name, char **path) {
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        text_buffer candidate = {0};
        TRY(text_printf(&candidate, "%s/%s%s", folder, name, ENDINGS[i]));
        int status = byte_stream_find(candidate.data, path);
        text_free(&candidate);
        if (status < 0 || *path) return status;
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- reading */

/* Reads the next line, without its line break. Returns false after the last one. */
static bool next_line(const char **at, const char *end, const char **line, size_t *bytes) {
    if (*at >= end) return false;
    const char *feed = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *bytes = (size_t)((feed ? feed : end) - *at);
    *at = feed ? feed + 1 : end;
    if (*bytes && (*line)[*bytes - 1] == '\r') --*bytes;
    return true;
}

static int append_object(const char *path, int64_t number, json_t *rows, json_t *row) {
    bool object = json_is_object(row);
    if (object && json_array_append(rows, row) == 0) return LCKV_OK;
    return fail(object ? LCKV_ERROR_MEMORY : LCKV_ERROR_FORMAT, "%s:%lld: expected a JSON object", path,
                (long long)number);
}

static int read_json_lines(const char *path, const char *text, size_t bytes, json_t *rows) {
    const char *at = text, *line;
    size_t length;
    char where[512];
    for (int64_t number = 1; next_line(&at, text + bytes, &line, &length); number++) {
        json_t *row;
        if (strspn(line, " \t") >= length) continue;
        snprintf(where, sizeof where, "%.480s:%lld", path, (long long)number);
        TRY(json_parse(line, length, where, &row));
        int status = append_object(path, number, rows, row);
        json_decref(row);
        TRY(status);
    }
    return LCKV_OK;
}

static int read_json_array(const char *path, const char *text, size_t bytes, json_t *rows) {
    json_t *array, *row;
    size_t i;
    TRY(json_parse(text, bytes, path, &array));
    int status = LCKV_OK;
    json_array_foreach(array, i, row) if (status >= 0) status = append_object(path, (int64_t)i + 1, rows, row);
    json_decref(array);
    return status;
}

/* Appends a text line to the `lines` of the last document, or starts a new document with it. */
static int append_line(const char *path, int64_t number, int64_t lines, const char *line, size_t bytes, json_t *rows) {
    json_t *text = json_stringn(line, bytes);
    REQUIRE(text, LCKV_ERROR_FORMAT, "%s:%lld: the line is not UTF-8", path, (long long)number);
    bool first = (number - 1) % lines == 0;
    json_t *row = first ? json_pack("{s:[o]}", "lines", text) : json_array_get(rows, json_array_size(rows) - 1);
    int failed = first ? json_array_append_new(rows, row) : json_array_append_new(json_object_get(row, "lines"), text);
    REQUIRE(!failed, LCKV_ERROR_MEMORY, "%s:%lld: no memory for a document", path, (long long)number);
    return LCKV_OK;
}

static int read_text_lines(const char *path, const char *text, size_t bytes, int64_t lines, json_t *rows) {
    const char *at = text, *line;
    size_t length;
    int64_t number = 0;
    REQUIRE(lines, LCKV_ERROR_FORMAT,
            "%s: a text file requires 'lines' (the number of lines per document) in the task's description", path);
    while (next_line(&at, text + bytes, &line, &length)) TRY(append_line(path, ++number, lines, line, length, rows));
    REQUIRE(number % lines == 0, LCKV_ERROR_FORMAT,
            "%s: found %lld lines, expected a multiple of %lld (lines per document)", path, (long long)number,
            (long long)lines);
    return LCKV_OK;
}

static int read_rows(const char *path, const char *text, size_t bytes, int64_t lines, json_t *rows) {
    const char *name = path_base(path);
    size_t space = strspn(text, " \t\r\n");
    if (strstr(name, ".txt")) return read_text_lines(path, text, bytes, lines, rows);
    if (text[space] == '[') return read_json_array(path, text, bytes, rows);
    return read_json_lines(path, text, bytes, rows);
}

static int read_file(const char *path, int64_t lines, json_t **rows) {
    char *text;
    size_t bytes;
    TRY(byte_stream_read_file(path, &text, &bytes));
    *rows = json_array();
    int status = *rows ? read_rows(path, text, bytes, lines, *rows) : fail(LCKV_ERROR_MEMORY, "%s: no memory", path);
    free(text);
    return status;
}

int task_documents_load(const char *folder, const char *const *names, int count, int64_t lines, task_documents *out) {
    int status = LCKV_OK;
    *out = (task_documents){0};
    for (int i = 0; i < count && !out->path && status >= 0; i++) status = find_one(folder, names[i], &out->path);
    if (status >= 0 && out->path) status = read_file(out->path, lines, &out->rows);
    if (status < 0) task_documents_free(out);
    return status;
}

void task_documents_free(task_documents *d) {
    json_decref(d->rows);
    free(d->path);
    *d = (task_documents){0};
}
