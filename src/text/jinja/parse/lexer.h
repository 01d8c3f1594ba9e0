/* Lexer: splits a template into tokens, with Jinja's rules for white space: trim_blocks and lstrip_blocks are on, one
 * newline at the end is removed, and `-` and `+` in a tag are supported. */
#ifndef TEXT_JINJA_LEXER_H
#define TEXT_JINJA_LEXER_H

#include "text/jinja/value.h"

typedef enum token_kind {
    TOKEN_END,
    TOKEN_DATA,           /* literal text */
    TOKEN_VARIABLE_BEGIN, /* {{ */
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN, /* {% */
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_CONSTANT, /* string or number */
    TOKEN_OPERATOR
} token_kind;

/* The number of an operator: one or two characters. */
#define OPERATOR2(a, b) ((a) << 8 | (b))

typedef struct token {
    token_kind kind;
    int line;
    int operator;
    const char *text; /* of DATA and NAME; of other tokens for error messages */
    size_t bytes;
    value constant;
} token;

typedef struct token_list {
    token *items; /* the last one is TOKEN_END */
    size_t count, capacity;
} token_list;

/* `source`: valid UTF-8. Tokens point into it or into the arena. */
int tokens_read(arena *a, const char *source, size_t bytes, const char *name, token_list *out);

#endif
