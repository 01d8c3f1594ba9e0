/* An adapter: LoRA (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models") on some matrices of a
 * model.
 *
 * Each adapted matrix W gets two matrices A and B: y = x W^T + alpha / rank (dropout(x) A^T) B^T. A and B are
 * trained; the model's own weights are frozen, have no gradients and are not passed to the optimizer. A and B are a
 * table of weights of its own (params.h) with the names that peft uses, so that code for tables of weights works on
 * it. A matrix that the model does not have, such as K of a layer whose keys nothing reads, is not adapted.
 *
 * A rank that has a part of a matrix (ranks/rank_part.h) has the parts of A and B that belong to it. Some rows of W:
 * all of A, the same rows of B. Some columns of W: the same columns of A, all of B; the addition is then a partial
 * sum, as the product with W is. Leaves out: files (io/adapter/adapter_file.h), merging. */
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include "model/params.h"

/* Matrices of a layer that can be adapted, by the last part of their name: q_proj, k_proj, v_proj, o_proj,
 * gate_proj, up_proj, down_proj; one bit each, in this order. */
enum { ADAPTER_KINDS = 7, ADAPTER_ALL = (1 << ADAPTER_KINDS) - 1 };

typedef struct adapter_options {
    int64_t rank;
    double alpha;
    unsigned targets; /* set of bits: matrices to adapt */
    double dropout;   /* dropout probability, in training only (graph.h); 0: none */
} adapter_options;

typedef struct adapter {
    adapter_options options;
    params *weights; /* A and B of each matrix, in the order of the model's table */
    low_rank *pairs; /* [count] */
    int count;
} adapter;

/* The bits of a list of names. "all-linear" selects all; an empty list selects peft's defaults, q_proj and v_proj. */
int adapter_targets(const char *const *names, int count, unsigned *out);
/* The name of the matrix of a bit. */
const char *adapter_target_name(int bit);

/* The name of the A or B of a matrix: "model.layers.0.self_attn.q_proj.weight" gives
 * "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight". False if the matrix cannot be adapted. */
enum { ADAPTER_NAME_BYTES = 96 };
bool adapter_name(const char *weight_name, char a_or_b, char out[ADAPTER_NAME_BYTES]);

/* Adds an adapter to the weights of `base`, which must outlive it: f32 on the same device, values undefined. */
int adapter_create(params *base, const adapter_options *options, adapter **out);

/* Rank of the pair that is added to a matrix, and its factor; rank 0: none. */
typedef struct adapter_pair {
    int64_t rank;
    float scale;
} adapter_pair;
typedef int adapter_shape(void *user, const weight *w, adapter_pair *out);

/* The same with a rank and a factor for each matrix. `options` of the adapter are zeros. */
int adapter_create_shaped(params *base, adapter_shape *shape, void *user, adapter **out);
void adapter_free(adapter *a); /* NULL is fine */

/* Initializes as peft does: A uniform in +-1 / sqrt(cols) (torch's kaiming_uniform with a = sqrt(5)), a function of
 * the seed; B zero, so that the results do not change. */
int adapter_randomize(adapter *a, uint64_t seed);

#endif
