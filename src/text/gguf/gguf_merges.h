/* SentencePiece BPE joins the two neighbours whose whole is the token with the highest score. This is the same as
 * merges in the order of the scores, as in transformers' conversion of tokenizer.model. */
#ifndef TEXT_GGUF_GGUF_MERGES_H
#define TEXT_GGUF_GGUF_MERGES_H

#include "base/text/json.h"
#include "text/subword/vocabulary.h"

/* Tokens that are longer have too many places where they could be split. */
enum { GGUF_MERGE_MAX_BYTES = 512 };

/* A list of ["left", "right"] for the tokens of `v` that `merged` [v->size] marks, with their `scores` [v->size]. The
 * caller owns *out. Errors quote `name`. */
int gguf_merges(const vocabulary *v, const bool *merged, const float *scores, const char *name, json_t **out);

#endif
