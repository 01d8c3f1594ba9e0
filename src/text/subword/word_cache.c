/* Word cache, see word_cache.h. */
#include "text/subword/word_cache.h"

#include "text/subword/vocabulary.h"

#include <stdlib.h>
#include <string.h>

int word_cache_create(word_cache *cache) {
    cache->places = calloc(WORD_CACHE_PLACES, sizeof *cache->places);
    REQUIRE(cache->places, LCKV_ERROR_MEMORY, "no memory for a cache of words");
    return LCKV_OK;
}

void word_cache_free(word_cache *cache) {
    free(cache->places);
    cache->places = NULL;
}

cached_word *word_cache_find(const word_cache *cache, const char *word, size_t bytes, bool *hit) {
    cached_word *place = &cache->places[text_hash(word, bytes, 0) & (WORD_CACHE_PLACES - 1)];
    *hit = place->bytes == bytes && memcmp(place->text, word, bytes) == 0;
    return place;
}

void word_cache_store(cached_word *place, const char *word, size_t bytes, const int32_t *ids, size_t count) {
    if (count > CACHED_WORD_IDS) return;
    place->bytes = (uint8_t)bytes;
    place->count = (uint8_t)count;
    memcpy(place->text, word, bytes);
    if (count) memcpy(place->ids, ids, count * sizeof *ids);
}
