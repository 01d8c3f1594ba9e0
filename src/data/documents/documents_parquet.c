/* Documents in Parquet files, see document_reader.h: one per row, with the same fields as JSON objects. */
#include "data/documents/document_file.h"

#include <stdlib.h>
#include <string.h>

#ifdef DATA_PARQUET
#include "data/documents/parquet_file.h"

int parquet_document_open(document_file *f) {
    return parquet_open(f->path, &f->parquet);
}

void parquet_document_close(document_file *f) {
    parquet_close(f->parquet);
    f->parquet = NULL;
}

double parquet_document_fraction(const document_file *f) {
    int64_t rows = parquet_rows(f->parquet);
    return rows ? (double)parquet_rows_read(f->parquet) / (double)rows : 1;
}

/* The column with the text or the ids. */
static int find_column(const document_file *f, const char **out) {
    const char *named = f->options->text_column;
    *out = named ? named : parquet_has_column(f->parquet, "input_ids") ? "input_ids" : "text";
    bool there = parquet_has_column(f->parquet, *out);
    REQUIRE(there || named, LCKV_ERROR_FORMAT,
            "'%s' has neither a column 'text' nor 'input_ids'; set text_column to one of its columns: %.200s", f->path,
            parquet_columns(f->parquet));
    REQUIRE(there, LCKV_ERROR_FORMAT, "'%s' has no column '%s', found: %.200s", f->path, named,
            parquet_columns(f->parquet));
    return LCKV_OK;
}

static int take_ids(document_file *f, const parquet_value *v, const char *column, document *out) {
    TRY(document_file_ids(f, v->count));
    for (int64_t i = 0; i < v->count; i++) {
        REQUIRE(v->numbers[i] >= 0 && v->numbers[i] <= INT32_MAX, LCKV_ERROR_FORMAT,
                "%s:%lld: entry %lld of '%s': expected a token id (an integer of at least 0), found %lld", f->path,
                (long long)out->line, (long long)i, column, (long long)v->numbers[i]);
        f->ids[i] = (int32_t)v->numbers[i];
    }
    out->ids = f->ids;
    out->id_count = v->count;
    return LCKV_OK;
}

static int next_row(document_file *f, document *out, bool *found) {
    json_decref(f->row);
    f->row = NULL;
    TRY(parquet_next_row(f->parquet, &f->row, found));
    out->row = f->row;
    out->line = parquet_rows_read(f->parquet);
    return LCKV_OK;
}

int parquet_file_next(document_file *f, document *out, bool *found) {
    const char *column;
    parquet_value value;
    if (f->options->whole_rows) return next_row(f, out, found);
    TRY(find_column(f, &column));
    TRY(parquet_next_value(f->parquet, column, &value, found));
    out->line = parquet_rows_read(f->parquet);
    if (*found && !value.text) return take_ids(f, &value, column, out);
    if (*found) out->text = value.text;
    if (*found) out->bytes = value.bytes;
    return LCKV_OK;
}

#else

int parquet_document_open(document_file *f) {
    return fail(LCKV_ERROR_UNSUPPORTED,
                "'%s': this lckv was built without Parquet (docs/dependencies.md); convert the file with: python3 -c "
                "\"import json,sys,pyarrow.parquet as p;[print(json.dumps(r,default=str)) for b in "
                "p.ParquetFile(sys.argv[1]).iter_batches() for r in b.to_pylist()]\" '%s' > data.jsonl",
                f->path, f->path);
}

void parquet_document_close(document_file *f) {
    (void)f;
}

double parquet_document_fraction(const document_file *f) {
    (void)f;
    return 0;
}

int parquet_file_next(document_file *f, document *out, bool *found) {
    (void)out;
    *found = false;
    return parquet_document_open(f);
}

#endif
