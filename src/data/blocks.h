/* Blocks: the token ids of a corpus, cut into pieces of equal length that training takes as its rows.
 *
 * As the Hugging Face script run_clm.py does it (group_texts, mapped over batches of 1,000 documents): the ids of 1,000
 * documents are joined and cut into blocks of block_size, and what is left at the end of each thousand is dropped.
 * With a document mask each part of a document in a block is a sequence of its own, and its last token has nothing to
 * predict (what DataCollatorWithFlattening of transformers makes of packed rows). Nothing is copied. Leaves out: where
 * documents come from (corpus.h) and in which order blocks are used (shuffle.h). */
#ifndef DATA_BLOCKS_H
#define DATA_BLOCKS_H

#include "data/examples.h"
#include "data/token_store.h"

enum { BLOCKS_DOCUMENTS_A_GROUP = 1000 };

typedef struct block_rules {
    int32_t block_size; /* at least 2, since a block of one id has nothing to predict */
    bool group_all;     /* all documents are one group: only the corpus's end is dropped */
    int64_t most;       /* blocks, the first ones; 0: all */
    bool document_mask; /* attention stays within documents, positions begin anew with each */
} block_rules;

typedef struct block_group {
    int64_t block, id; /* its first ones */
} block_group;

typedef struct blocks {
    examples examples;   /* what they are to those who learn from them; the same in each epoch */
    id_view ids;         /* the store's */
    int64_t begin;       /* of them, the first group's first one, from which groups are counted */
    block_group *groups; /* [group_count] in order; NULL: one group, all blocks side by side */
    int64_t group_count;
    const int64_t *ends;       /* the store's, of the documents that were cut; NULL: there is no document mask */
    int64_t documents, tokens; /* that were cut, dropped ones included */
} blocks;

/* Cuts `documents` documents of a store, which must outlive the blocks, from document `first` on. */
int blocks_cut(const token_store *store, int64_t first, int64_t documents, const block_rules *rules, blocks *out);
void blocks_free(blocks *b); /* all zeros is fine */

/* Blocks that lie in memory side by side: ids [count, block_size], which must outlive them. */
blocks blocks_of_ids(const int32_t *ids, int32_t block_size, int64_t count);

#endif
