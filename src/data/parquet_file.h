/* Rows of Parquet files through Apache Arrow, where lckv is built with it (docs/dependencies.md).
 *
 * A file is read a batch of some hundred rows at a time, whatever the size of its row groups, so that it may be larger
 * than memory. Nothing that C++ throws leaves parquet/reader.cc. Leaves out: what a row means (documents.h). */
#ifndef DATA_PARQUET_FILE_H
#define DATA_PARQUET_FILE_H

#include "base/json.h"

#include <stdint.h>

typedef struct parquet_file parquet_file;

/* One value of a column: text, or whole numbers. Valid until the next call for the file. */
typedef struct parquet_value {
    const char *text; /* [bytes]; NULL: numbers */
    size_t bytes;
    const int64_t *numbers; /* [count] */
    int64_t count;
} parquet_value;

/* `path` must outlive it. LCKV_ERROR_FORMAT: it is no Parquet file, or damaged. */
int parquet_open(const char *path, parquet_file **out);
void parquet_close(parquet_file *p); /* NULL is fine */

bool parquet_has_column(const parquet_file *p, const char *name);
/* Names of all columns with commas between them, the file's. */
const char *parquet_columns(const parquet_file *p);

int64_t parquet_rows(const parquet_file *p);      /* of the whole file */
int64_t parquet_rows_read(const parquet_file *p); /* handed out; from 1 on the number of the last one */

/* The next row: its value in one column of text or lists of whole numbers, the same one in each call; or all of it as
 * an object, a new reference. *found is false behind the last one. */
int parquet_next_value(parquet_file *p, const char *column, parquet_value *out, bool *found);
int parquet_next_row(parquet_file *p, json_t **out, bool *found);

#endif
