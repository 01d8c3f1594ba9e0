/* The steps of a detokenizer, as stages in a row: each takes the text of tokens in pieces, the ends of tokens, and the
 * end of all, and hands the same three things to the stage behind it. */
#ifndef TEXT_TOKENIZER_DECODER_STEPS_H
#define TEXT_TOKENIZER_DECODER_STEPS_H

#include "text/unicode/pattern.h"

typedef enum decoder_kind {
    DECODE_BYTE_LEVEL,    /* all tokens become one: their characters are bytes, and the bytes are UTF-8 */
    DECODE_REPLACE,       /* in each token, matches of `pattern` by `content` */
    DECODE_BYTE_FALLBACK, /* rows of tokens <0x00> to <0xFF> become one token of those bytes */
    DECODE_FUSE,          /* all tokens become one */
    DECODE_STRIP,         /* each token loses up to `strip_start`, `strip_stop` times `character` at its ends */
    DECODE_METASPACE,     /* `character` becomes a space, or nothing in the first token */
    DECODE_JOIN,          /* no decoder: a space between tokens */
} decoder_kind;

struct decoder_step {
    decoder_kind kind;
    pattern *pattern;
    text_buffer content;
    char character[4];
    size_t character_bytes;
    size_t strip_start, strip_stop;
    bool drops_first; /* Metaspace put a mark before the text */
};

typedef struct decoder_stage {
    const struct decoder_step *step; /* NULL: the end of the row, which appends to `out` */
    text_buffer *out;
    text_buffer token;    /* what has come of a token that must be whole, where the step needs that */
    text_buffer bytes;    /* bytes that wait for more */
    const size_t *pushed; /* bytes of the tokens that were given to the first stage; the run's */
    size_t made;          /* bytes that Replace has made of them, see text_growth_limit() */
    size_t tokens;        /* that have ended */
    size_t stripped;      /* from the token's start */
    bool past_start;      /* of the token: nothing more is stripped there */
    size_t waiting;       /* times `character`, which the token's end may strip */
} decoder_stage;

/* `stage` and those behind it lie in one array. */
int decoder_stage_text(decoder_stage *stage, const char *text, size_t bytes);
int decoder_stage_end_token(decoder_stage *stage);
int decoder_stage_finish(decoder_stage *stage);
void decoder_stage_free(decoder_stage *stage);

/* The byte of a token <0x00> to <0xFF>, -1 for any other. */
int decoder_byte(const char *token, size_t bytes);

#endif
