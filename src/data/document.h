/* A document, and how documents are read (documents.h). */
#ifndef DATA_DOCUMENT_H
#define DATA_DOCUMENT_H

#include "base/json.h"

typedef struct document {
    const char *text; /* [bytes], not ended by NUL; NULL where the row gives ids */
    size_t bytes;
    const int32_t *ids; /* [id_count], none of them negative; NULL where the row gives text */
    int64_t id_count;
    const json_t *row; /* with whole_rows, of a file of JSON or Parquet: the object, and neither text nor ids */
    bool goes_on;      /* more ids of the document before, of which `before` have been handed out */
    int64_t before;
    const char *file; /* where it stands, for errors */
    int64_t line;     /* from 1, of Parquet the row; 0 in files without lines */
} document;           /* valid until the next call of its reader */

typedef struct document_options {
    bool keep_linebreaks;    /* of the lines of text files */
    const char *text_column; /* field of objects, column of CSV; NULL: as above */
    bool whole_rows;         /* objects of JSON are handed out as they are */
    int id_bytes;            /* of an id in .bin files, 2 or 4: unsigned, little-endian */
} document_options;

#endif
