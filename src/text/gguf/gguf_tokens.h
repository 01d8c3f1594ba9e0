/* The list of tokens of a GGUF file: texts, kinds and scores. */
#ifndef TEXT_GGUF_GGUF_TOKENS_H
#define TEXT_GGUF_GGUF_TOKENS_H

#include "gguf/gguf.h"
#include "text/subword/vocabulary.h"

/* Numbers of tokenizer.ggml.token_type. */
typedef enum gguf_token_kind {
    GGUF_TOKEN_UNDEFINED,
    GGUF_TOKEN_NORMAL,
    GGUF_TOKEN_UNKNOWN, /* stands for text that has no token */
    GGUF_TOKEN_CONTROL, /* a special token */
    GGUF_TOKEN_USER,    /* an added token that is not special */
    GGUF_TOKEN_UNUSED,  /* fills the vocabulary up to the rows of the model */
    GGUF_TOKEN_BYTE,    /* "<0x0A>" */
    GGUF_TOKEN_KINDS
} gguf_token_kind;

typedef struct gguf_tokens {
    const gguf_file *file;
    vocabulary vocabulary;
    const gguf_key *kinds, *scores; /* [vocabulary.size]; NULL: the file has none */
} gguf_tokens;

/* Reads and checks the lists. Also on failure, gguf_tokens_free() releases what was allocated. */
int gguf_tokens_read(const gguf_file *f, gguf_tokens *out);
void gguf_tokens_free(gguf_tokens *t);

gguf_token_kind gguf_token_kind_of(const gguf_tokens *t, int32_t id);
const char *gguf_token_text(const gguf_tokens *t, int32_t id); /* ends in NUL */

/* The id at a key such as "tokenizer.ggml.bos_token_id", which must be that of a token; `fallback` if the key is
 * absent. */
int gguf_token_id(const gguf_tokens *t, const char *key, int32_t fallback, int32_t *out);

#endif
