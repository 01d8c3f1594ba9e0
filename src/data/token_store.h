/* The token ids of a corpus: all documents, one after the other, and where each of them ends. They lie in a mapped file
 * (token_writer.h makes it), so that they take no memory of the process and are shared with others.
 *
 *     64 bytes   "LCKVIDS1", bytes of an id (2 or 4), whether any was text (0 or 1), then as 64 bits: tokens,
 * documents, the largest id; zeros ids        [tokens], and zeros up to a multiple of 8 bytes ends       [documents] of
 * 64 bits: tokens of documents 0 to i together
 *
 * All little-endian. Leaves out: where documents come from (corpus.h), and blocks, which are a view of it (blocks.h).
 */
#ifndef DATA_TOKEN_STORE_H
#define DATA_TOKEN_STORE_H

#include "base/mapped_file.h"

/* Ids as they lie, and what must hold for each. */
typedef struct id_view {
    const void *data; /* of uint16_t or uint32_t */
    int bytes;        /* of an id: 2 or 4 */
    int64_t largest;  /* no id is larger */
} id_view;

typedef struct token_store {
    mapped_file file;
    id_view ids;         /* [tokens] */
    const int64_t *ends; /* [documents] */
    int64_t tokens, documents;
    bool has_text; /* some document was text: a tokenizer belongs to it */
} token_store;     /* all zeros is an empty one */

typedef struct token_header {
    char magic[8];
    uint32_t id_bytes, has_text;
    int64_t tokens, documents, largest, unused[3];
} token_header;

#define TOKEN_MAGIC "LCKVIDS1"

/* LCKV_ERROR_FORMAT: the file is not what it should be. */
int token_store_open(const char *path, token_store *out);
void token_store_close(token_store *s);

/* Where document i begins; that of document `documents` is where the last one ends. */
static inline int64_t token_store_begin(const token_store *s, int64_t i) {
    return i ? s->ends[i - 1] : 0;
}

/* Copies ids first .. first + count - 1. LCKV_ERROR_FORMAT: one of them is larger than the file says that any is. */
int id_view_read(const id_view *v, int64_t first, int64_t count, int32_t *out);

#endif
