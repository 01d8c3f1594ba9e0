/* The division of a table of weights; see shards.h. */
#include "model/shards/shards.h"

#include <stdlib.h>

enum {
    ALIGNMENT = 256,
    PART_ALIGNMENT = 64, /* in elements; 16 bytes also for 2-byte elements */
};

/* ---------------------------------------------------------------- places */

static int64_t elements(const weight *w) {
    return w->rows * w->cols;
}

static int64_t aligned(int64_t count, dtype type) {
    int64_t step = ALIGNMENT / (int64_t)dtype_element_bytes(type);
    return (count + step - 1) / step * step;
}

int64_t shards_place(const shards *s, int entry, dtype type) {
    return dtype_element_bytes(type) == 4 ? s->place4[entry] : s->place2[entry];
}

int64_t shards_unit_elements(const shards *s, const shard_unit *u, dtype type) {
    int last = u->first + u->count - 1;
    return shards_place(s, last, type) + elements(&s->params->table[last]);
}

/* Parts are equal in gradients. Entries start at multiples of PART_ALIGNMENT, so that no part starts between two. */
static int64_t part_begin(const shards *s, const shard_unit *u, int rank) {
    int64_t end = shards_unit_elements(s, u, DTYPE_F32);
    int ranks = s->collectives->ranks;
    return rank == ranks ? end : end / ranks * rank / PART_ALIGNMENT * PART_ALIGNMENT;
}

int64_t shards_part(const shards *s, int entry, int rank, int64_t *first) {
    const shard_unit *u = &s->units[s->unit_of[entry]];
    int64_t at = shards_place(s, entry, DTYPE_F32), count = elements(&s->params->table[entry]);
    int64_t begin = part_begin(s, u, rank) - at, end = part_begin(s, u, rank + 1) - at;
    *first = begin < 0 ? 0 : begin > count ? count : begin;
    end = end < *first ? *first : end > count ? count : end;
    return end - *first;
}

const int64_t *shards_gradient_parts(const shards *s, const shard_unit *u) {
    for (int r = 0; r <= s->collectives->ranks; r++) s->begin[r] = part_begin(s, u, r);
    return s->begin;
}

/* The first element of a part of the gradients has the same place in its entry. A part that begins behind the last
 * element of an entry begins with the next entry. */
const int64_t *shards_value_parts(const shards *s, const shard_unit *u, dtype type) {
    int ranks = s->collectives->ranks, i = u->first, end = u->first + u->count;
    for (int r = 0; r < ranks; r++) {
        int64_t at = part_begin(s, u, r);
        while (i < end && at >= s->place4[i] + elements(&s->params->table[i])) i++;
        int64_t inside = i < end && at > s->place4[i] ? at - s->place4[i] : 0;
        s->begin[r] = i < end ? shards_place(s, i, type) + inside : shards_unit_elements(s, u, type);
    }
    s->begin[ranks] = shards_unit_elements(s, u, type);
    return s->begin;
}

int shards_backward_unit(const shards *s, int i) {
    const params *p = s->params;
    int starts = 1 + p->layer_count + 1 + (p->head != p->embed); /* units before those of learned starts */
    if (starts > s->count) starts = s->count;
    if (i < starts - 1) return starts - 1 - i;
    return i < s->count - 1 ? s->count - 1 - (i - (starts - 1)) : 0;
}

view shards_gradient(const shards *s, const shard_unit *u) {
    if (s->divides_weights) return u->gradient;
    int rank = s->collectives->rank;
    int64_t begin = part_begin(s, u, rank);
    return view_elements(s->params->table[u->first].tensor.grad, begin, part_begin(s, u, rank + 1) - begin);
}

view shards_entry_gradient(const shards *s, int entry) {
    const shard_unit *u = &s->units[s->unit_of[entry]];
    int64_t first, count = shards_part(s, entry, s->collectives->rank, &first);
    int64_t at = shards_place(s, entry, DTYPE_F32) + first - part_begin(s, u, s->collectives->rank);
    return view_elements(shards_gradient(s, u), at, count);
}

