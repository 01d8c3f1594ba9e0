/* The Unigram model of a tokenizer file (SentencePiece's default): every token has a score, the logarithm of its
 * probability, and a piece of text becomes the row of tokens of the highest sum (Kudo, "Subword Regularization", ACL
 * 2018, section 3.2).
 *
 * Viterbi's algorithm over a trie: for n bytes and tokens of at most m bytes O(n m) steps. Ties, unknown characters and
 * byte fallback are as in the tokenizers library. Left out: sampling (`alpha`, `nbest_size`). */
#ifndef TEXT_SUBWORD_UNIGRAM_H
#define TEXT_SUBWORD_UNIGRAM_H

#include "text/subword/id_list.h"
#include "text/subword/vocabulary.h"
#include "text/subword/word_cache.h"

#include <jansson.h>

/* Longest token, which bounds the steps for a byte of text; SentencePiece's own limit is 16 characters, and longer ones
 * are rows of spaces and user-defined symbols. */
enum { UNIGRAM_TOKEN_BYTES = 512 };

typedef struct unigram_node {
    uint32_t child; /* its first child; children lie together, sorted by byte */
    int32_t id;     /* of the token that ends here, NO_TOKEN where none does */
    uint16_t children;
    uint8_t byte; /* that leads here */
} unigram_node;

typedef struct unigram_end {
    double score; /* of the best row of tokens that ends here */
    uint32_t token_bytes;
    int32_t id; /* of that row's last token */
} unigram_end;

typedef struct unigram {
    const vocabulary *vocabulary;
    double *scores; /* [tokens], by id */
    unigram_node *nodes;
    size_t node_count;
    double unk_score;
    int32_t unk_id; /* NO_TOKEN: an unknown character is an error */
    bool byte_fallback;
    int32_t byte_ids[256]; /* of <0x00> to <0xFF> */
    unigram_end *ends;     /* [capacity] room for encoding, kept between texts */
    size_t capacity;
    word_cache cache;
} unigram;

/* Reads the file's "model", putting its tokens into `v`, which must be empty and outlive the model. `name` is the file.
 * On failure too unigram_free() releases what was begun. */
int unigram_read(unigram *u, const json_t *model, vocabulary *v, const char *name);
void unigram_free(unigram *u);

/* Appends the ids of `text`, which must be valid UTF-8. */
int unigram_encode(unigram *u, const char *text, size_t bytes, id_list *out);

#endif
