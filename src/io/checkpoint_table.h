/* A model's table of weights, checked against the tensors of a checkpoint. */
#ifndef IO_CHECKPOINT_TABLE_H
#define IO_CHECKPOINT_TABLE_H

#include "io/checkpoint_files.h"
#include "model/params.h"

/* The table for a config as the files have it (biases), without memory, each value of the type that is stored. Every
 * tensor of it is in the files, in its shape and as f32, bf16 or f16; what the files have besides is counted and passed
 * over where hf_folder.h says so, else an error. */
int checkpoint_table(const checkpoint_files *files, const model_config *config, params **out);

#endif
