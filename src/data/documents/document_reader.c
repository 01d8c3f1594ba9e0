/* Reading documents from a list of files, and from text files: see document_reader.h. */
#include "data/documents/document_reader.h"

#include "base/files/content.h"
#include "base/files/file.h"
#include "base/text/utf8.h"
#include "data/documents/document_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct document_reader {
    const char *const *paths;
    int count, current;
    document_options options;
    document_file file; /* the current one; stream and parquet are NULL before it is opened */
    int64_t *sizes;     /* [count] bytes on disk */
    int64_t bytes_before, bytes_in_all;
};

/* ---------------------------------------------------------------- kinds of files, by name */

typedef struct document_kind {
    const char *ending;
    int (*next)(document_file *f, document *out, bool *found);
} document_kind;

static const document_kind KINDS[] = {
    {".jsonl", json_lines_next}, {".ndjson", json_lines_next},    {".json", json_file_next},
    {".csv", csv_file_next},     {".bin", bin_file_next},         {".npy", npy_file_next},
    {".txt", text_file_next},    {".parquet", parquet_file_next},
};
static const char *const REFUSED[] = {".arrow", ".feather", ".tar", ".zip", ".tgz"};

static bool ends_in(const char *path, const char *ending) {
    size_t length = byte_stream_plain_length(path), tail = strlen(ending);
    return length > tail && !memcmp(path + length - tail, ending, tail);
}

static const document_kind *kind_of(const char *path) {
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (ends_in(path, KINDS[i].ending)) return &KINDS[i];
    return NULL;
}

static bool is_parquet(const char *path) {
    const document_kind *kind = kind_of(path);
    return kind && kind->next == parquet_file_next;
}

bool document_name_is_known(const char *path) {
    return kind_of(path) != NULL;
}

/* ---------------------------------------------------------------- text */

/* A line of a text file, with its line break as "\n" or without it. Only lines with "\r" are copied. */
int text_file_next(document_file *f, document *out, bool *found) {
    const char *bytes;
    size_t count, kept;
    TRY(byte_stream_any_line(f->stream, &bytes, &count, &kept));
    *found = count > 0;
    if (!count) return LCKV_OK;
    byte_stream_skip(f->stream, count);
    out->line = ++f->line;
    out->text = bytes;
    out->bytes = f->options->keep_linebreaks && kept < count ? kept + 1 : kept;
    if (out->bytes == kept || bytes[kept] == '\n') return LCKV_OK;
    f->text.length = 0;
    TRY(text_append(&f->text, bytes, kept));
    TRY(text_append(&f->text, "\n", 1));
    out->text = f->text.data;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- list of files */

static int check_path(document_reader *r, int i) {
    int fd;
    size_t bytes;
    const char *path = r->paths[i];
    TRY(file_open(path, &fd, &bytes));
    close(fd);
    TRY(content_check_file(path));
    for (size_t k = 0; k < sizeof REFUSED / sizeof *REFUSED; k++)
        REQUIRE(
            !ends_in(path, REFUSED[k]), LCKV_ERROR_UNSUPPORTED,
            "'%s': lckv does not read %s files; expected text, .jsonl, .json, .csv, .bin or .npy, plain or compressed "
            "(.gz, .bz2, .xz, .zst), or .parquet",
            path, REFUSED[k]);
    REQUIRE(!is_parquet(path) || byte_stream_plain_length(path) == strlen(path), LCKV_ERROR_UNSUPPORTED,
            "'%s': expected an uncompressed Parquet file, because Parquet has its own compression; decompress it",
            path);
    r->sizes[i] = (int64_t)bytes;
    r->bytes_in_all += (int64_t)bytes;
    return LCKV_OK;
}

int document_reader_create(const char *const *paths, int count, const document_options *options,
                           document_reader **out) {
    *out = NULL;
    document_reader *r = calloc(1, sizeof *r);
    REQUIRE(r, LCKV_ERROR_MEMORY, "no memory to open %d files", count);
    *r = (document_reader){
        .paths = paths, .count = count, .options = *options, .sizes = calloc((size_t)count + 1, sizeof *r->sizes)};
    int status = r->sizes ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory to open %d files", count);
    for (int i = 0; i < count && status >= 0; i++) status = check_path(r, i);
    if (status < 0)
        document_reader_free(r);
    else
        *out = r;
    return status;
}

/* Resets the file but keeps its buffers. */
static void close_file(document_file *f) {
    byte_stream_close(f->stream);
    parquet_document_close(f);
    json_decref(f->row);
    *f = (document_file){.text = f->text, .ids = f->ids, .id_capacity = f->id_capacity};
}

void document_reader_free(document_reader *r) {
    if (!r) return;
    close_file(&r->file);
    text_free(&r->file.text);
    free(r->file.ids);
    free(r->sizes);
    free(r);
}

double document_reader_fraction(const document_reader *r) {
    double here = r->file.stream ? (double)byte_stream_position(r->file.stream) : 0;
    if (r->file.parquet) here = parquet_document_fraction(&r->file) * (double)r->sizes[r->current];
    return r->bytes_in_all ? ((double)r->bytes_before + here) / (double)r->bytes_in_all : 1;
}

int document_file_ids(document_file *f, int64_t count) {
    if (count < f->id_capacity) return LCKV_OK;
    int32_t *ids = realloc(f->ids, (size_t)(count + 1) * sizeof *ids);
    REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for a row of %lld ids", (long long)count);
    f->ids = ids;
    f->id_capacity = count + 1;
    return LCKV_OK;
}

int document_file_skip_mark(document_file *f) {
    const char *bytes;
    size_t count;
    TRY(byte_stream_look(f->stream, 3, &bytes, &count));
    byte_stream_skip(f->stream, utf8_mark_bytes(bytes, count));
    return LCKV_OK;
}

static int open_file(document_reader *r) {
    r->file.path = r->paths[r->current];
    r->file.options = &r->options;
    if (is_parquet(r->file.path)) return parquet_document_open(&r->file);
    return byte_stream_open(r->file.path, &r->file.stream);
}

int document_reader_next(document_reader *r, document *out, bool *found) {
    *found = false;
    while (r->current < r->count) {
        const document_kind *kind = kind_of(r->paths[r->current]);
        if (!r->file.stream && !r->file.parquet) TRY(open_file(r));
        *out = (document){.file = r->file.path};
        TRY(kind ? kind->next(&r->file, out, found) : text_file_next(&r->file, out, found));
        if (*found) return LCKV_OK;
        close_file(&r->file);
        r->bytes_before += r->sizes[r->current++];
    }
    return LCKV_OK;
}
