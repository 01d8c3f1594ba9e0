/* The tokenizer in the metadata of a GGUF file, in the form of a Hugging Face folder.
 *
 * tokenizer.ggml.model "gpt2" is byte-level BPE: the pre-tokenizer is known by its name (gguf_pre_tokenizer.h). "llama"
 * is SentencePiece BPE, whose scores become merges (gguf_merges.h). */
#ifndef TEXT_GGUF_GGUF_TOKENIZER_H
#define TEXT_GGUF_GGUF_TOKENIZER_H

#include "base/text/json.h"

/* The tree of a tokenizer file: "tokenizer.json", or "tokenizer_config.json" with the special tokens and the chat
 * template. *out is NULL for other names, and if the file has no tokenizer. An unsupported tokenizer is
 * LCKV_ERROR_UNSUPPORTED and named. The caller owns *out. */
int gguf_tokenizer_file(const char *path, const char *name, json_t **out);

#endif