/* ---------------------------------------------------------------- buffers */

static shard_buffer *best_buffer(const shards *s, size_t bytes) {
    shard_buffer *best = NULL;
    for (int i = 0; i < s->buffer_count; i++) {
        shard_buffer *b = &s->buffers[i];
        if (!b->used && b->bytes >= bytes && (!best || b->bytes < best->bytes)) best = b;
    }
    return best;
}

static int add_buffer(shards *s, size_t bytes) {
    if (s->buffer_count == s->buffer_room) {
        int room = s->buffer_room ? 2 * s->buffer_room : 8;
        shard_buffer *more = realloc(s->buffers, (size_t)room * sizeof *more);
        REQUIRE(more, LCKV_ERROR_MEMORY, "no memory for a list of %d buffers", room);
        s->buffers = more;
        s->buffer_room = room;
    }
    shard_buffer b = {NULL, bytes, false};
    TRY(s->params->device->memory.alloc(s->params->device, bytes, &b.memory));
    s->buffers[s->buffer_count++] = b;
    return LCKV_OK;
}

int shards_take_buffer(shards *s, size_t bytes, void **out) {
    *out = NULL;
    if (!best_buffer(s, bytes)) TRY(add_buffer(s, bytes));
    shard_buffer *b = best_buffer(s, bytes);
    b->used = true;
    *out = b->memory;
    return LCKV_OK;
}

void shards_give_buffer(shards *s, const void *memory) {
    for (int i = 0; i < s->buffer_count; i++)
        if (s->buffers[i].memory == memory) s->buffers[i].used = false;
}

/* ---------------------------------------------------------------- units */

static void place_entry(shards *s, int entry, int unit) {
    bool first = entry == s->units[unit].first;
    int64_t before = first ? 0 : elements(&s->params->table[entry - 1]);
    s->unit_of[entry] = unit;
    s->place4[entry] = first ? 0 : s->place4[entry - 1] + aligned(before, DTYPE_F32);
    s->place2[entry] = first ? 0 : s->place2[entry - 1] + aligned(before, DTYPE_BF16);
}

static void list_units(shards *s) {
    const params *p = s->params;
    bool one = s->collectives->ranks == 1 || !p->unit_count;
    s->count = one ? 1 : p->unit_count;
    for (int i = 0; i < s->count; i++) {
        int first = one ? 0 : p->unit_first[i], end = i + 1 < s->count ? p->unit_first[i + 1] : p->count;
        s->units[i] = (shard_unit){.first = first, .count = end - first};
        for (int k = first; k < end; k++) place_entry(s, k, i);
    }
}

int shards_create(params *p, const collectives *c, shards **out) {
    size_t units = p->unit_count ? (size_t)p->unit_count : 1;
    *out = NULL;
    shards *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for the division of the weights");
    *s = (shards){.collectives = c, .params = p, .next = -1, .read_before = -1};
    s->units = calloc(units, sizeof *s->units);
    s->unit_of = calloc((size_t)p->count, sizeof *s->unit_of);
    s->place4 = calloc(2 * (size_t)p->count, sizeof *s->place4);
    s->place2 = s->place4 ? s->place4 + p->count : NULL;
    s->begin = calloc((size_t)c->ranks + 1, sizeof *s->begin);
    if (!s->units || !s->unit_of || !s->place4 || !s->begin) {
        shards_free(s);
        return fail(LCKV_ERROR_MEMORY, "no memory for the division of %d weights", p->count);
    }
    list_units(s);
    *out = s;
    return LCKV_OK;
}

void shards_free(shards *s) {
    if (!s) return;
    for (int i = 0; i < s->buffer_count; i++)
        s->params->device->memory.release(s->params->device, s->buffers[i].memory);
    free(s->buffers);
    free(s->units);
    free(s->unit_of);
    free(s->place4);
    free(s->begin);
    free(s);
}
