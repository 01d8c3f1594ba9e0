/* Pieces of a text, see pieces.h. */
#include "text/tokenizer/pieces.h"

#include <stdlib.h>

static int add(pieces *p, piece item) {
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 64;
        piece *items = realloc(p->items, capacity * sizeof *items);
        REQUIRE(items, LCKV_ERROR_MEMORY, "no memory for %zu pieces of text", capacity);
        p->items = items;
        p->capacity = capacity;
    }
    p->items[p->count++] = item;
    return LCKV_OK;
}

int pieces_add_text(pieces *p, const char *text, size_t bytes, bool starts_text) {
    size_t begin = p->text.length;
    TRY(text_append(&p->text, text, bytes));
    return pieces_close_text(p, begin, starts_text);
}

int pieces_close_text(pieces *p, size_t begin, bool starts_text) {
    return begin < p->text.length ? add(p, (piece){begin, p->text.length - begin, NO_TOKEN, starts_text}) : LCKV_OK;
}

int pieces_add_token(pieces *p, int32_t id) {
    return add(p, (piece){.id = id});
}

void pieces_clear(pieces *p) {
    p->text.length = 0;
    p->count = 0;
}

void pieces_free(pieces *p) {
    text_free(&p->text);
    free(p->items);
    *p = (pieces){0};
}
