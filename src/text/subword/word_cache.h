/* Cache of short words and their ids. Each word maps to one of a fixed number of entries; a new word replaces the old
 * one. */
#ifndef TEXT_SUBWORD_WORD_CACHE_H
#define TEXT_SUBWORD_WORD_CACHE_H

#include "base/status.h"

enum { CACHED_WORD_BYTES = 30, CACHED_WORD_IDS = 8, WORD_CACHE_PLACES = 1 << 15 };

typedef struct cached_word { /* 64 bytes, a cache line */
    uint8_t bytes, count;    /* of the word; of its ids; bytes 0: the entry is free */
    char text[CACHED_WORD_BYTES];
    int32_t ids[CACHED_WORD_IDS];
} cached_word;

typedef struct word_cache {
    cached_word *places; /* [WORD_CACHE_PLACES] */
} word_cache;

int word_cache_create(word_cache *cache);
void word_cache_free(word_cache *cache);

/* The entry of a word of 1 to CACHED_WORD_BYTES bytes. *hit: whether it contains that word. */
cached_word *word_cache_find(const word_cache *cache, const char *word, size_t bytes, bool *hit);

/* Stores a word in its entry, unless it has more than CACHED_WORD_IDS ids. */
void word_cache_store(cached_word *place, const char *word, size_t bytes, const int32_t *ids, size_t count);

#endif
