/* The pre-tokenizers of byte-level BPE that GGUF files name (tokenizer.ggml.pre), as parts of tokenizer.json. */
#ifndef TEXT_GGUF_GGUF_PRE_TOKENIZER_H
#define TEXT_GGUF_GGUF_PRE_TOKENIZER_H

#include "base/text/json.h"
#include "gguf/gguf.h"

typedef struct gguf_pre_tokenizer {
    const char *names;          /* with the same meaning, separated by spaces; the first is written */
    const char *expressions[4]; /* the text is split at the matches of each, in this order */
    bool digits, gpt2;          /* further steps: single digits; the expression of GPT-2 */
    bool nfc;                   /* the text is normalized to NFC first */
    bool ignore_merges;         /* a word that is a token is not merged */
    bool adds_bos;              /* unless the file says otherwise */
} gguf_pre_tokenizer;

/* NULL if there is no such name. */
const gguf_pre_tokenizer *gguf_pre_tokenizer_named(gguf_text name);

/* The one with the normalizer, pre-tokenizer and `ignore_merges` of a tokenizer.json; *out is NULL if there is none. */
int gguf_pre_tokenizer_of(const json_t *tokenizer, const gguf_pre_tokenizer **out);

/* Parts of tokenizer.json, new references; NULL if memory ran out. */
json_t *gguf_pre_tokenizer_json(const gguf_pre_tokenizer *p);
json_t *gguf_normalizer_json(const gguf_pre_tokenizer *p);

#endif
