/* Hash table of pairs, see pair_table.h. */
#include "text/subword/pair_table.h"

#include "base/rng.h"
#include "base/work.h"
#include "text/subword/vocabulary.h"

#include <stdlib.h>

#define PAIR_FREE UINT64_MAX

static pair_slot *slot_of(const pair_table *t, uint64_t key) {
    uint64_t hash =
        hash_multiply(key ^ t->seed, 0x9E3779B97F4A7C15u ^ t->seed); /* twice, because ids are often consecutive */
    size_t mask = t->slot_count - 1, slot = (size_t)hash_multiply(hash, 0xD1B54A32D192ED03u) & mask, begin = slot;
    while (t->slots[slot].key != key && t->slots[slot].key != PAIR_FREE) slot = (slot + 1) & mask;
    work_count(1 + ((slot - begin) & mask));
    return &t->slots[slot];
}

/* Keeps at least half of the slots free. */
static int grow(pair_table *t) {
    if (t->count < t->slot_count / 2) return LCKV_OK;
    pair_table grown = {.slot_count = t->slot_count ? t->slot_count * 2 : 1024, .count = t->count};
    grown.seed = rng_entropy();
    grown.slots = malloc(grown.slot_count * sizeof *grown.slots);
    REQUIRE(grown.slots, LCKV_ERROR_MEMORY, "no memory for a table of %zu pairs", grown.slot_count);
    for (size_t i = 0; i < grown.slot_count; i++) grown.slots[i].key = PAIR_FREE;
    for (size_t i = 0; i < t->slot_count; i++)
        if (t->slots[i].key != PAIR_FREE) *slot_of(&grown, t->slots[i].key) = t->slots[i];
    free(t->slots);
    *t = grown;
    return LCKV_OK;
}

int pair_table_put(pair_table *t, uint64_t key, uint64_t value) {
    TRY(grow(t));
    pair_slot *slot = slot_of(t, key);
    if (slot->key == PAIR_FREE) t->count++;
    *slot = (pair_slot){key, value};
    return LCKV_OK;
}

const uint64_t *pair_table_find(const pair_table *t, uint64_t key) {
    if (!t->slot_count) return NULL;
    const pair_slot *slot = slot_of(t, key);
    return slot->key == key ? &slot->value : NULL;
}

void pair_table_free(pair_table *t) {
    free(t->slots);
    *t = (pair_table){0};
}
