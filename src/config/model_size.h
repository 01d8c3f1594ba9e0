/* Sizes that follow from a config alone: parameters and KV bytes. The counting device predicts the memory of a run. */
#ifndef CONFIG_MODEL_SIZE_H
#define CONFIG_MODEL_SIZE_H

#include "config/model_config.h"

/* Weights of the model, with the biases and head norms of the config, K and V of slot owners only, and tied
 * embeddings once. */
int64_t model_parameters(const model_config *config);

/* K and V of one token in all slots, at `bytes_per_value`; and the same if every layer had its own. */
int64_t model_kv_bytes_per_token(const model_config *config, int bytes_per_value);
int64_t model_kv_bytes_per_token_unshared(const model_config *config, int bytes_per_value);

int config_dtype_bytes(config_dtype dtype);

#endif
