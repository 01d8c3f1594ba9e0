/* A model: its config, plan and weights on one device. Running sequences are separate: batch.h and kv_cache.h. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/files/mapped_file.h"
#include "model/adapter.h"
#include "model/loop_start.h"

typedef struct rank_group rank_group; /* ranks/rank_group.h */

typedef struct lckv_model {
    device *device; /* owned by the caller; outlives the model */
    model_config *config;
    model_config
        *whole; /* of all ranks, if `config` is the part of one (ranks/rank_part.h); NULL: `config` is the whole */
    rank_group *ranks; /* the ranks that run the model together, owned; NULL: this one alone */
    plan plan;
    params *params;
    adapter *adapter;           /* LoRA on some of the weights, which are then frozen; NULL: none */
    loop_start *loop_start;     /* learned start of the loops, owned; NULL: they start from zeros */
    struct op_rope_angles rope; /* how positions become angles; a call adds its rows */
    int last_slot_layer;        /* the highest layer that owns a slot; layers above it can run on wanted rows only */
    mapped_file *files;         /* mapped files that contain weights */
    int file_count;
    char *folder; /* the folder it was read from, whose other files are copied when it is saved; NULL: none */
} model;

/* After weights have got memory of their own: closes the mapped files, unless others are in them. */
void model_drop_files(model *m);

/* Takes ownership of `config` and `weights`, also on failure. The weights must have their values. */
int model_create(device *d, model_config *config, params *weights, model **out);
/* The same with random weights (params_randomize): matrices have the config's weight_format, other weights are of
 * `type`, and so are matrices that are not quantized. Takes ownership of `config`, also on failure. */
int model_create_random(device *d, model_config *config, dtype type, uint64_t seed, model **out);
/* A model whose weights have memory of these types but no values, for the counting device, which does not read
 * them. Copies `config`. */
int model_create_empty(device *d, const model_config *config, dtype type, model **out);
/* The weights that are trained: the adapter's if there is one, else the model's. */
params *model_trainable(const model *m);
/* Iterations per loop with which inference runs the plan unless told otherwise: forward_passes + backward_passes, or as
 * many as bring a learned start as near to the exact form. */
int model_default_iterations(const model *m);
void model_free(model *m); /* NULL is fine */

#endif
