/* Internals of the document reader (document_reader.h): an open file, and the functions for each kind of file. */
#ifndef DATA_DOCUMENTS_DOCUMENT_FILE_H
#define DATA_DOCUMENTS_DOCUMENT_FILE_H

#include "base/text/json.h"
#include "base/text/text_buffer.h"
#include "data/documents/byte_stream.h"
#include "data/documents/document.h"

typedef struct document_file {
    const char *path; /* the reader's */
    const document_options *options;
    byte_stream *stream;          /* NULL: a Parquet file, or not open */
    struct parquet_file *parquet; /* NULL: not a Parquet file, or not open */
    int64_t line;                 /* lines consumed so far */

    /* State of a kind of file between documents. */
    bool begun;                   /* the header or the first bytes have been read */
    bool array;                   /* .json: an array of objects, not lines */
    bool ended;                   /* only whitespace may follow */
    int columns, column;          /* .csv: number of columns, index of the one with the text */
    int id_bytes;                 /* .npy and .bin */
    int64_t ids_left, ids_before; /* still to read (-1: up to the end of the file), and returned so far */

    text_buffer text; /* a document that is assembled from several parts; kept for reuse */
    json_t *row;      /* owns the text of the current document */
    int32_t *ids;     /* [id_capacity] */
    int64_t id_capacity;
} document_file;

/* Each reads the next document; *found is false if there is none. out->file is set. */
int text_file_next(document_file *f, document *out, bool *found); /* document_reader.c */
int json_file_next(document_file *f, document *out, bool *found);
int json_lines_next(document_file *f, document *out, bool *found);
int csv_file_next(document_file *f, document *out, bool *found);
int bin_file_next(document_file *f, document *out, bool *found);
int npy_file_next(document_file *f, document *out, bool *found);
int parquet_file_next(document_file *f, document *out, bool *found);

/* Parquet files do not use a byte stream and have their own functions (documents_parquet.c). If lckv was built without
 * Parquet, opening fails with a message that says how to convert the file. */
int parquet_document_open(document_file *f);
void parquet_document_close(document_file *f); /* may be closed already */
double parquet_document_fraction(const document_file *f);

/* Makes room for `count` ids in f->ids. */
int document_file_ids(document_file *f, int64_t count);

/* Skips a byte order mark, which editors and spreadsheets write; called at the start of a file. */
int document_file_skip_mark(document_file *f);

#endif
