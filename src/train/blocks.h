/* Blocks: the token ids of a corpus, cut into pieces of equal length that training takes as its rows.
 *
 * As the Hugging Face script run_clm.py does it (group_texts, mapped over batches of 1,000 documents): the ids of 1,000
 * documents are joined and cut into blocks of block_size, and what is left at the end of each thousand is dropped.
 * Leaves out: where documents come from (corpus.h) and in which order blocks are used (order.h). */
#ifndef TRAIN_BLOCKS_H
#define TRAIN_BLOCKS_H

#include "base/status.h"

enum { BLOCKS_DOCUMENTS_A_GROUP = 1000 };

typedef struct blocks {
    int32_t block_size;
    int64_t count;            /* finished blocks: block i is ids[i * block_size] and on */
    int32_t *ids;             /* finished blocks, then the ids of the group that is being filled */
    int64_t documents;        /* added in all */
    int64_t tokens;           /* added in all, dropped ones included */
    int64_t filled, capacity; /* of ids */
} blocks;

/* No blocks yet; block_size is at least 2, since a block of one id has nothing to predict. */
int blocks_begin(int32_t block_size, blocks *out);
void blocks_free(blocks *b); /* all zeros is fine */

/* The ids of the next document. */
int blocks_add(blocks *b, const int32_t *ids, int64_t count);
/* Ends the last group and gives unused memory back. */
void blocks_finish(blocks *b);

static inline const int32_t *blocks_at(const blocks *b, int64_t i) {
    return b->ids + i * b->block_size;
}

#endif
