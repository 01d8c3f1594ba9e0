/* Byte-pair merging, see merge.h. */
#include "text/subword/merge.h"

#include "base/work.h"
#include "text/subword/vocabulary.h"

#include <stdlib.h>

int merge_reserve(merge_work *work, size_t symbols) {
    if (symbols <= work->capacity) return LCKV_OK;
    REQUIRE(symbols < INT32_MAX / 2, LCKV_ERROR_UNSUPPORTED,
            "the text has a segment of %zu bytes; at most 1 GiB can be tokenized at once", symbols);
    size_t capacity = work->capacity ? work->capacity * 2 : 256;
    if (capacity < symbols) capacity = symbols;
    merge_free(work);
    work->symbols = malloc(capacity * sizeof *work->symbols);
    work->heap = malloc(2 * capacity * sizeof *work->heap);
    if (!work->symbols || !work->heap) {
        merge_free(work);
        return fail(LCKV_ERROR_MEMORY, "no memory to merge a word of %zu symbols", symbols);
    }
    work->capacity = capacity;
    return LCKV_OK;
}

void merge_free(merge_work *work) {
    free(work->symbols);
    free(work->heap);
    *work = (merge_work){0};
}

void merge_push(merge_work *work, int32_t id) {
    int32_t position = (int32_t)work->count++;
    work->symbols[position] = (merge_symbol){id, position - 1, -1};
    if (position > 0) work->symbols[position - 1].next = position;
}

static bool comes_before(merge_candidate a, merge_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static void sift_up(merge_work *work, size_t at) {
    merge_candidate *heap = work->heap, moved = heap[at];
    for (; at > 0 && comes_before(moved, heap[(at - 1) / 2]); at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
        work->steps++;
    }
    heap[at] = moved;
}

static void sift_down(merge_work *work, size_t at) {
    merge_candidate *heap = work->heap, moved = heap[at];
    size_t count = work->heap_count;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        work->steps++;
        if (child + 1 < count && comes_before(heap[child + 1], heap[child])) child++;
        if (!comes_before(heap[child], moved)) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static merge_candidate take_first(merge_work *work) {
    merge_candidate first = work->heap[0];
    work->heap[0] = work->heap[--work->heap_count];
    if (work->heap_count) sift_down(work, 0);
    return first;
}

/* The merge of the symbol at `position` with the next one; false if there is none. */
static bool candidate_at(const merge_work *work, const pair_table *merges, int32_t position, merge_candidate *out) {
    if (position < 0 || work->symbols[position].next < 0) return false;
    int32_t left = work->symbols[position].id, right = work->symbols[work->symbols[position].next].id;
    const uint64_t *value = pair_table_find(merges, pair_of((uint32_t)left, (uint32_t)right));
    if (value) *out = (merge_candidate){(uint32_t)(*value >> 32), position, (int32_t)(uint32_t)*value};
    return value != NULL;
}

/* There is room: n symbols have n-1 candidates, and each of at most n-1 merges removes one and adds two. */
static void add_candidate(merge_work *work, const pair_table *merges, int32_t position) {
    merge_candidate *place = &work->heap[work->heap_count];
    work->steps++;
    if (candidate_at(work, merges, position, place)) sift_up(work, work->heap_count++);
}

static void merge_at(merge_work *work, const pair_table *merges, merge_candidate chosen) {
    merge_symbol *left = &work->symbols[chosen.position], *right = &work->symbols[left->next];
    left->id = chosen.merged;
    left->next = right->next;
    right->id = NO_TOKEN;
    if (right->next >= 0) work->symbols[right->next].previous = chosen.position;
    add_candidate(work, merges, left->previous);
    add_candidate(work, merges, chosen.position);
}

int merge_word(merge_work *work, const pair_table *merges, id_list *out) {
    for (int32_t i = 0; i < (int32_t)work->count; i++) add_candidate(work, merges, i);
    while (work->heap_count) {
        merge_candidate chosen = take_first(work), now;
        /* a candidate is stale if one of its symbols has changed, unless the pair still gives the same token */
        if (work->symbols[chosen.position].id == NO_TOKEN) continue;
        if (candidate_at(work, merges, chosen.position, &now) && now.merged == chosen.merged)
            merge_at(work, merges, chosen);
    }
    work_count(work->steps + work->count);
    work->steps = 0;
    int status = LCKV_OK;
    for (int32_t i = work->count ? 0 : -1; i >= 0 && status >= 0; i = work->symbols[i].next)
        status = id_list_append(out, &work->symbols[i].id, 1);
    work->count = 0;
    return status;
}
