/* Chunks: the parts of a prompt that run in one call each.
 *
 * In a model with loops, the keys and values of a token depend on where its chunk starts, and not on where it ends. Two
 * prompts can share a prefix up to a start that both have. Many starts share more, few are faster: a call of few rows
 * uses the device less efficiently. So chunks start at multiples of a large number of tokens. What follows the last of
 * them is split once more near its end, at a multiple of a small number: a prompt that differs from an earlier one only
 * in its last tokens does not have to read a large chunk.
 *
 * With chunks of 32 and 256 tokens, a prompt of 1,010 tokens has the starts 0, 256, 512, 768 and 992. The starts depend
 * on the number of tokens alone. docs/performance.md compares other starts.
 *
 * On a GPU, a call of 32 rows takes about as long as one of 512: the rest is not split. */
#ifndef GENERATE_CHUNKS_H
#define GENERATE_CHUNKS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct chunk_rules {
    int64_t smallest, largest; /* tokens */
    int64_t window_length;     /* of the sink cache; 0: no window. Tokens that do not fit into the first window run one
                                * at a time, because only then does each token see what it would see in a stream. */
    bool keeps_rest;           /* what follows the last multiple of `largest` is one chunk */
} chunk_rules;

typedef struct prompt_chunk {
    int64_t begin, end;
} prompt_chunk;

/* The chunk of token `at` < count in a prompt of `count` tokens. */
prompt_chunk chunk_at(const chunk_rules *r, int64_t count, int64_t at);

/* The end of the prefix that the prefix cache keeps next, after the one that ends before token `at`: that of the chunk,
 * rounded up to what other prompts can share. */
int64_t chunk_next_kept(const chunk_rules *r, int64_t count, int64_t at);

#endif
