/* adapter_config.json: what peft would make of it, matrix by matrix, or the name of what lckv does not do.
 *
 * Names of modules are those within the base model, "model.layers.0.self_attn.q_proj". */
#ifndef IO_ADAPTER_CONFIG_H
#define IO_ADAPTER_CONFIG_H

#include "base/json.h"

typedef struct adapter_config {
    json_t *tree;
    char *path;           /* for errors */
    int64_t rank;         /* r, where no rank_pattern says otherwise */
    double alpha;         /* lora_alpha, likewise */
    bool rank_stabilized; /* use_rslora: scale = alpha / sqrt(rank), not alpha / rank */
    const char *base;     /* base_model_name_or_path; NULL: not named */
} adapter_config;

/* Reads and checks the file. A feature that changes what the adapter computes and that lckv does not do is
 * LCKV_ERROR_UNSUPPORTED, by its key. On failure *out is all zeros. */
int adapter_config_read(const char *path, adapter_config *out);
void adapter_config_free(adapter_config *c); /* all zeros is fine */

/* The rank and alpha of a module: of the first pattern that matches its name, else the config's own. */
int adapter_config_rank(const adapter_config *c, const char *module, int64_t *rank);
int adapter_config_alpha(const adapter_config *c, const char *module, double *alpha);

/* Whether peft puts LoRA on this module (target_modules, exclude_modules, layers_to_transform): it leaves tensors of
 * others alone. */
int adapter_config_targets(const adapter_config *c, const char *module, bool *targeted);

#endif
