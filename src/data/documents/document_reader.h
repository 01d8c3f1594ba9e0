/* Documents: the rows of a corpus, one at a time, as the datasets library returns them.
 *
 * The extension of a file's name, without that of a compression (byte_stream.h), determines its format:
 *
 *   .jsonl, .ndjson   one object per line; blank lines are skipped
 *   .json             the same, or one array of objects
 *   .csv              RFC 4180 with a header record; blank lines are skipped
 *   .bin, .npy        token ids; the file is one document
 *   .parquet          one document per row; columns correspond to the fields of an object
 *   other             text; one document per line. A line break is "\n", "\r\n" or "\r" and is returned as "\n" or
 *                     removed
 *
 * An object or Parquet row has its text or ids in the field text_column, by default in `input_ids` or else `text`. A
 * CSV record has its text in the column text_column, by default `text` or else the first one. Files are read through a
 * window, so that a corpus may be larger than memory.
 *
 * Leaves out: finding the files (sources.h), tokenizers, blocks. */
#ifndef DATA_DOCUMENTS_DOCUMENT_READER_H
#define DATA_DOCUMENTS_DOCUMENT_READER_H

#include "data/documents/document.h"

typedef struct document_reader document_reader;

/* Creates a reader for `paths`, which are read in order; they and the options must outlive it. Fails if a file is
 * missing; LCKV_ERROR_UNSUPPORTED for known formats that lckv does not read (.arrow, .tar). */
int document_reader_create(const char *const *paths, int count, const document_options *options, document_reader **out);
void document_reader_free(document_reader *r); /* NULL is fine */

/* Reads the next document; *found is false at the end. LCKV_ERROR_FORMAT if the content is not valid. */
int document_reader_next(document_reader *r, document *out, bool *found);

/* Progress, 0 to 1: bytes read of the bytes of all files. */
double document_reader_fraction(const document_reader *r);

/* Whether the extension is one of the formats above, so that a folder's files include it. */
bool document_name_is_known(const char *path);

#endif
