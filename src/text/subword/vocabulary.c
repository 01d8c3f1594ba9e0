/* Vocabulary of a tokenizer, see vocabulary.h. */
#include "text/subword/vocabulary.h"

#include "base/rng.h"
#include "base/work.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Up to seven bytes as a number, without their count. */
static uint64_t read_few(const char *text, size_t bytes) {
    const unsigned char *s = (const unsigned char *)text;
    uint32_t first, last;
    if (bytes < 4) return bytes ? (uint64_t)s[0] << 16 | (uint64_t)s[bytes / 2] << 8 | s[bytes - 1] : 0;
    memcpy(&first, text, sizeof first);
    memcpy(&last, text + bytes - sizeof last, sizeof last); /* the two may overlap */
    return (uint64_t)first << 32 | last;
}

uint32_t text_hash(const char *text, size_t bytes, uint64_t seed) {
    uint64_t hash = seed ^ bytes, eight;
    for (; bytes >= sizeof eight; text += sizeof eight, bytes -= sizeof eight) {
        memcpy(&eight, text, sizeof eight);
        hash = hash_multiply(hash ^ eight, 0x9E3779B97F4A7C15u ^ seed);
    }
    hash = hash_multiply(hash ^ read_few(text, bytes), 0xD1B54A32D192ED03u ^ seed);
    hash = hash_multiply(hash, 0x9E3779B97F4A7C15u); /* again, because tokens are often consecutive numbers */
    return (uint32_t)(hash ^ hash >> 32);
}

/* The slot of a token, or the free slot where it belongs. */
static uint32_t slot_of(const vocabulary *v, const char *token, size_t bytes) {
    uint32_t mask = v->slot_count - 1, slot = text_hash(token, bytes, v->seed) & mask, begin = slot;
    for (; v->slots[slot] != NO_TOKEN; slot = (slot + 1) & mask) {
        const token_entry *entry = &v->tokens[v->slots[slot]];
        if (entry->bytes == bytes && memcmp(vocabulary_text(v, entry), token, bytes) == 0) break;
    }
    work_count(bytes + 1 + ((slot - begin) & mask));
    return slot;
}

/* Keeps at least half of the slots free. */
static int grow_slots(vocabulary *v) {
    if ((uint32_t)v->count < v->slot_count / 2) return LCKV_OK;
    uint32_t count = v->slot_count ? v->slot_count * 2 : 1024;
    int32_t *slots = malloc(count * sizeof *slots);
    REQUIRE(slots, LCKV_ERROR_MEMORY, "no memory for a vocabulary of %" PRId32 " tokens", v->count);
    for (uint32_t i = 0; i < count; i++) slots[i] = NO_TOKEN;
    v->seed = rng_entropy();
    free(v->slots);
    v->slots = slots;
    v->slot_count = count;
    for (int32_t id = 0; id < v->size; id++) {
        const token_entry *entry = &v->tokens[id];
        if (entry->present) v->slots[slot_of(v, vocabulary_text(v, entry), entry->bytes)] = id;
    }
    return LCKV_OK;
}

static int grow_tokens(vocabulary *v, int32_t id) {
    if (id < v->capacity) return LCKV_OK;
    int32_t capacity = v->capacity ? v->capacity : 1024;
    while (capacity <= id) capacity *= 2;
    token_entry *tokens = realloc(v->tokens, (size_t)capacity * sizeof *tokens);
    REQUIRE(tokens, LCKV_ERROR_MEMORY, "no memory for a vocabulary of %" PRId32 " tokens", capacity);
    memset(tokens + v->capacity, 0, (size_t)(capacity - v->capacity) * sizeof *tokens);
    v->tokens = tokens;
    v->capacity = capacity;
    return LCKV_OK;
}

static int add(vocabulary *v, const char *token, size_t bytes, int64_t id, bool added, const char *name) {
    REQUIRE(id >= 0 && id <= VOCABULARY_MAX_ID, LCKV_ERROR_FORMAT,
            "%s: the token '%.80s' has id %" PRId64 "; ids go from 0 to %d", name, token, id, VOCABULARY_MAX_ID);
    REQUIRE(bytes <= UINT32_MAX, LCKV_ERROR_FORMAT, "%s: a token of %zu bytes is too long", name, bytes);
    const token_entry *taken = vocabulary_entry(v, id);
    if (taken)
        return fail(LCKV_ERROR_FORMAT, "%s: the tokens '%.80s' and '%.80s' have the same id %" PRId64, name,
                    vocabulary_text(v, taken), token, id);
    TRY(grow_tokens(v, (int32_t)id));
    TRY(grow_slots(v));
    size_t begin = v->text.length;
    TRY(text_append(&v->text, token, bytes));
    TRY(text_append(&v->text, "", 1)); /* so that error messages can quote it */
    v->tokens[id] = (token_entry){.begin = begin, .bytes = (uint32_t)bytes, .present = true, .added = added};
    v->slots[slot_of(v, token, bytes)] = (int32_t)id;
    v->count++;
    if (id >= v->size) v->size = (int32_t)id + 1;
    return LCKV_OK;
}

int vocabulary_add(vocabulary *v, const char *token, size_t bytes, int64_t id, bool added, const char *name) {
    REQUIRE(vocabulary_find(v, token, bytes) == NO_TOKEN, LCKV_ERROR_FORMAT, "%s: the token '%.80s' occurs twice", name,
            token);
    return add(v, token, bytes, id, added, name);
}

int vocabulary_add_latest(vocabulary *v, const char *token, size_t bytes, int64_t id, const char *name) {
    return add(v, token, bytes, id, false, name);
}

void vocabulary_free(vocabulary *v) {
    text_free(&v->text);
    free(v->tokens);
    free(v->slots);
    *v = (vocabulary){0};
}

int32_t vocabulary_find(const vocabulary *v, const char *token, size_t bytes) {
    return v->slot_count ? v->slots[slot_of(v, token, bytes)] : NO_TOKEN;
}

const token_entry *vocabulary_entry(const vocabulary *v, int64_t id) {
    return id >= 0 && id < v->size && v->tokens[id].present ? &v->tokens[id] : NULL;
}
