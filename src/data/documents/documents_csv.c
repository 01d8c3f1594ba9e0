/* Documents in CSV files (RFC 4180), see document_reader.h. Quoted fields may contain commas, line breaks, and quotes
 * as "". Only the current record is in memory. */
#include "data/documents/document_file.h"

#include <string.h>

typedef enum csv_state {
    FIELD_BEGINS,
    FIELD_PLAIN,
    FIELD_QUOTED,
    FIELD_QUOTE /* a quote in a quoted field: its end, or the first of "" */
} csv_state;

enum { ALL_FIELDS = -1 };

/* The state of parsing one record, which may continue in bytes that are not read yet. */
typedef struct csv_record {
    document_file *file;
    int wanted;      /* the field to store; ALL_FIELDS: all of them, each with a NUL */
    int fields;      /* complete ones */
    int64_t breaks;  /* line breaks inside quotes */
    size_t at;       /* bytes parsed */
    csv_state state; /* of the current field */
    bool ended;
} csv_record;

static int bad(const csv_record *r, const char *what) {
    return fail(LCKV_ERROR_FORMAT, "%s:%lld: field %d: %s", r->file->path, (long long)(r->file->line + 1 + r->breaks),
                r->fields + 1, what);
}

static int keep(csv_record *r, char c) {
    bool kept = r->wanted == ALL_FIELDS || r->wanted == r->fields;
    return kept ? text_append(&r->file->text, &c, 1) : LCKV_OK;
}

/* Ends a field at a comma or a line break outside quotes. */
static int end_field(csv_record *r, char c) {
    if (r->wanted == ALL_FIELDS) TRY(keep(r, '\0'));
    r->fields++;
    r->state = FIELD_BEGINS;
    r->ended = c != ',';
    return LCKV_OK;
}

static int step_quoted(csv_record *r, char c) {
    if (c == '"') {
        r->state = FIELD_QUOTE;
        return LCKV_OK;
    }
    r->breaks += c == '\n';
    return keep(r, c);
}

static int step(csv_record *r, char c) {
    if (r->state == FIELD_QUOTED) return step_quoted(r, c);
    if (c == '"' && r->state == FIELD_BEGINS) {
        r->state = FIELD_QUOTED;
        return LCKV_OK;
    }
    if (c == '"' && r->state == FIELD_QUOTE) {
        r->state = FIELD_QUOTED;
        return keep(r, c);
    }
    if (c == ',' || c == '\n' || c == '\r') return end_field(r, c);
    if (r->state == FIELD_QUOTE) return bad(r, "expected a comma or a line break after the closing quote");
    if (c == '"') return bad(r, "unexpected quote in a field that does not start with a quote");
    r->state = FIELD_PLAIN;
    return keep(r, c);
}

/* Consumes the record and its line break. */
static int finish(csv_record *r, bool file_ended) {
    const char *bytes;
    size_t count;
    if (file_ended && r->state == FIELD_QUOTED) return bad(r, "the file ends within quotes");
    if (file_ended) TRY(end_field(r, '\n'));
    byte_stream_skip(r->file->stream, file_ended ? r->at : r->at - 1);
    TRY(byte_stream_look(r->file->stream, 2, &bytes, &count));
    size_t both = count > 1 && bytes[0] == '\r' && bytes[1] == '\n';
    byte_stream_skip(r->file->stream, count ? 1 + both : 0);
    r->file->line += 1 + r->breaks;
    return LCKV_OK;
}

/* Reads a record and stores field `wanted` in f->text; *fields is 0 at the end of the file. */
static int read_record(document_file *f, int wanted, int *fields) {
    csv_record r = {.file = f, .wanted = wanted};
    const char *bytes;
    size_t count;
    f->text.length = 0;
    TRY(text_append(&f->text, "", 0));
    for (size_t ask = 1 << 9; !r.ended; ask = count * 2) {
        TRY(byte_stream_look(f->stream, ask, &bytes, &count));
        while (r.at < count && !r.ended) TRY(step(&r, bytes[r.at++]));
        if (count < ask && !r.ended) break;
    }
    *fields = 0;
    if (!r.at) return LCKV_OK;
    TRY(finish(&r, !r.ended));
    *fields = r.fields;
    return LCKV_OK;
}

/* An empty line is not a record. */
static int skip_blank_lines(document_file *f) {
    const char *bytes;
    size_t count;
    for (;;) {
        TRY(byte_stream_look(f->stream, 1, &bytes, &count));
        if (!count || (*bytes != '\n' && *bytes != '\r')) return LCKV_OK;
        f->line += *bytes == '\n';
        byte_stream_skip(f->stream, 1);
    }
}

/* ---------------------------------------------------------------- header */

/* Finds the column with the text. f->text has the names of the f->columns columns. */
static int find_column(document_file *f) {
    const char *asked = f->options->text_column, *name = f->text.data;
    f->column = asked ? -1 : 0;
    for (int i = 0; i < f->columns; i++, name += strlen(name) + 1)
        if (!strcmp(name, asked ? asked : "text")) {
            f->column = i;
            break;
        }
    REQUIRE(f->column >= 0, LCKV_ERROR_FORMAT, "%s:1: column '%s' not found", f->path, asked);
    return LCKV_OK;
}

static int read_header(document_file *f) {
    f->begun = true;
    TRY(document_file_skip_mark(f));
    TRY(skip_blank_lines(f));
    TRY(read_record(f, ALL_FIELDS, &f->columns));
    return f->columns ? find_column(f) : LCKV_OK;
}

int csv_file_next(document_file *f, document *out, bool *found) {
    int fields;
    if (!f->begun) TRY(read_header(f));
    TRY(skip_blank_lines(f));
    out->line = f->line + 1;
    TRY(read_record(f, f->column, &fields));
    *found = fields > 0;
    REQUIRE(!*found || fields == f->columns, LCKV_ERROR_FORMAT,
            "%s:%lld: expected %d fields, as in the header, found %d", f->path, (long long)out->line, f->columns,
            fields);
    out->text = f->text.data;
    out->bytes = f->text.length;
    return LCKV_OK;
}
