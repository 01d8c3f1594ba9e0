/* Reading Parquet files with Apache Arrow, if lckv is built with it (docs/dependencies.md).
 *
 * A file is read in batches of some hundred rows, whatever the size of its row groups, so that it may be larger than
 * memory. No C++ exception leaves parquet/reader.cc. Leaves out: the meaning of a row (document_reader.h). */
#ifndef DATA_DOCUMENTS_PARQUET_FILE_H
#define DATA_DOCUMENTS_PARQUET_FILE_H

#include "base/text/json.h"

#include <stdint.h>

typedef struct parquet_file parquet_file;

/* A value of a column: text or integers. Valid until the next call for the file. */
typedef struct parquet_value {
    const char *text; /* [bytes]; NULL: numbers */
    size_t bytes;
    const int64_t *numbers; /* [count] */
    int64_t count;
} parquet_value;

/* `path` must outlive the file. LCKV_ERROR_FORMAT if it is not a valid Parquet file. */
int parquet_open(const char *path, parquet_file **out);
void parquet_close(parquet_file *p); /* NULL is fine */

bool parquet_has_column(const parquet_file *p, const char *name);
/* Names of all columns, separated by commas; owned by the file. */
const char *parquet_columns(const parquet_file *p);

int64_t parquet_rows(const parquet_file *p);      /* of the whole file */
int64_t parquet_rows_read(const parquet_file *p); /* so far; the number of the last row, from 1 */

/* Reads the next row: its value in one column of text or integer lists, which has to be the same in each call; or the
 * whole row as an object (a new reference). *found is false at the end. */
int parquet_next_value(parquet_file *p, const char *column, parquet_value *out, bool *found);
int parquet_next_row(parquet_file *p, json_t **out, bool *found);

#endif
