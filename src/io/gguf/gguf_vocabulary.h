/* Writes the tokenizer of a folder into the metadata of a GGUF file, for llama.cpp. */
#ifndef IO_GGUF_GGUF_VOCABULARY_H
#define IO_GGUF_GGUF_VOCABULARY_H

#include "config/model_config.h"
#include "gguf/gguf_write.h"

/* `folder`: a folder or a GGUF file. `config`: of the model, whose vocabulary has at least the tokens of the tokenizer;
 * tokens that are never used fill the rest. Without a tokenizer in the folder, the file gets none. A tokenizer that
 * GGUF cannot express is LCKV_ERROR_UNSUPPORTED. */
int gguf_put_tokenizer(gguf_keys *k, const char *folder, const model_config *config);

#endif
