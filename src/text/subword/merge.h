/* Byte-pair merging: repeatedly merges the adjacent pair of lowest rank (the leftmost one among equals) until no pair
 * has a merge (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016).
 *
 * A linked list of symbols and a heap of candidates take O(n log n) for a word of n symbols. */
#ifndef TEXT_SUBWORD_MERGE_H
#define TEXT_SUBWORD_MERGE_H

#include "text/subword/id_list.h"
#include "text/subword/pair_table.h"

typedef struct merge_symbol {
    int32_t id;             /* NO_TOKEN: merged into its predecessor */
    int32_t previous, next; /* indices, -1 at the ends */
} merge_symbol;

typedef struct merge_candidate {
    uint32_t rank;
    int32_t position; /* of the left symbol */
    int32_t merged;   /* id of the merged pair */
} merge_candidate;

typedef struct merge_work {
    merge_symbol *symbols; /* [capacity] */
    merge_candidate *heap; /* [2 * capacity], a heap, lowest rank first */
    size_t capacity, count, heap_count;
    size_t steps; /* work counted for this word, for base/work.h */
} merge_work;     /* all zeros before first use; reused between words */

/* The value that the table of merges has for a pair of ids. */
static inline uint64_t merge_value(uint32_t rank, int32_t merged) {
    return (uint64_t)rank << 32 | (uint32_t)merged;
}

int merge_reserve(merge_work *work, size_t symbols);
void merge_free(merge_work *work);

/* Appends a symbol to the word. Call merge_reserve() before. */
void merge_push(merge_work *work, int32_t id);

/* Merges the word, appends its ids to `out`, and empties `work`. */
int merge_word(merge_work *work, const pair_table *merges, id_list *out);

#endif
