/* The normalizer of a tokenizer file: transforms text before it is split into words.
 *
 * Supports Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Nmt, ByteLevel, BertNormalizer,
 * Precompiled, and Sequence, which is flattened. Others are rejected. */
#ifndef TEXT_TOKENIZER_NORMALIZER_H
#define TEXT_TOKENIZER_NORMALIZER_H

#include "text/unicode/pattern.h"

typedef struct normalizer_step normalizer_step;

typedef struct normalizer {
    normalizer_step *steps;
    size_t count;
} normalizer; /* all zeros: does nothing */

/* `config` may be NULL or null. Also on failure, normalizer_free() releases what was allocated. */
int normalizer_read(normalizer *n, const json_t *config, const char *file);
void normalizer_free(normalizer *n);

/* Starts a new text, whose pieces are normalized one by one. */
void normalizer_begin(const normalizer *n);

/* Replaces `text` (valid UTF-8, not empty) by its normalized form, which may be empty. If a step exceeds text->limit,
 * returns LCKV_ERROR_UNSUPPORTED. *keeps_start becomes false if the first character of the result does not come from
 * the first one of the text. */
int normalizer_apply(const normalizer *n, text_buffer *text, bool *keeps_start);

#endif
