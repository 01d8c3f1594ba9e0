/* Packing rows by best fit decreasing, as in trl 0.24: see tuning_set.h. */
#include "data/tuning/tuning_set.h"

#include <stdlib.h>

typedef struct bin {
    int64_t first, last;   /* rows in the bin, a list linked by packing.next */
    int64_t rows, waiting; /* count; and the next bin with the same room, -1: none */
} bin;

typedef struct packing {
    bin *bins; /* [bin_count] */
    int64_t bin_count;
    int64_t *next;              /* [rows] next row in the same bin */
    int64_t *oldest, *youngest; /* [block_size + 1] queue of bins by room, first in first out */
    int32_t block_size;
} packing;

/* The smallest room of an existing bin that is enough; block_size: none, a new bin is needed. */
static int32_t find_room(const packing *p, int32_t length) {
    int32_t room = length;
    while (room < p->block_size && p->oldest[room] < 0) room++;
    return room;
}

static int64_t take_bin(packing *p, int32_t room) {
    if (room == p->block_size) {
        p->bins[p->bin_count] = (bin){-1, -1, 0, -1};
        return p->bin_count++;
    }
    int64_t b = p->oldest[room];
    p->oldest[room] = p->bins[b].waiting;
    return b;
}

static void put_bin(packing *p, int64_t b, int32_t room) {
    p->bins[b].waiting = -1;
    if (p->oldest[room] < 0)
        p->oldest[room] = b;
    else
        p->bins[p->youngest[room]].waiting = b;
    p->youngest[room] = b;
}

static void place(packing *p, int64_t row, int32_t length) {
    int32_t room = find_room(p, length);
    int64_t b = take_bin(p, room);
    bin *into = &p->bins[b];
    p->next[row] = -1;
    if (into->last < 0)
        into->first = row;
    else
        p->next[into->last] = row;
    into->last = row;
    into->rows++;
    put_bin(p, b, room - length);
}

static void list_rows(const packing *p, int64_t *order, int64_t *begin) {
    int64_t at = 0;
    for (int64_t b = 0; b < p->bin_count; b++) {
        begin[b] = at;
        for (int64_t row = p->bins[b].first; row >= 0; row = p->next[row]) order[at++] = row;
    }
    begin[p->bin_count] = at;
}

typedef struct sized {
    int32_t length;
    int64_t row;
} sized;

/* Longest first; equal lengths in their original order. */
static int by_length(const void *left, const void *right) {
    const sized *a = left, *b = right;
    if (a->length != b->length) return a->length < b->length ? 1 : -1;
    return (a->row > b->row) - (a->row < b->row);
}

static void pack(packing *p, const int32_t *lengths, int64_t count, sized *sorted) {
    for (int64_t i = 0; i < count; i++) sorted[i] = (sized){lengths[i], i};
    qsort(sorted, (size_t)count, sizeof *sorted, by_length);
    for (int32_t room = 0; room <= p->block_size; room++) p->oldest[room] = -1;
    for (int64_t i = 0; i < count; i++) place(p, sorted[i].row, sorted[i].length);
}

int64_t tuning_pack(const int32_t *lengths, int64_t count, int32_t block_size, int64_t *order, int64_t *begin) {
    size_t rows = (size_t)count, rooms = (size_t)block_size + 1;
    packing p = {malloc(rows * sizeof *p.bins),      0,
                 malloc(rows * sizeof *p.next),      malloc(rooms * sizeof *p.oldest),
                 malloc(rooms * sizeof *p.youngest), block_size};
    sized *sorted = malloc(rows * sizeof *sorted);
    bool there = p.bins && p.next && p.oldest && p.youngest && sorted;
    if (there) {
        pack(&p, lengths, count, sorted);
        list_rows(&p, order, begin);
    }
    free(p.bins);
    free(p.next);
    free(p.oldest);
    free(p.youngest);
    free(sorted);
    return there ? p.bin_count : fail(LCKV_ERROR_MEMORY, "no memory to pack %lld rows", (long long)count);
}
