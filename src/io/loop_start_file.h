/* loop_start.safetensors: the learned start of a model's loops (model/loop_start.h), beside its weights. Other programs
 * ignore the file, so that the folder still loads everywhere.
 *
 * The tensors are those of the table. The metadata holds `kl_zeros` and `kl_start` as JSON arrays of numbers: entry i
 * is the mean KL divergence from the exact form after i + 1 iterations. */
#ifndef IO_LOOP_START_FILE_H
#define IO_LOOP_START_FILE_H

#include "io/tensors/staging.h"
#include "model/model.h"

#define LOOP_START_FILE "loop_start.safetensors"

/* Reads the start of a folder for a model on `d`. *out is NULL if the folder has none. `type`: of the weights in
 * memory; DTYPE_COUNT: as stored. LCKV_ERROR_FORMAT if the file does not fit the model; the message names the file and
 * the tensor. */
int loop_start_read(device *d, const char *folder, const model_config *config, dtype type, loop_start **out);

/* Adds the file to a staging. `type`: in the file; DTYPE_COUNT: without loss. `values` copies elements of an entry
 * of the start's table to host memory; NULL: params_read_range(). */
typedef struct loop_start_save {
    const loop_start *start;
    dtype type;
    int (*values)(void *user, int entry, element_range range, dtype type, void *host);
    void *user;
} loop_start_save;

int loop_start_stage(staging *s, const loop_start_save *save);
/* Writes the file into a folder. */
int loop_start_write(const loop_start_save *save, const char *folder);

#endif
