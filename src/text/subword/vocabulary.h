/* Vocabulary of a tokenizer: a hash table from text to id, and an array from id to text.
 *
 * Contains the tokens of the model and the added tokens. added_tokens.h handles added tokens in a text. */
#ifndef TEXT_SUBWORD_VOCABULARY_H
#define TEXT_SUBWORD_VOCABULARY_H

#include "base/text/text_buffer.h"

#include <stdint.h>

enum { VOCABULARY_MAX_ID = (1 << 22) - 1, NO_TOKEN = -1 };

typedef struct token_entry {
    size_t begin; /* in vocabulary.text */
    uint32_t bytes;
    bool present; /* there may be unused ids */
    bool added;   /* not a token of the model */
    bool listed;  /* in the file's list of added tokens, even if the model also has it */
    bool special; /* omitted from decoded text on request */
} token_entry;

typedef struct vocabulary {
    text_buffer text;
    token_entry *tokens; /* [size], by id */
    int32_t size;        /* largest id + 1 */
    int32_t capacity, count;
    int32_t *slots; /* [slot_count] ids by hash, NO_TOKEN where free; slot_count is a power of two */
    uint32_t slot_count;
    uint64_t seed; /* hash seed: random, see rng_entropy() */
} vocabulary;      /* all zeros: empty */

/* Adds a token. A token that exists already, and an id that is used, negative or above VOCABULARY_MAX_ID, is an error
 * that quotes `name`. */
int vocabulary_add(vocabulary *v, const char *token, size_t bytes, int64_t id, bool added, const char *name);
/* The same for a model whose vocabulary may list a token twice: both ids keep the text, and vocabulary_find() returns
 * the id that was added last. */
int vocabulary_add_latest(vocabulary *v, const char *token, size_t bytes, int64_t id, const char *name);
void vocabulary_free(vocabulary *v);

/* The id of a token; NO_TOKEN if there is none. */
int32_t vocabulary_find(const vocabulary *v, const char *token, size_t bytes);

/* The token of an id; NULL if the id is unused. */
const token_entry *vocabulary_entry(const vocabulary *v, int64_t id);

static inline const char *vocabulary_text(const vocabulary *v, const token_entry *token) {
    return v->text.data + token->begin;
}

/* Combines both halves of a 128-bit product: each bit of the result depends on all bits of both factors. */
static inline uint64_t hash_multiply(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Hash of a token, also used by the word cache. Without the seed, nobody can construct texts that collide. */
uint32_t text_hash(const char *text, size_t bytes, uint64_t seed);

#endif
