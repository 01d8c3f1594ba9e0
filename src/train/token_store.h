/* The token ids of a corpus: all documents, one after the other, and where each of them ends.
 *
 * Leaves out: where documents come from (corpus.h), and blocks, which are a view of it (blocks.h). */
#ifndef TRAIN_TOKEN_STORE_H
#define TRAIN_TOKEN_STORE_H

#include "base/status.h"

typedef struct token_store {
    int32_t *ids;  /* [tokens] */
    int64_t *ends; /* [documents] tokens of documents 0 to i together */
    int64_t tokens, documents;
    int64_t token_capacity, document_capacity;
} token_store; /* all zeros is an empty one */

/* The ids of the next document, which may be none. */
int token_store_add(token_store *s, const int32_t *ids, int64_t count);
/* More ids of the document that was added last. */
int token_store_extend(token_store *s, const int32_t *ids, int64_t count);
void token_store_free(token_store *s);

/* Where document i begins; that of document `documents` is where the last one ends. */
static inline int64_t token_store_begin(const token_store *s, int64_t i) {
    return i ? s->ends[i - 1] : 0;
}

#endif
