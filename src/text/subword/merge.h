/* Byte-pair merging: of all neighbours in a word that have a merge, the one of lowest rank (then the leftmost) is
 * merged, until none is left (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL
 * 2016).
 *
 * A linked list of symbols and a heap of candidates make it O(n log n) for a word of n symbols. */
#ifndef TEXT_SUBWORD_MERGE_H
#define TEXT_SUBWORD_MERGE_H

#include "text/subword/id_list.h"
#include "text/subword/pair_table.h"

typedef struct merge_symbol {
    int32_t id;             /* NO_TOKEN: merged into the one before it */
    int32_t previous, next; /* indices, -1 at the ends */
} merge_symbol;

typedef struct merge_candidate {
    uint32_t rank;
    int32_t position; /* of the left symbol */
    int32_t merged;   /* the id that the pair becomes */
} merge_candidate;

typedef struct merge_work {
    merge_symbol *symbols; /* [capacity] */
    merge_candidate *heap; /* [2 * capacity], lowest rank first */
    size_t capacity, count, heap_count;
    size_t steps; /* of this word, for base/work.h */
} merge_work;     /* all zeros before its first use; kept between words */

/* What the table of merges holds for a pair of ids. */
static inline uint64_t merge_value(uint32_t rank, int32_t merged) {
    return (uint64_t)rank << 32 | (uint32_t)merged;
}

int merge_reserve(merge_work *work, size_t symbols);
void merge_free(merge_work *work);

/* Adds a symbol to the word; merge_reserve() made room. */
void merge_push(merge_work *work, int32_t id);

/* Merges the word, appends its ids to `out` and leaves `work` empty. */
int merge_word(merge_work *work, const pair_table *merges, id_list *out);

#endif
