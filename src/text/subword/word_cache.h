/* A cache of short words and their ids: a fixed number of places, each word has one, the newest stays. */
#ifndef TEXT_SUBWORD_WORD_CACHE_H
#define TEXT_SUBWORD_WORD_CACHE_H

#include "base/status.h"

enum { CACHED_WORD_BYTES = 30, CACHED_WORD_IDS = 8, WORD_CACHE_PLACES = 1 << 15 };

typedef struct cached_word { /* 64 bytes, a line of the processor's cache */
    uint8_t bytes, count;    /* of the word, of its ids; bytes 0: the place is free */
    char text[CACHED_WORD_BYTES];
    int32_t ids[CACHED_WORD_IDS];
} cached_word;

typedef struct word_cache {
    cached_word *places; /* [WORD_CACHE_PLACES] */
} word_cache;

int word_cache_create(word_cache *cache);
void word_cache_free(word_cache *cache);

/* The place of a word of 1 to CACHED_WORD_BYTES bytes; `*hit` says whether it is that word that lies there. */
cached_word *word_cache_find(const word_cache *cache, const char *word, size_t bytes, bool *hit);

/* Puts a word into its place, unless it has more than CACHED_WORD_IDS ids. */
void word_cache_store(cached_word *place, const char *word, size_t bytes, const int32_t *ids, size_t count);

#endif
