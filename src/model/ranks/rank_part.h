/* The part of a model that one of several ranks has (tensor parallelism, as in Shoeybi et al. 2019, "Megatron-LM").
 *
 * The part is described by a config of its own, with fewer heads and a narrower MLP (layer_map.h). Weights, KV cache
 * and forward pass follow from it:
 *
 *   q, k, v and their biases       the rows of the rank's heads
 *   gate, up and their biases      the rows of the rank's columns of the MLP
 *   o, down                        the columns that go with them; the ranks add up the products, which are partial sums
 *   norms, biases of o and down,
 *   embeddings, output layer       the whole
 *
 * If there are at least as many KV heads as ranks, KV heads are divided, each with the query heads that attend to it.
 * If there are fewer, a rank has one KV head, which several ranks then have, and these divide its query heads.
 * Columns of the MLP are divided in units of RANK_PART_COLUMNS if possible. Shares may differ by one head or one
 * unit; rank 0 has the largest ones.
 *
 * Quantized weights (device/dtype.h) have a scale for each group of columns. Groups are not divided, so that all ranks
 * together have the integers and scales of the whole: the heads and the columns of a rank begin at a multiple of
 * DTYPE_GROUP columns of o and down. */
#ifndef MODEL_RANKS_RANK_PART_H
#define MODEL_RANKS_RANK_PART_H

#include "config/model_config.h"

enum { RANK_PART_COLUMNS = 8, RANK_PART_MAX_RANKS = 1024 };

/* The config of rank `rank` of `ranks`. whole->weight_format says whether the weights are quantized. Fails with
 * LCKV_ERROR_ARGUMENT if a rank would have no head or no column. The caller owns *out. */
int rank_part_config(const model_config *whole, int rank, int ranks, model_config **out);

#endif
