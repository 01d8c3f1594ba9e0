/* The inside of the document reader (documents.h): one open file, and the kinds of files, each in a file of its own. */
#ifndef DATA_DOCUMENT_FILE_H
#define DATA_DOCUMENT_FILE_H

#include "base/json.h"
#include "base/text_buffer.h"
#include "data/byte_stream.h"
#include "data/document.h"

typedef struct document_file {
    const char *path; /* the reader's, as all but the last three fields */
    const document_options *options;
    byte_stream *stream;          /* NULL: of Parquet, or not open */
    struct parquet_file *parquet; /* NULL: not of Parquet, or not open */
    int64_t line;                 /* lines that were gone past */

    /* what a kind remembers from one document to the next */
    bool begun;                   /* its first bytes have been looked at */
    bool array;                   /* .json: rows of an array, not lines */
    bool ended;                   /* nothing but blanks may follow */
    int columns, column;          /* .csv: of the header, the one with the text */
    int id_bytes;                 /* .npy and .bin */
    int64_t ids_left, ids_before; /* the former -1: up to the file's end */

    text_buffer text; /* room for a document that has to be put together */
    json_t *row;      /* owns the text of the document that was handed out */
    int32_t *ids;     /* [id_capacity] */
    int64_t id_capacity;
} document_file;

/* Each hands out the next document; *found is false where none is left. out->file is set. */
int text_file_next(document_file *f, document *out, bool *found); /* documents.c */
int json_file_next(document_file *f, document *out, bool *found);
int json_lines_next(document_file *f, document *out, bool *found);
int csv_file_next(document_file *f, document *out, bool *found);
int bin_file_next(document_file *f, document *out, bool *found);
int npy_file_next(document_file *f, document *out, bool *found);
int parquet_file_next(document_file *f, document *out, bool *found);

/* Parquet files are not streams of bytes: what opening, closing and progress are for them (documents_parquet.c). Where
 * lckv is built without Parquet, opening fails and says how to convert the file. */
int parquet_document_open(document_file *f);
void parquet_document_close(document_file *f); /* one that is not open is fine */
double parquet_document_fraction(const document_file *f);

/* Makes f->ids hold `count` ids. */
int document_file_ids(document_file *f, int64_t count);

#endif
