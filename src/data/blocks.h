/* Blocks: the token ids of a corpus, cut into training examples of equal length.
 *
 * As in the Hugging Face script run_clm.py (group_texts, mapped over batches of 1,000 documents): the ids of each group
 * of 1,000 documents are concatenated and cut into blocks of block_size; the remainder of a group is dropped. With a
 * document mask, each part of a document in a block is a separate sequence, and its last token has no label (as
 * DataCollatorWithFlattening of transformers does with packed rows). No ids are copied. Leaves out: where documents
 * come from (corpus.h) and in which order blocks are used (shuffle.h). */
#ifndef DATA_BLOCKS_H
#define DATA_BLOCKS_H

#include "data/examples.h"
#include "data/token_store.h"

enum { BLOCKS_DOCUMENTS_PER_GROUP = 1000 };

typedef struct block_rules {
    int32_t block_size; /* at least 2, because a block of one id has no label */
    bool group_all;     /* all documents are one group, so that only one remainder is dropped */
    int64_t max_blocks; /* maximum number of blocks, the first ones are used; 0: no limit */
    bool document_mask; /* attention stays within a document, and positions restart at 0 */
} block_rules;

typedef struct block_group {
    int64_t block, id; /* first block, and first id relative to blocks.begin */
} block_group;

typedef struct blocks {
    examples examples;   /* the blocks as examples; the same in each epoch */
    id_view ids;         /* the store's */
    int64_t begin;       /* index of the first id of the first group */
    block_group *groups; /* [group_count] in order; NULL: one group */
    int64_t group_count;
    const int64_t *ends;       /* of the documents, in the store; NULL: no document mask */
    int64_t documents, tokens; /* including dropped ones */
} blocks;

/* Cuts documents first .. first + documents - 1 of a store, which must outlive the blocks. */
int blocks_cut(const token_store *store, int64_t first, int64_t documents, const block_rules *rules, blocks *out);
void blocks_free(blocks *b); /* all zeros is fine */

/* Blocks from an array ids [count, block_size], which must outlive them. */
blocks blocks_of_ids(const int32_t *ids, int32_t block_size, int64_t count);

#endif
