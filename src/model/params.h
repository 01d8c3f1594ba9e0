/* The table of weights: one entry a tensor of the checkpoint, in a fixed order, under its Hugging Face name.
 *
 * The same table answers "how many parameters, how much memory?" before anything is allocated, is filled by the io room
 * or with random numbers, gives the decoder a layer's weights, and is what optimizers walk.
 * A layer that owns no KV slot has no k_proj, v_proj, k_norm. Leaves out: files, optimizer state.
 */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "config/model_config.h"
#include "graph/graph.h"

typedef struct weight {
    char name[96];
    int64_t rows, cols; /* a vector is [1, n] */
    int dimensions;     /* 1 or 2: as the checkpoint writes it; those of two decay */
    tensor tensor;      /* value: what the ops read; grad: f32, data NULL while frozen */
    view master;        /* f32 original where value is a rounded copy of it (training in bf16); else absent */
} weight;

/* Weights of one layer. Norms that it does not have are NULL; parts that it does not have are not in their pack. */
typedef struct layer_weights {
    tensor *input_norm, *post_norm;
    tensor *q_norm, *k_norm;
    packed_weight qkv;     /* parts "q", "k", "v" */
    packed_weight o;       /* part "o" */
    packed_weight gate_up; /* parts "gate", "up" */
    packed_weight down;    /* part "down" */
} layer_weights;

typedef struct params {
    weight *table;
    int count;
    layer_weights *layers;
    int layer_count;
    tensor *embed, *norm;
    tensor *head; /* lm_head, or the embedding where they are tied */
    device *device;
    void *memory, *gradients, *masters; /* device memory that the params own; NULL where nothing is */
    bool adopted;                       /* some values lie in memory of others, which must not be written */
} params;

/* Whether a checkpoint has a tensor: decides about biases. One that any layer has, all are to have. */
typedef bool (*params_has_tensor)(void *user, const char *name);

/* The table for a config, no memory yet. `has` NULL: as the config says. */
int params_create(const model_config *c, params_has_tensor has, void *user, params **out);
void params_free(params *p);

weight *params_find(params *p, const char *name); /* NULL if there is none */
int64_t params_elements(const params *p);

/* One allocation for all values that have none yet, of `type`. */
int params_allocate(params *p, device *d, dtype type);
/* The same, each of the type that its tensor.value already names. */
int params_allocate_as_typed(params *p, device *d);
/* Entry i lies in memory of the caller's (a mapped file), which must outlive the params. */
void params_adopt(params *p, int i, device *d, void *data, dtype type);
/* Fills entry i from host memory of `type`, converting. */
int params_set(params *p, int i, const void *host, dtype type);
/* The f32 values of entry i (its master where it has one) in host memory of rows * cols floats. */
int params_get(params *p, int i, float *host);
/* The same as `type`; params_type() is the one that loses nothing. */
int params_read(params *p, int i, dtype type, void *host);
dtype params_type(const params *p, int i);
/* Matrices normal(0, initializer_range) from (seed, entry), norms 1, biases 0; transformers' initialization. */
int params_randomize(params *p, const model_config *c, uint64_t seed);

/* Zeroed f32 gradients for every entry. */
int params_enable_gradients(params *p);
/* Makes the values ones that an optimizer may write: in memory of the params' own, of `type` (f32 or bf16). Where that
 * is not f32, f32 masters keep what the values were. On failure the params are as before. */
int params_enable_masters(params *p, dtype type);
/* The same of f32 or bf16 without masters: the values are all there is. */
int params_enable_values(params *p, dtype type);
/* The same of weights that nobody writes: those that are of the type stay where they lie. */
int params_convert(params *p, dtype type);
/* Releases the f32 masters, after whoever keeps them elsewhere has them. What is read then are rounded values. */
int params_drop_masters(params *p);

/* The decoder asks for a layer's weights at its start and gives them back at its end, so that they may be streamed from
 * elsewhere. Today they are all resident. */
const layer_weights *params_layer_begin(params *p, int layer);
void params_layer_end(params *p, int layer);

#endif
