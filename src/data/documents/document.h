/* A document, and how documents are read (document_reader.h). */
#ifndef DATA_DOCUMENTS_DOCUMENT_H
#define DATA_DOCUMENTS_DOCUMENT_H

#include "base/text/json.h"

typedef struct document {
    const char *text; /* [bytes], without NUL; NULL if the document is ids */
    size_t bytes;
    const int32_t *ids; /* [id_count], none is negative; NULL if the document is text */
    int64_t id_count;
    const json_t *row; /* with whole_rows: the object of JSON or Parquet files; text and ids are NULL */
    bool goes_on;      /* continues the previous document, */
    int64_t before;    /* of which this many ids were returned before */
    const char *file;  /* for errors */
    int64_t line;      /* from 1 (Parquet: row number); 0 in files without lines */
} document;            /* valid until the next call of the reader */

typedef struct document_options {
    bool keep_linebreaks;    /* keep the "\n" of lines in text files */
    const char *text_column; /* field or column with the text; NULL: the default (document_reader.h) */
    bool whole_rows;         /* return JSON objects instead of text or ids */
    int id_bytes;            /* bytes of an id in .bin files (2 or 4), unsigned, little-endian */
} document_options;

#endif
