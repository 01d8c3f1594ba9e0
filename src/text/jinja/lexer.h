/* A template cut into tokens, with Jinja's rules of white space: trim_blocks and lstrip_blocks on, one newline at the
 * end left out, `-` and `+` beside a tag. */
#ifndef TEXT_JINJA_LEXER_H
#define TEXT_JINJA_LEXER_H

#include "text/jinja/value.h"

typedef enum token_kind {
    TOKEN_END,
    TOKEN_DATA,           /* text that stands for itself */
    TOKEN_VARIABLE_BEGIN, /* {{ */
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN, /* {% */
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_CONSTANT, /* string or number */
    TOKEN_OPERATOR
} token_kind;

/* An operator is a number: its character, or its two. */
#define OPERATOR2(a, b) ((a) << 8 | (b))

typedef struct token {
    token_kind kind;
    int line;
    int operator;
    const char *text; /* DATA, NAME; for errors also of the others */
    size_t bytes;
    value constant;
} token;

typedef struct token_list {
    token *items; /* the last is TOKEN_END */
    size_t count, capacity;
} token_list;

/* `source` is valid UTF-8. Tokens point into it or into the arena. */
int tokens_read(arena *a, const char *source, size_t bytes, const char *name, token_list *out);

#endif
