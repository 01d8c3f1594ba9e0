/* The tokens of a tokenizer: from text to id through a hash table, from id to text through an array.
 *
 * Holds the tokens of the model and those added behind it; what an added token does in a text is added_tokens.h. */
#ifndef TEXT_SUBWORD_VOCABULARY_H
#define TEXT_SUBWORD_VOCABULARY_H

#include "base/text_buffer.h"

#include <stdint.h>

enum { VOCABULARY_MAX_ID = (1 << 22) - 1, NO_TOKEN = -1 };

typedef struct token_entry {
    size_t begin; /* in vocabulary.text */
    uint32_t bytes;
    bool present; /* ids may have holes */
    bool added;   /* not one of the model's */
    bool listed;  /* among the file's added tokens, be it the model's too */
    bool special; /* left out of decoded text on demand */
} token_entry;

typedef struct vocabulary {
    text_buffer text;
    token_entry *tokens; /* [size], by id */
    int32_t size;        /* the largest id + 1 */
    int32_t capacity, count;
    int32_t *slots; /* [slot_count] ids by hash, NO_TOKEN where free; slot_count is a power of two */
    uint32_t slot_count;
    uint64_t seed; /* of the hash: random, see rng_entropy() */
} vocabulary;      /* all zeros is an empty vocabulary */

/* A token that is there already, an id that is taken, negative or above VOCABULARY_MAX_ID is an error quoting `name`.
 */
int vocabulary_add(vocabulary *v, const char *token, size_t bytes, int64_t id, bool added, const char *name);
/* The same for a token of a model whose vocabulary may list a token twice: both ids keep its text, and the text is
 * found under the id that was added last. */
int vocabulary_add_latest(vocabulary *v, const char *token, size_t bytes, int64_t id, const char *name);
void vocabulary_free(vocabulary *v);

/* The id of a token, NO_TOKEN where there is none. */
int32_t vocabulary_find(const vocabulary *v, const char *token, size_t bytes);

/* The token of an id, NULL where the id is unused. */
const token_entry *vocabulary_entry(const vocabulary *v, int64_t id);

static inline const char *vocabulary_text(const vocabulary *v, const token_entry *token) {
    return v->text.data + token->begin;
}

/* Both halves of a product of 128 bits: each of the result's bits depends on all of both factors. */
static inline uint64_t hash_multiply(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Also what the cache of words is addressed by. Whoever does not know the seed cannot choose texts that collide. */
uint32_t text_hash(const char *text, size_t bytes, uint64_t seed);

#endif
