/* A model: its config, its plan, its weights, on one device. Weights are one thing, a running sequence another: see
 * batch.h and kv_cache.h. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/mapped_file.h"
#include "model/adapter.h"

typedef struct lckv_model {
    device *device; /* the caller's: outlives the model */
    model_config *config;
    plan plan;
    params *params;
    adapter *adapter;           /* added to some of them, which are then frozen; NULL: none */
    struct op_rope_angles rope; /* how positions become angles: all but rows, which are a call's */
    int last_slot_layer; /* the highest layer that owns a slot: what lies above it can run for wanted rows alone */
    mapped_file *files;  /* files that weights lie in */
    int file_count;
    char *folder; /* where it was read from: files that travel along when it is saved; NULL: made here */
} model;

/* Takes ownership of `config` and `weights` (also on failure). The weights must have their values. */
int model_create(device *d, model_config *config, params *weights, model **out);
/* The same with random weights of `type` (params_randomize). Takes ownership of `config`, also on failure. */
int model_create_random(device *d, model_config *config, dtype type, uint64_t seed, model **out);
/* A model whose weights have memory of `type` but no values, for the counting device, which does not read them. Copies
 * `config`. */
int model_create_empty(device *d, const model_config *config, dtype type, model **out);
/* The weights that training changes: the adapter's where there is one, else the model's own. */
params *model_trainable(const model *m);
void model_free(model *m); /* NULL is fine */

#endif
