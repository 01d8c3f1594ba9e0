/* Unigram model of a tokenizer file (the default of SentencePiece): each token has a score, its log-probability, and a
 * segment of text becomes the sequence of tokens with the highest sum (Kudo, "Subword Regularization", ACL 2018,
 * section 3.2).
 *
 * Viterbi's algorithm over a trie takes O(n m) steps for n bytes and tokens of at most m bytes. Ties, unknown
 * characters and byte fallback are as in the tokenizers library. Sampling (`alpha`, `nbest_size`) is not supported. */
#ifndef TEXT_SUBWORD_UNIGRAM_H
#define TEXT_SUBWORD_UNIGRAM_H

#include "text/subword/id_list.h"
#include "text/subword/vocabulary.h"
#include "text/subword/word_cache.h"

#include <jansson.h>

/* Maximum token length, which bounds the steps per byte of text. SentencePiece's own limit is 16 characters; longer
 * tokens are runs of spaces and user-defined symbols. */
enum { UNIGRAM_TOKEN_BYTES = 512 };

typedef struct unigram_node {
    uint32_t child; /* its first child; children are adjacent and sorted by byte */
    int32_t id;     /* of the token that ends here; NO_TOKEN if there is none */
    uint16_t children;
    uint8_t byte; /* that leads to this node */
} unigram_node;

typedef struct unigram_end {
    double score; /* of the best path that ends here */
    uint32_t token_bytes;
    int32_t id; /* of the last token of that path */
} unigram_end;

typedef struct unigram {
    const vocabulary *vocabulary;
    double *scores; /* [tokens], by id */
    unigram_node *nodes;
    size_t node_count;
    double unk_score;
    int32_t unk_id; /* NO_TOKEN: unknown characters are an error */
    bool byte_fallback;
    int32_t byte_ids[256]; /* of <0x00> to <0xFF> */
    unigram_end *ends;     /* [capacity] work space, reused between texts */
    size_t capacity;
    word_cache cache;
} unigram;

/* Reads the file's "model" and adds its tokens to `v`, which must be empty and outlive the model. `name` is the file.
 * Also on failure, unigram_free() releases what was allocated. */
int unigram_read(unigram *u, const json_t *model, vocabulary *v, const char *name);
void unigram_free(unigram *u);

/* Appends the ids of `text`, which must be valid UTF-8. */
int unigram_encode(unigram *u, const char *text, size_t bytes, id_list *out);

#endif
