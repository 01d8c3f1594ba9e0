/* Documents out of text files and JSON lines, see documents.h. */
#include "train/documents.h"

#include "base/file.h"
#include "base/json.h"
#include "base/text_buffer.h"

#include <stdlib.h>
#include <string.h>

typedef struct source {
    char *path;
    mapped_file file;
    bool json_lines;
} source;

struct document_reader {
    document_options options;
    source *sources;
    int count, current;
    size_t at;                         /* in the current file */
    int64_t line;                      /* lines of it that were handed out or passed over */
    size_t bytes_before, bytes_in_all; /* of the files before the current one, of all */
    text_buffer line_copy;             /* a text line whose break had to be replaced */
    json_t *row;                       /* owns the text of the document that was handed out */
    int32_t *ids;
    int64_t id_capacity;
};

static bool ends_in(const char *path, const char *ending) {
    size_t length = strlen(path), tail = strlen(ending);
    return length >= tail && !strcmp(path + length - tail, ending);
}

static int open_source(document_reader *r, const char *path, source *s) {
    s->json_lines = ends_in(path, ".jsonl") || ends_in(path, ".ndjson") || ends_in(path, ".json");
    s->path = strdup(path);
    REQUIRE(s->path, LCKV_ERROR_MEMORY, "no memory for a path");
    TRY(file_map(path, &s->file));
    r->bytes_in_all += s->file.bytes;
    return LCKV_OK;
}

int document_reader_create(const char *const *paths, int count, const document_options *options,
                           document_reader **out) {
    *out = NULL;
    document_reader *r = calloc(1, sizeof *r);
    source *sources = calloc((size_t)count + 1, sizeof *sources);
    int status = r && sources ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory to open %d files", count);
    if (status < 0) {
        free(r);
        free(sources);
        return status;
    }
    r->options = *options;
    r->sources = sources;
    for (r->count = 0; r->count < count && status >= 0; r->count++)
        status = open_source(r, paths[r->count], &sources[r->count]);
    if (status < 0) {
        document_reader_free(r);
        return status;
    }
    *out = r;
    return LCKV_OK;
}

void document_reader_free(document_reader *r) {
    if (!r) return;
    for (int i = 0; i < r->count; i++) {
        file_unmap(&r->sources[i].file);
        free(r->sources[i].path);
    }
    text_free(&r->line_copy);
    json_decref(r->row);
    free(r->ids);
    free(r->sources);
    free(r);
}

double document_reader_fraction(const document_reader *r) {
    return r->bytes_in_all ? (double)(r->bytes_before + r->at) / (double)r->bytes_in_all : 1;
}

/* ---------------------------------------------------------------- text */

/* A line of a text file with whatever break it has, handed out with "\n" or without. Only a line that has a "\r" is
 * copied. */
static int text_document(document_reader *r, const char *rest, size_t bytes, document *out) {
    const char *feed = memchr(rest, '\n', bytes);
    size_t length = feed ? (size_t)(feed - rest) + 1 : bytes;
    const char *carriage = memchr(rest, '\r', length);
    out->text = rest;
    out->bytes = length;
    if (carriage) {
        size_t kept = (size_t)(carriage - rest);
        length = kept + 1 < bytes && carriage[1] == '\n' ? kept + 2 : kept + 1;
        r->line_copy.length = 0;
        TRY(text_append(&r->line_copy, rest, kept));
        TRY(text_append(&r->line_copy, "\n", 1));
        out->text = r->line_copy.data;
        out->bytes = r->line_copy.length;
    }
    r->at += length;
    if (!r->options.keep_linebreaks && out->text[out->bytes - 1] == '\n') out->bytes--;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- JSON lines */

static int read_ids(document_reader *r, const json_t *array, document *out) {
    REQUIRE(json_is_array(array), LCKV_ERROR_FORMAT, "%s:%lld: 'input_ids' should be an array of whole numbers",
            out->file, (long long)out->line);
    int64_t count = (int64_t)json_array_size(array);
    if (count >= r->id_capacity) {
        int32_t *ids = realloc(r->ids, (size_t)(count + 1) * sizeof *ids);
        REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for a row of %lld ids", (long long)count);
        r->ids = ids;
        r->id_capacity = count + 1;
    }
    for (int64_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, (size_t)i);
        json_int_t id = json_integer_value(item);
        REQUIRE(json_is_integer(item) && id >= 0 && id <= INT32_MAX, LCKV_ERROR_FORMAT,
                "%s:%lld: entry %lld of 'input_ids' should be a token id (a whole number, at least 0)", out->file,
                (long long)out->line, (long long)i);
        r->ids[i] = (int32_t)id;
    }
    out->ids = r->ids;
    out->id_count = count;
    return LCKV_OK;
}

static int read_row(document_reader *r, document *out) {
    REQUIRE(json_is_object(r->row), LCKV_ERROR_FORMAT,
            "%s:%lld: expected an object with 'text' or 'input_ids' on each line", out->file, (long long)out->line);
    const json_t *ids = json_object_get(r->row, "input_ids"), *text = json_object_get(r->row, "text");
    if (ids) return read_ids(r, ids, out);
    REQUIRE(text, LCKV_ERROR_FORMAT, "%s:%lld: the row has neither 'text' nor 'input_ids'", out->file,
            (long long)out->line);
    REQUIRE(json_is_string(text), LCKV_ERROR_FORMAT, "%s:%lld: 'text' should be a string", out->file,
            (long long)out->line);
    out->text = json_string_value(text);
    out->bytes = json_string_length(text);
    return LCKV_OK;
}

static bool is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", line[i]) || !line[i]) return false;
    return true;
}

/* *found is false where the line is blank. */
static int json_document(document_reader *r, const char *rest, size_t bytes, document *out, bool *found) {
    const char *feed = memchr(rest, '\n', bytes);
    size_t length = feed ? (size_t)(feed - rest) + 1 : bytes;
    r->at += length;
    *found = !is_blank(rest, length);
    if (!*found) return LCKV_OK;
    char where[512];
    snprintf(where, sizeof where, "%.480s:%lld", out->file, (long long)out->line);
    json_decref(r->row);
    r->row = NULL;
    TRY(json_parse(rest, length, where, &r->row));
    return read_row(r, out);
}

/* ---------------------------------------------------------------- all files */

int document_reader_next(document_reader *r, document *out, bool *found) {
    *found = false;
    while (!*found && r->current < r->count) {
        source *s = &r->sources[r->current];
        if (r->at == s->file.bytes) {
            r->bytes_before += s->file.bytes;
            r->at = 0;
            r->line = 0;
            r->current++;
            continue;
        }
        *out = (document){.file = s->path, .line = ++r->line};
        const char *rest = (const char *)s->file.data + r->at;
        size_t bytes = s->file.bytes - r->at;
        *found = true;
        TRY(s->json_lines ? json_document(r, rest, bytes, out, found) : text_document(r, rest, bytes, out));
    }
    return LCKV_OK;
}
