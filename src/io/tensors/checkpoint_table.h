/* The weights of a model, matched with the tensors of a checkpoint. */
#ifndef IO_CHECKPOINT_TABLE_H
#define IO_CHECKPOINT_TABLE_H

#include "io/tensors/checkpoint_files.h"
#include "model/params.h"

/* Creates the table of weights for a config, without memory, with the biases that the files have and with the
 * stored data types. Fails unless every tensor of the table is in the files, with its whole shape and in f32, bf16 or
 * f16, or quantized (quantized_tensors.h) if the config has a quantization_config. Other tensors in the files are
 * ignored if hf_folder.h says so, else they are an error. */
int checkpoint_table(const checkpoint_files *files, const model_config *config, params **out);

/* Fails unless `t` (NULL: missing in `source`) has the shape of the weight and is f32, bf16 or f16. Sets the weight's
 * data type. */
int checkpoint_check_tensor(const checkpoint_tensor *t, const char *source, weight *w);

#endif
