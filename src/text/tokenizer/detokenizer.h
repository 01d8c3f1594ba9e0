/* The decoder of a tokenizer file: converts tokens to text, token by token or all at once.
 *
 * Supports ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, and Sequence, which is flattened; others are
 * rejected. Without a decoder, tokens are joined by spaces. Each step takes tokens in pieces and passes on what can no
 * longer change, so that streaming gives the same text as decoding all tokens. It holds back: a character whose bytes
 * are incomplete; a sequence of byte tokens (if one of them is not UTF-8, all become U+FFFD); spaces that may be
 * stripped at the end; and with Replace after Fuse, the whole text. */
#ifndef TEXT_TOKENIZER_DETOKENIZER_H
#define TEXT_TOKENIZER_DETOKENIZER_H

#include "text/unicode/pattern.h"

typedef struct decoder_step decoder_step;

typedef struct detokenizer {
    decoder_step *steps;
    size_t count;
} detokenizer;

/* `config` may be NULL or null. Also on failure, detokenizer_free() releases what was allocated. */
int detokenizer_read(detokenizer *d, const json_t *config, const char *file);
void detokenizer_free(detokenizer *d);

/* Decoding of one text. It uses the detokenizer's patterns, so two runs must not be used on two threads at the same
 * time. */
typedef struct detokenizer_run detokenizer_run;

int detokenizer_begin(const detokenizer *d, detokenizer_run **out);
void detokenizer_end(detokenizer_run *run);
/* Creates a second run with the state of `run`; end both. */
int detokenizer_copy(const detokenizer_run *run, detokenizer_run **out);

/* Appends the text that is final after this token to `out`. After the last token, detokenizer_finish() appends the
 * rest. */
int detokenizer_push(detokenizer_run *run, const char *token, size_t bytes, text_buffer *out);
int detokenizer_finish(detokenizer_run *run, text_buffer *out);

#endif
