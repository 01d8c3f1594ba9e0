/* A text on its way to ids: pieces in order, each still text or already an added token.
 *
 * Every stage (added tokens, normalizer, steps of the pre-tokenizer) reads one list and writes the next. */
#ifndef TEXT_TOKENIZER_PIECES_H
#define TEXT_TOKENIZER_PIECES_H

#include "text/subword/vocabulary.h"

typedef struct piece {
    size_t begin, bytes; /* in pieces.text */
    int32_t id;          /* of an added token (which then has no text), NO_TOKEN while text */
    bool starts_text;    /* its first character is the first of the text that was given */
} piece;

typedef struct pieces {
    text_buffer text;
    piece *items;
    size_t count, capacity;
} pieces; /* all zeros is an empty list */

/* Appends text; none where it is empty. */
int pieces_add_text(pieces *p, const char *text, size_t bytes, bool starts_text);
/* The text that was appended to `p->text` since its length was `begin` becomes a piece, unless it is empty. */
int pieces_close_text(pieces *p, size_t begin, bool starts_text);
int pieces_add_token(pieces *p, int32_t id);
void pieces_clear(pieces *p); /* keeps the memory */
void pieces_free(pieces *p);

static inline const char *piece_text(const pieces *p, const piece *item) {
    return p->text.data + item->begin;
}

#endif
