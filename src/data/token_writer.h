/* Writes a token store (token_store.h) one document at a time, with constant memory, under a temporary name. */
#ifndef DATA_TOKEN_WRITER_H
#define DATA_TOKEN_WRITER_H

#include "data/token_store.h"

typedef struct token_writer {
    new_file file, ends; /* `ends` is temporary; it is appended to `file` at the end */
    token_header header;
} token_writer;

/* Begins a file with 2 or 4 bytes per id. */
int token_writer_begin(const char *path, int id_bytes, token_writer *out);
/* Adds the ids of the next document (maybe none), or with goes_on more ids of the last one. No id is negative. */
int token_writer_add(token_writer *w, const int32_t *ids, int64_t count, bool goes_on);
/* Completes the file. `has_text`: some document was text. Removes all temporary files, also on failure. */
int token_writer_commit(token_writer *w, bool has_text);
void token_writer_abandon(token_writer *w); /* does nothing after a commit */

#endif
