/* An adapter (model/adapter.h) as peft keeps it: adapter_config.json and adapter_model.safetensors in a folder.
 *
 * What is read may have been written by peft or here. A file that asks for more than LoRA on the matrices of layers
 * (DoRA, trained biases or embeddings, other kinds of adapters) is an error that says so. Leaves out: training. */
#ifndef IO_ADAPTER_FILE_H
#define IO_ADAPTER_FILE_H

#include "io/adapter_config.h"
#include "io/safetensors.h"
#include "model/adapter.h"

#define ADAPTER_CONFIG "adapter_config.json"
#define ADAPTER_WEIGHTS "adapter_model.safetensors"

typedef struct adapter_file {
    char *folder;
    adapter_config config;
    safetensors_file tensors;
    device *host; /* a CPU, which multiplies */
} adapter_file;

/* Opens and checks what can be checked without a model. On failure *out is all zeros. */
int adapter_file_open(const char *folder, adapter_file *out);
void adapter_file_close(adapter_file *f); /* all zeros is fine */

/* Whether a folder has an adapter, and no model. */
bool adapter_folder(const char *folder);

/* Fails unless every tensor of it belongs to a weight of this table that the config targets, in its shape and of the
 * config's rank, A and B together. */
int adapter_file_check(const adapter_file *f, const params *base);

/* Whether it adds to this weight. */
bool adapter_file_has(const adapter_file *f, const char *weight_name);

/* Matrix A or B ('A', 'B') that the adapter has for the weight of this name; NULL if none. */
const safetensors_entry *adapter_file_tensor(const adapter_file *f, const char *weight_name, char a_or_b);

/* The factor of B A for the weight of this name, whose matrices have this rank. */
int adapter_file_scale(const adapter_file *f, const char *weight_name, int64_t rank, float *out);

#endif
