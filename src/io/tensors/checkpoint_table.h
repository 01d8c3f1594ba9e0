/* The weights of a model, matched with the tensors of a checkpoint. */
#ifndef IO_CHECKPOINT_TABLE_H
#define IO_CHECKPOINT_TABLE_H

#include "io/tensors/checkpoint_files.h"
#include "model/params.h"

/* Creates the table of weights for a config, without memory, with the biases that the files have and with the
 * stored data types. Fails unless every tensor of the table is in the files, with its whole shape and in f32, bf16 or
 * f16, or quantized: in a GGUF file (gguf_tensors.h), or in a folder (quantized_tensors.h) if the config has a
 * quantization_config. Other tensors in the files are ignored if hf_folder.h says so, else they are an error. */
int checkpoint_table(const checkpoint_files *files, const model_config *config, params **out);

/* Changes the type of weights in int8 and int4 whose tensors are blocks of a GGUF file to bf16, as those in other
 * quantized formats have it. */
void checkpoint_dequantize_blocks(const checkpoint_files *files, params *p);

/* Fails unless `t` (NULL: missing in `source`) has the shape of the weight and is f32, bf16, f16 or blocks of a GGUF
 * file. Sets the weight's data type. */
int checkpoint_check_tensor(const checkpoint_tensor *t, const char *source, weight *w);

#endif
