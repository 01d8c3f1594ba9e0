/* The table of weights: one entry per tensor of the checkpoint, in a fixed order, with its Hugging Face name.
 *
 * The table counts parameters and memory before anything is allocated. It is filled by the io room or with random
 * numbers, gives the decoder the weights of a layer, and is what optimizers iterate over. Keys and values that no
 * layer reads have no weights. Leaves out: files, optimizer state. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "collectives/collectives.h"
#include "config/model_config.h"
#include "graph/graph.h"

typedef struct weight {
    char name[96];
    int64_t rows, cols; /* a vector is [1, n] */
    /* Of a rank that has a part of the tensor (ranks/rank_part.h): the shape in the checkpoint, and where the
     * part begins. Else rows, cols, 0, 0. */
    int64_t all_rows, all_cols, first_row, first_col;
    int dimensions; /* 1 or 2, as in the checkpoint; weight decay applies to those with 2 */
    tensor tensor;  /* value: what ops read; grad: f32, data NULL while frozen */
    /* f32 original if the value is a rounded copy of it (training in bf16); else absent. If several ranks divide the
     * masters, this rank's part of it: [1, n], elements part_first .. of the value. */
    view master;
    /* If the weights are divided between ranks: elements part_first .. of the value, [1, n], in the type that is
     * stored. The tensor's value and gradient then have memory only while they are in use. No rows: not divided. */
    view part;
    int64_t part_first;
    bool continues; /* the next part of the packed weight of the entry before */
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

/* Entries that a learned start (loop_start.h) may add to the table, per loop and per slot. */
enum { PARAMS_PER_LOOP = 3, PARAMS_PER_SLOT = 4 };

typedef struct params {
    weight *table;
    int count, capacity;
    layer_weights *layers;
    int layer_count;
    int *unit_first; /* [unit_count] first entries of the units that are divided between ranks (shards.h) */
    int unit_count;
    struct shards *shards; /* owned; NULL: the weights are not divided */
    tensor *embed, *norm;
    tensor *head; /* lm_head, or the embedding if they are tied */
    device *device;
    void *memory, *gradients, *masters; /* device memory owned by the params; NULL: none */
    bool adopted;                       /* some values are in memory of others and must not be written */
    bool has_masters;                   /* the values are rounded copies of f32 masters */
} params;

/* Whether a checkpoint has a tensor. Decides about biases: if one layer has a bias, all must. */
typedef bool (*params_has_tensor)(void *user, const char *name);

/* The table for a config, without memory. `has` NULL: as the config says. */
int params_create(const model_config *c, params_has_tensor has, void *user, params **out);
void params_free(params *p);

/* Appends an entry to a table with room for it: f32, without name and value. */
weight *params_add(params *p, int64_t rows, int64_t cols, int dimensions);
weight *params_find(params *p, const char *name); /* NULL if there is none */
int64_t params_elements(const params *p);         /* of the whole tensors, if a rank has parts */

/* Divides the weights between the ranks of `c`, which outlives them (shards.h), before they have memory. From then on
 * each rank stores its part alone, and the functions below set and convert that. Does nothing for a single rank. */
int params_divide(params *p, const collectives *c);
/* Whether entry i has its value, or its part of it. */
bool params_has_value(const params *p, int i);

/* Changes the types of entries without memory, from those that the weights are stored with to those that they are
 * used with. `floats`: of weights that are not quantized; DTYPE_COUNT: as stored, and like the norms where they are
 * stored quantized. `format`: of the matrices of layers; with int8 and int4, embeddings and head are int8.
 * WEIGHT_AUTO: matrices of layers as stored, and embeddings and head int8 if some are quantized. */
void params_choose_types(params *p, dtype floats, weight_format format);
/* The format of the matrices of layers: that with the fewest bits if they differ. */
weight_format params_format(const params *p);
/* Whether some weight is quantized. Such a weight is not trained: an adapter is. */
bool params_quantized(const params *p);
/* Whether entry i is the embeddings or the head. */
bool params_is_outer(const params *p, int i);
/* The type of weights that are not quantized: that of the embeddings, or of the norms if these are quantized. */
dtype params_float_type(const params *p);

/* Allocates all values that have no memory yet, of `type`. */
int params_allocate(params *p, device *d, dtype type);
/* The same, each of the type of its tensor.value. */
int params_allocate_as_typed(params *p, device *d);
/* Uses memory of the caller (a mapped file) for entry i. The memory must outlive the params. */
void params_adopt(params *p, int i, device *d, void *data, dtype type);
/* Fills entry i from host memory of `type` (f32, bf16 or f16), with conversion or quantization (device/quantize.h). */
int params_set(params *p, int i, const void *host, dtype type);
/* Fills the quantized entry i from integers and scales in host memory, in the layout of dtype.h. */
int params_set_quantized(params *p, int i, const void *data, const void *scales);
/* The f32 values of entry i (of its master if it has one) in host memory of rows * cols floats.
 * LCKV_ERROR_UNSUPPORTED if the weights are divided. */
int params_get(params *p, int i, float *host);
/* The same as `type`, f32, bf16 or f16. params_type() is the type without loss. */
int params_read(params *p, int i, dtype type, void *host);
/* The same for some elements of a weight that is not quantized; of a quantized one, `range` has to be all of them. */
int params_read_range(params *p, int i, element_range range, dtype type, void *host);
/* Integers and scales of the quantized entry i in host memory. */
int params_read_quantized(params *p, int i, void *data, void *scales);
dtype params_type(const params *p, int i);
/* Initializes as transformers does: matrices normal(0, initializer_range) as a function of (seed, entry), norms 1,
 * biases 0. */
int params_randomize(params *p, const model_config *c, uint64_t seed);

/* Entry i = normal(0, deviation), a function of (seed, i). */
int params_fill_normal(params *p, int i, double deviation, uint64_t seed);

/* Zeroed f32 gradients for every entry. */
int params_enable_gradients(params *p);
/* Makes the values writable by an optimizer: copies them to memory of the params, of `type` (f32 or bf16). With
 * bf16, f32 masters keep the original values. With several ranks in `c` (NULL: one), each keeps those of its part
 * (shards.h), so that no rank has all values in f32 twice. On failure nothing has changed.
 * LCKV_ERROR_UNSUPPORTED if a weight is quantized. */
int params_enable_masters(params *p, dtype type, const collectives *c);
/* The same without masters, for f32 or bf16. */
int params_enable_values(params *p, dtype type);
/* Converts weights that are not written. If all have the type already, they stay where they are; so they do if some are
 * quantized, because only vectors are left then. */
int params_convert(params *p, dtype type);

/* Copies between a tensor that is not quantized and host memory of `type` (f32, bf16 or f16), which needs no alignment.
 * Converts in chunks, so that no copy of the tensor is needed. */
int view_from_host(device *d, view v, const void *host, dtype type);
int view_to_host(device *d, view v, void *host, dtype type);

/* Values of quantized entries, from and to host memory of f32, bf16 or f16; for params_values.c. */
bool view_is_quantized(view v);
int quantize_weight(params *p, const weight *w, const void *host, dtype type);
int dequantize_weight(params *p, const weight *w, dtype type, void *host);

#endif
