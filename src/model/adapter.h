/* An adapter: LoRA (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models") on some matrices of a model.
 *
 * Each gets two matrices, y = x W^T + alpha / rank (dropout(x) A^T) B^T, which learn while the model's own weights are
 * frozen: these have no gradients, and no optimizer looks at them. A and B are a table of weights of its own (params.h)
 * under the names that peft gives them, so that whatever walks a table walks this one too. A matrix that the model does
 * not have, K or V of a layer without a KV slot, has none either. Leaves out: files (io/adapter_file.h), merging. */
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include "model/params.h"

/* The matrices of a layer that can have one, by their last name: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj,
 * down_proj, a bit each in this order. */
enum { ADAPTER_KINDS = 7, ADAPTER_ALL = (1 << ADAPTER_KINDS) - 1 };

typedef struct adapter_options {
    int64_t rank;
    double alpha;
    unsigned targets; /* bits: which matrices */
    double dropout;   /* probability, in training alone (graph.h); 0: none */
} adapter_options;

typedef struct adapter {
    adapter_options options;
    params *weights; /* A and B of each matrix, in the order of the model's table */
    low_rank *pairs; /* [count] */
    int count;
} adapter;

/* The bits of a list of names, or of peft's "all-linear" among them; none are peft's defaults, q_proj and v_proj. */
int adapter_targets(const char *const *names, int count, unsigned *out);
/* The name of a bit's matrix. */
const char *adapter_target_name(int bit);

/* The name of a matrix's A or B, from its own: "model.layers.0.self_attn.q_proj.weight" is
 * "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight". False where `weight_name` is none that can have
 * one. */
enum { ADAPTER_NAME_BYTES = 96 };
bool adapter_name(const char *weight_name, char a_or_b, char out[ADAPTER_NAME_BYTES]);

/* Adds an adapter to the weights of `base`, which must outlive it: f32 on its device, values undefined. */
int adapter_create(params *base, const adapter_options *options, adapter **out);
void adapter_free(adapter *a); /* NULL is fine */

/* As peft begins: A uniform in +-1 / sqrt(cols) (torch's kaiming_uniform with a = sqrt(5)), a function of the seed, and
 * B zero, so that the model computes what it did. */
int adapter_randomize(adapter *a, uint64_t seed);

#endif
