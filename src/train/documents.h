/* Documents: the rows of a corpus, one at a time, as the Hugging Face script's data sets give them.
 *
 * A text file has a document a line; its break may be "\n", "\r\n" or "\r" and is handed out as "\n", or not at all. A
 * file whose name ends in .jsonl, .ndjson or .json has one object a line, with `input_ids` or else `text`; blank lines
 * in it are passed over. Files are mapped, so that a corpus may be larger than memory.
 *
 * Leaves out: tokenizers, blocks. */
#ifndef TRAIN_DOCUMENTS_H
#define TRAIN_DOCUMENTS_H

#include "base/status.h"

typedef struct document {
    const char *text; /* [bytes], not ended by NUL; NULL where the row gives ids */
    size_t bytes;
    const int32_t *ids; /* [id_count], none of them negative; NULL where the row gives text */
    int64_t id_count;
    const char *file; /* where it stands, for errors */
    int64_t line;     /* from 1 */
} document;           /* valid until the next call of its reader */

typedef struct document_options {
    bool keep_linebreaks; /* of the lines of text files */
} document_options;

typedef struct document_reader document_reader;

/* Opens all `paths`, to be read one after the other. */
int document_reader_create(const char *const *paths, int count, const document_options *options, document_reader **out);
void document_reader_free(document_reader *r); /* NULL is fine */

/* The next document; *found is false behind the last one. A row that is neither is LCKV_ERROR_FORMAT. */
int document_reader_next(document_reader *r, document *out, bool *found);

/* Bytes read over bytes of all files, 0 to 1. */
double document_reader_fraction(const document_reader *r);

#endif
