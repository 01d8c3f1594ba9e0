/* Writes the file of a token store (token_store.h), document by document, beside its target; memory stays flat. */
#ifndef DATA_TOKEN_WRITER_H
#define DATA_TOKEN_WRITER_H

#include "data/token_store.h"

typedef struct token_writer {
    new_file file, ends; /* the latter is appended to the former in the end */
    token_header header;
} token_writer;

/* An id has 2 bytes, or 4. */
int token_writer_begin(const char *path, int id_bytes, token_writer *out);
/* The ids of the next document, which may be none; or more ids of the last one. None of them is negative. */
int token_writer_add(token_writer *w, const int32_t *ids, int64_t count, bool goes_on);
/* Puts the file in place. `has_text`: some document was text. Also on failure nothing stays behind. */
int token_writer_commit(token_writer *w, bool has_text);
void token_writer_abandon(token_writer *w); /* harmless after a commit */

#endif
