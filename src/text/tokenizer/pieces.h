/* A text during encoding, as a list of pieces in order. A piece is a segment of text or an added token.
 *
 * Each stage (added tokens, normalizer, steps of the pre-tokenizer) reads one list and writes the next. */
#ifndef TEXT_TOKENIZER_PIECES_H
#define TEXT_TOKENIZER_PIECES_H

#include "text/subword/vocabulary.h"

typedef struct piece {
    size_t begin, bytes; /* in pieces.text */
    int32_t id;          /* id of an added token (which has no text); NO_TOKEN: a segment of text */
    bool starts_text;    /* its first character is the first one of the given text */
} piece;

typedef struct pieces {
    text_buffer text;
    piece *items;
    size_t count, capacity;
} pieces; /* all zeros: empty */

/* Appends a text; nothing if it is empty. */
int pieces_add_text(pieces *p, const char *text, size_t bytes, bool starts_text);
/* Makes a piece of what was appended to `p->text` since its length was `begin`; nothing if that is empty. */
int pieces_close_text(pieces *p, size_t begin, bool starts_text);
int pieces_add_token(pieces *p, int32_t id);
void pieces_clear(pieces *p); /* does not free the memory */
void pieces_free(pieces *p);

static inline const char *piece_text(const pieces *p, const piece *item) {
    return p->text.data + item->begin;
}

#endif
