/* Documents in JSON files, see document_reader.h: an object per line, or an array of objects. One object at a time is
 * in memory. */
#include "data/documents/document_file.h"

#include <string.h>

/* ---------------------------------------------------------------- one object */

enum { PLACE_BYTES = 512 };

/* FILE:LINE of a document, for errors. */
static const char *place(const document *d, char out[PLACE_BYTES]) {
    snprintf(out, PLACE_BYTES, "%.480s:%lld", d->file, (long long)d->line);
    return out;
}

static int read_ids(document_file *f, const json_t *array, const char *key, document *out) {
    int64_t count = (int64_t)json_array_size(array);
    TRY(document_file_ids(f, count));
    for (int64_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, (size_t)i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX) {
            char where[PLACE_BYTES], entry[PLACE_BYTES];
            snprintf(entry, sizeof entry, "%.480s[%lld]", key, (long long)i);
            return json_wrong_type(place(out, where), entry, "a token id (an integer of at least 0)", item);
        }
        f->ids[i] = (int32_t)id;
    }
    out->ids = f->ids;
    out->id_count = count;
    return LCKV_OK;
}

/* The field with the text or the ids, and its name. */
static const json_t *find_field(const document_file *f, const char **key) {
    if (f->options->text_column) return json_object_get(f->row, *key = f->options->text_column);
    const json_t *ids = json_object_get(f->row, *key = "input_ids");
    return ids ? ids : json_object_get(f->row, *key = "text");
}

static int read_field(document_file *f, document *out) {
    const char *key;
    const json_t *field = find_field(f, &key);
    REQUIRE(field || f->options->text_column, LCKV_ERROR_FORMAT,
            "%s:%lld: the row has neither 'text' nor 'input_ids'; set text_column to the name of another field",
            out->file, (long long)out->line);
    REQUIRE(field, LCKV_ERROR_FORMAT, "%s:%lld: the row has no '%s'", out->file, (long long)out->line, key);
    if (json_is_array(field)) return read_ids(f, field, key, out);
    bool ids = !strcmp(key, "input_ids");
    if (!json_is_string(field) || ids) {
        char where[PLACE_BYTES];
        return json_wrong_type(place(out, where), key, ids ? "an array of integers" : "a string", field);
    }
    out->text = json_string_value(field);
    out->bytes = json_string_length(field);
    return LCKV_OK;
}

static int read_object(document_file *f, const char *text, size_t bytes, document *out) {
    char where[PLACE_BYTES];
    json_decref(f->row);
    f->row = NULL;
    TRY(json_parse(text, bytes, place(out, where), &f->row));
    REQUIRE(json_is_object(f->row), LCKV_ERROR_FORMAT, "%s:%lld: expected an object on each line", out->file,
            (long long)out->line);
    out->row = f->options->whole_rows ? f->row : NULL;
    return out->row ? LCKV_OK : read_field(f, out);
}

/* ---------------------------------------------------------------- an object per line */

static bool is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", line[i]) || !line[i]) return false;
    return true;
}

int json_lines_next(document_file *f, document *out, bool *found) {
    const char *line;
    size_t length;
    do {
        TRY(byte_stream_line(f->stream, &line, &length));
        *found = length > 0;
        if (!*found) return LCKV_OK;
        byte_stream_skip(f->stream, length);
        f->line++;
    } while (is_blank(line, length));
    out->line = f->line;
    return read_object(f, line, length, out);
}

/* ---------------------------------------------------------------- an array of objects */

/* Skips whitespace; *next is the character after it, or 0 at the end of the file. */
static int skip_blanks(document_file *f, char *next) {
    const char *bytes;
    size_t count;
    for (;;) {
        TRY(byte_stream_look(f->stream, 1, &bytes, &count));
        *next = count ? *bytes : 0;
        if (!count || !strchr(" \t\r\n", *bytes) || !*bytes) return LCKV_OK;
        f->line += *bytes == '\n';
        byte_stream_skip(f->stream, 1);
    }
}

/* The state of a scan for the end of an object. Strings may contain brackets and escaped quotes. */
typedef struct extent {
    size_t at;
    int depth;
    bool in_string, escaped;
} extent;

/* Returns whether the object ends with this character. */
static bool extent_step(extent *e, char c) {
    e->at++;
    if (e->in_string) {
        e->in_string = e->escaped || c != '"';
        e->escaped = !e->escaped && c == '\\';
        return false;
    }
    e->in_string = c == '"';
    e->depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    return e->depth == 0;
}

/* The bytes of the object that starts here. */
static int find_object(document_file *f, const char **text, size_t *length) {
    extent e = {0};
    for (size_t wanted = 1 << 12;; wanted *= 2) {
        size_t count;
        TRY(byte_stream_look(f->stream, wanted, text, &count));
        while (e.at < count)
            if (extent_step(&e, (*text)[e.at])) {
                *length = e.at;
                return LCKV_OK;
            }
        REQUIRE(count >= wanted, LCKV_ERROR_FORMAT, "%s:%lld: the file ends within this row", f->path,
                (long long)f->line + 1);
    }
}

static int read_element(document_file *f, document *out) {
    const char *text;
    size_t length;
    TRY(find_object(f, &text, &length));
    out->line = f->line + 1;
    for (size_t i = 0; i < length; i++) f->line += text[i] == '\n';
    byte_stream_skip(f->stream, length);
    return read_object(f, text, length, out);
}

static int expect_end(document_file *f) {
    char next;
    f->ended = true;
    TRY(skip_blanks(f, &next));
    REQUIRE(!next, LCKV_ERROR_FORMAT, "%s:%lld: expected nothing after the array", f->path, (long long)f->line + 1);
    return LCKV_OK;
}

/* Called after '[' for the first row, after a row for the others. */
static int next_element(document_file *f, document *out, bool *found) {
    char next;
    *found = false;
    TRY(skip_blanks(f, &next));
    bool first = !f->begun;
    f->begun = true;
    if (next == ']') {
        byte_stream_skip(f->stream, 1);
        return expect_end(f);
    }
    if (!first) {
        REQUIRE(next == ',', LCKV_ERROR_FORMAT, "%s:%lld: expected ',' or ']' after a row of the array", f->path,
                (long long)f->line + 1);
        byte_stream_skip(f->stream, 1);
        TRY(skip_blanks(f, &next));
    }
    REQUIRE(next == '{', LCKV_ERROR_FORMAT, "%s:%lld: expected an object with 'text' or 'input_ids' as a row", f->path,
            (long long)f->line + 1);
    *found = true;
    return read_element(f, out);
}

int json_file_next(document_file *f, document *out, bool *found) {
    char first;
    *found = false;
    if (f->ended) return LCKV_OK;
    if (f->array) return next_element(f, out, found);
    if (f->begun) return json_lines_next(f, out, found);
    TRY(document_file_skip_mark(f));
    TRY(skip_blanks(f, &first));
    f->array = first == '[';
    if (f->array) byte_stream_skip(f->stream, 1);
    f->begun = !f->array;
    return json_file_next(f, out, found);
}
