/* Steps of a detokenizer, as a pipeline of stages. The input of a stage is the text of tokens in pieces, the ends of
 * tokens, and the end of all tokens. Its output is the same for the next stage. */
#ifndef TEXT_TOKENIZER_DECODER_STEPS_H
#define TEXT_TOKENIZER_DECODER_STEPS_H

#include "text/unicode/pattern.h"

typedef enum decoder_kind {
    DECODE_BYTE_LEVEL,    /* joins all tokens; their characters are bytes, and the bytes are UTF-8 */
    DECODE_REPLACE,       /* in each token, replaces matches of `pattern` by `content` */
    DECODE_BYTE_FALLBACK, /* sequences of tokens <0x00> to <0xFF> become one token of those bytes */
    DECODE_FUSE,          /* joins all tokens */
    DECODE_STRIP,         /* removes up to `strip_start`, `strip_stop` times `character` at the ends of each token */
    DECODE_METASPACE,     /* replaces `character` by a space, or by nothing in the first token */
    DECODE_JOIN,          /* no decoder: a space between tokens */
} decoder_kind;

struct decoder_step {
    decoder_kind kind;
    pattern *pattern;
    text_buffer content;
    char character[4];
    size_t character_bytes;
    size_t strip_start, strip_stop;
    bool drops_first; /* Metaspace added a mark before the text */
};

typedef struct decoder_stage {
    const struct decoder_step *step; /* NULL: the last stage, which appends to `out` */
    text_buffer *out;
    text_buffer token;    /* the current token so far, if the step needs whole tokens */
    text_buffer bytes;    /* bytes that wait for more */
    const size_t *pushed; /* bytes of the tokens that were given to the first stage; of the run */
    size_t made;          /* output bytes of Replace, see text_growth_limit() */
    size_t tokens;        /* tokens that have ended */
    size_t stripped;      /* since the start of the token */
    bool past_start;      /* of the token: stripping at the start is complete */
    size_t waiting;       /* number of `character` that may be stripped at the end of the token */
} decoder_stage;

/* The stages are in one array; `stage` and those after it run. */
int decoder_stage_text(decoder_stage *stage, const char *text, size_t bytes);
int decoder_stage_end_token(decoder_stage *stage);
int decoder_stage_finish(decoder_stage *stage);
void decoder_stage_free(decoder_stage *stage);

/* The byte of a token <0x00> to <0xFF>; -1 for any other token. */
int decoder_byte(const char *token, size_t bytes);

#endif
