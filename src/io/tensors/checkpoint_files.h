/* The tensors of a Hugging Face folder, in one safetensors file or in shards with an index, or of a GGUF file.
 *
 * Leaves out: the config, and which tensors a model needs (checkpoint_table.h). */
#ifndef IO_CHECKPOINT_FILES_H
#define IO_CHECKPOINT_FILES_H

#include "io/tensors/safetensors.h"

#define CHECKPOINT_SINGLE "model.safetensors"
#define CHECKPOINT_INDEX "model.safetensors.index.json"

typedef struct checkpoint_tensor {
    const safetensors_entry *entry;
    const safetensors_file *file; /* for errors */
} checkpoint_tensor;

typedef struct checkpoint_files {
    char *source; /* path of the single file or of the index, for errors about missing tensors */
    safetensors_file *files;
    int file_count;
    checkpoint_tensor *tensors; /* [count], sorted by name */
    int count;
} checkpoint_files;

/* Opens a GGUF file, or in a folder model.safetensors, or else the shards in model.safetensors.index.json. The index
 * and the shards have to agree on the tensors of each file. On failure *out is all zeros. */
int checkpoint_files_open(const char *folder, checkpoint_files *out);
void checkpoint_files_close(checkpoint_files *c); /* all zeros is fine */

const checkpoint_tensor *checkpoint_files_find(const checkpoint_files *c, const char *name); /* NULL if there is none */

/* Whether a file name from an index is safe: a file in the same folder. */
bool checkpoint_shard_name_is_safe(const char *name);

#endif
