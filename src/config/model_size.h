/* Sizes that follow from a config alone: parameters and KV bytes. The counting device predicts the memory of a run. */
#ifndef CONFIG_MODEL_SIZE_H
#define CONFIG_MODEL_SIZE_H

#include "config/model_config.h"

/* Weights of the model, with the biases and head norms of the config, K and V of slot owners only, and tied
 * embeddings once. */
int64_t model_parameters(const model_config *config);

/* Values of the keys and values of one token, and the KV heads that they consist of. */
typedef struct model_kv {
    int64_t values, heads;
} model_kv;

/* K and V of one token in all slots; and the same if every layer had its own. */
model_kv model_kv_per_token(const model_config *config);
model_kv model_kv_per_token_unshared(const model_config *config);

int config_dtype_bytes(config_dtype dtype);

#endif
