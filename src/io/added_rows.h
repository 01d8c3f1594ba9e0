/* Embedding rows that a model gets when it is loaded, for a tokenizer with more tokens than the checkpoint has rows.
 *
 * The embedding and the head (if separate) get them, and are then f32. Their values are normal random numbers with the
 * config's initializer_range as standard deviation, as in transformers' resize_token_embeddings(). */
#ifndef IO_ADDED_ROWS_H
#define IO_ADDED_ROWS_H

#include "model/params.h"

typedef struct added_rows {
    int64_t vocab_size; /* rows with the added ones; 0: those of the checkpoint */
    uint64_t seed;
} added_rows;

/* Gives the embedding and the head of a table without memory their rows. The table is not divided yet. */
void added_rows_extend(const added_rows *a, params *p);

/* Whether entry i gets rows. */
bool added_rows_belong(const added_rows *a, const params *p, int i);

/* Draws what follows the first `stored` rows of the values [rows, cols] of entry i, a function of (seed, i). */
void added_rows_draw(const added_rows *a, const params *p, int i, int64_t stored, double deviation, float *values);

#endif
