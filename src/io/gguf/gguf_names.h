/* Names of tensors in GGUF files and in Hugging Face folders. */
#ifndef IO_GGUF_GGUF_NAMES_H
#define IO_GGUF_GGUF_NAMES_H

#include <stdbool.h>

enum { TENSOR_NAME_BYTES = 96 };

/* "blk.0.attn_q.weight" becomes "model.layers.0.self_attn.q_proj.weight". False if there is no such tensor. */
bool gguf_name_to_hf(const char *gguf, char out[TENSOR_NAME_BYTES]);
bool gguf_name_of_hf(const char *hf, char out[TENSOR_NAME_BYTES]);

/* Whether a Hugging Face tensor has the queries or the keys of a layer: weight or bias. */
typedef enum gguf_rows { GGUF_ROWS_OTHER, GGUF_ROWS_QUERIES, GGUF_ROWS_KEYS } gguf_rows;
gguf_rows gguf_rows_of(const char *hf);

#endif
