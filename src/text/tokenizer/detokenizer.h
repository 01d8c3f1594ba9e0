/* The decoder of a tokenizer file: from tokens back to text, token by token or all at once.
 *
 * ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, and Sequence, which is flattened; others are refused.
 * Without a decoder tokens are joined by spaces. Every step takes tokens in pieces and hands on what can no longer
 * change, so that streaming gives the same text as decoding the whole: what waits is a character whose bytes are not
 * all there, a row of byte tokens (if one of them is no UTF-8, all become U+FFFD), spaces that the end may take away,
 * and with Replace behind Fuse the whole text. */
#ifndef TEXT_TOKENIZER_DETOKENIZER_H
#define TEXT_TOKENIZER_DETOKENIZER_H

#include "text/unicode/pattern.h"

typedef struct decoder_step decoder_step;

typedef struct detokenizer {
    decoder_step *steps;
    size_t count;
} detokenizer;

/* `config` may be NULL or null. On failure too detokenizer_free() releases what was begun. */
int detokenizer_read(detokenizer *d, const json_t *config, const char *file);
void detokenizer_free(detokenizer *d);

/* One text on its way. It uses the detokenizer's patterns, so two runs do not go on at the same time on two threads. */
typedef struct detokenizer_run detokenizer_run;

int detokenizer_begin(const detokenizer *d, detokenizer_run **out);
void detokenizer_end(detokenizer_run *run);
/* A second run that goes on from where `run` is; both are ended. */
int detokenizer_copy(const detokenizer_run *run, detokenizer_run **out);

/* Appends to `out` the text that is certain after this token; after the last one, detokenizer_finish() the rest. */
int detokenizer_push(detokenizer_run *run, const char *token, size_t bytes, text_buffer *out);
int detokenizer_finish(detokenizer_run *run, text_buffer *out);

#endif
