/* Documents: the rows of a corpus, one at a time, as the Hugging Face script's data sets give them.
 *
 * What a file holds is said by its name, the ending of a compressed one (byte_stream.h) left aside:
 *
 *   .jsonl, .ndjson   one object a line; blank lines are passed over
 *   .json             the same, or one array of objects
 *   .csv              RFC 4180, its first record names the columns; blank lines are passed over
 *   .bin, .npy        token ids, the whole file one document
 *   .parquet          a row a document, with the fields that objects have as columns
 *   anything else     text, a document a line; its break may be "\n", "\r\n" or "\r" and is handed out as "\n", or not
 * at all
 *
 * An object, or a row of Parquet, has text or ids in the field that was asked for, else `input_ids`, else `text`. A
 * record of CSV has text in the column that was asked for, else `text`, else the first one. Files are read through a
 * window, so that a corpus may be larger than memory.
 *
 * Leaves out: finding the files (sources.h), tokenizers, blocks. */
#ifndef DATA_DOCUMENTS_H
#define DATA_DOCUMENTS_H

#include "data/document.h"

typedef struct document_reader document_reader;

/* Looks for all `paths`, to be read one after the other; they and the options must outlive the reader. A file of a kind
 * that is known and not read (.arrow, .tar) is LCKV_ERROR_UNSUPPORTED. */
int document_reader_create(const char *const *paths, int count, const document_options *options, document_reader **out);
void document_reader_free(document_reader *r); /* NULL is fine */

/* The next document; *found is false behind the last one. What is not as its file's kind has it is LCKV_ERROR_FORMAT.
 */
int document_reader_next(document_reader *r, document *out, bool *found);

/* Bytes read over bytes of all files, as they lie on disk, 0 to 1. */
double document_reader_fraction(const document_reader *r);

/* Whether a file's name says what it holds, so that it is one of a folder's documents. */
bool document_name_is_known(const char *path);

#endif
