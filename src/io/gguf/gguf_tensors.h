/* The tensors of a GGUF file as those of a safetensors file, with Hugging Face names.
 *
 * Values in f32, f16 and bf16 are used in the mapped file. Matrices in q8_0 and q4_0 have the types int8 and int4:
 * gguf_groups_read() copies them. Other quantized tensors have the type bf16: tensor_values() decodes them. In files of
 * the architecture llama the rows of queries and keys are in another order. */
#ifndef IO_GGUF_GGUF_TENSORS_H
#define IO_GGUF_GGUF_TENSORS_H

#include "io/tensors/safetensors.h"

/* On failure *out is all zeros. A tensor without a Hugging Face name is LCKV_ERROR_UNSUPPORTED, apart from the factors
 * of RoPE, which are part of the config. Release with safetensors_close(). */
int gguf_tensors_open(const char *path, safetensors_file *out);

#endif
