/* Reads an adapter (model/adapter.h) in the layout of peft: a folder with adapter_config.json and
 * adapter_model.safetensors.
 *
 * Only LoRA on the matrices of layers is supported. DoRA, trained biases or embeddings and other kinds of adapters are
 * errors. Leaves out: merging (adapter_merge.h) and writing (adapter_save.h). */
#ifndef IO_ADAPTER_FILE_H
#define IO_ADAPTER_FILE_H

#include "io/adapter/adapter_config.h"
#include "io/tensors/safetensors.h"
#include "model/adapter.h"

#define ADAPTER_CONFIG "adapter_config.json"
#define ADAPTER_WEIGHTS "adapter_model.safetensors"

typedef struct adapter_file {
    char *folder;
    adapter_config config;
    safetensors_file tensors;
    device *host; /* a CPU device, for merging */
} adapter_file;

/* Opens the files and checks everything that does not depend on a model. On failure *out is all zeros. */
int adapter_file_open(const char *folder, adapter_file *out);
void adapter_file_close(adapter_file *f); /* all zeros is fine */

/* Whether a folder contains an adapter and no model. */
bool adapter_folder(const char *folder);

/* Fails unless every tensor belongs to a weight of this table, the config targets that weight, shape and rank match,
 * and A and B are both there. */
int adapter_file_check(const adapter_file *f, const params *base);

/* Whether the adapter changes this weight. */
bool adapter_file_has(const adapter_file *f, const char *weight_name);

/* Matrix A or B ('A', 'B') that the adapter has for the weight of this name; NULL if none. */
const safetensors_entry *adapter_file_tensor(const adapter_file *f, const char *weight_name, char a_or_b);

/* The factor of B A for the weight of this name, whose matrices have this rank. */
int adapter_file_scale(const adapter_file *f, const char *weight_name, int64_t rank, float *out);

#endif
