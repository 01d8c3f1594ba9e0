/* The token ids of a corpus: all documents, one after another, and the end of each. The file is mapped, so that it
 * takes no memory of the process and is shared between processes. token_writer.h writes it.
 *
 * The file consists of three parts, all little-endian:
 *
 *   - header (token_header, 64 bytes)
 *   - ids: [tokens], then zeros up to a multiple of 8 bytes
 *   - ends: [documents], 64 bits each: number of tokens in documents 0 to i
 *
 * Leaves out: where documents come from (corpus.h), and blocks, which are a view of the ids (blocks.h). */
#ifndef DATA_TOKEN_STORE_H
#define DATA_TOKEN_STORE_H

#include "base/files/mapped_file.h"

/* Ids as stored, and their largest value. */
typedef struct id_view {
    const void *data; /* of uint16_t or uint32_t */
    int bytes;        /* per id: 2 or 4 */
    int64_t largest;  /* no id is larger */
} id_view;

typedef struct token_store {
    mapped_file file;
    id_view ids;         /* [tokens] */
    const int64_t *ends; /* [documents] */
    int64_t tokens, documents;
    bool has_text; /* some document was text: its tokenizer is needed */
} token_store;     /* all zeros is an empty one */

typedef struct token_header {
    char magic[8];               /* TOKEN_MAGIC */
    uint32_t id_bytes, has_text; /* 2 or 4; 0 or 1 */
    int64_t tokens, documents;
    int64_t largest; /* id */
    int64_t unused[3];
} token_header;

#define TOKEN_MAGIC "LCKVIDS1"

/* LCKV_ERROR_FORMAT if the file is damaged. */
int token_store_open(const char *path, token_store *out);
void token_store_close(token_store *s);

/* Index of the first id of document i; for i = documents, the end of the last one. */
static inline int64_t token_store_begin(const token_store *s, int64_t i) {
    return i ? s->ends[i - 1] : 0;
}

/* Copies ids first .. first + count - 1. LCKV_ERROR_FORMAT if one is larger than `largest`. */
int id_view_read(const id_view *v, int64_t first, int64_t count, int32_t *out);

#endif
