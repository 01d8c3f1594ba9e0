/* adapter_config.json of peft: rank, alpha and targets per module. Unsupported features are errors.
 *
 * Module names are those of the base model, such as "model.layers.0.self_attn.q_proj". */
#ifndef IO_ADAPTER_CONFIG_H
#define IO_ADAPTER_CONFIG_H

#include "base/text/json.h"

typedef struct adapter_config {
    json_t *tree;
    char *path;           /* for errors */
    int64_t rank;         /* r: where no rank_pattern matches */
    double alpha;         /* lora_alpha: where no alpha_pattern matches */
    bool rank_stabilized; /* use_rslora: scale = alpha / sqrt(rank) instead of alpha / rank */
    const char *base;     /* base_model_name_or_path; NULL: absent */
} adapter_config;

/* Reads and checks the file. LCKV_ERROR_UNSUPPORTED, with the key, if it uses a feature that changes the result and
 * that lckv does not support. On failure *out is all zeros. */
int adapter_config_read(const char *path, adapter_config *out);
void adapter_config_free(adapter_config *c); /* all zeros is fine */

/* Rank and alpha of a module: those of the first pattern that matches its name, else the config's. */
int adapter_config_rank(const adapter_config *c, const char *module, int64_t *rank);
int adapter_config_alpha(const adapter_config *c, const char *module, double *alpha);

/* Whether peft applies LoRA to this module (target_modules, exclude_modules, layers_to_transform). */
int adapter_config_targets(const adapter_config *c, const char *module, bool *targeted);

#endif
