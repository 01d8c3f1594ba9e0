/* The tensors of a Hugging Face folder, whether they lie in one safetensors file or in shards under an index.
 *
 * Leaves out: the config, and which tensors a model wants (hf_folder.h). */
#ifndef IO_CHECKPOINT_FILES_H
#define IO_CHECKPOINT_FILES_H

#include "io/safetensors.h"

#define CHECKPOINT_SINGLE "model.safetensors"
#define CHECKPOINT_INDEX "model.safetensors.index.json"

typedef struct checkpoint_tensor {
    const safetensors_entry *entry;
    const safetensors_file *file; /* for errors */
} checkpoint_tensor;

typedef struct checkpoint_files {
    char *source; /* the single file, or the index: what errors about absent tensors name */
    safetensors_file *files;
    int file_count;
    checkpoint_tensor *tensors; /* by name, ascending */
    int count;
} checkpoint_files;

/* Opens model.safetensors, or else the shards that model.safetensors.index.json names. Index and shards must agree on
 * what lies where. On success *out is the caller's; on failure it is all zeros. */
int checkpoint_files_open(const char *folder, checkpoint_files *out);
void checkpoint_files_close(checkpoint_files *c); /* all zeros is fine */

const checkpoint_tensor *checkpoint_files_find(const checkpoint_files *c, const char *name); /* NULL if there is none */

/* Whether an index may name this file: one in its own folder. */
bool checkpoint_shard_name_is_safe(const char *name);

#endif
