/* The JSON tree of a config.json before its fields are read: normalizes spellings, applies overrides, and rejects
 * what lckv cannot compute. model_config.c reads the fields. */
#ifndef CONFIG_CONFIG_SOURCE_H
#define CONFIG_CONFIG_SOURCE_H

#include "base/text/json.h"

/* A deep copy of `tree` (an object) in the spelling of transformers 4, which transformers 5 reads too:
 * `torch_dtype`, `rope_theta` and `rope_scaling` instead of `dtype` and `rope_parameters`. Then applies `overrides`
 * ("k=v,k=v"; NULL for none). The caller owns *out. */
int config_source_make(const json_t *tree, const char *name, const char *overrides, json_t **out);

/* Fails with LCKV_ERROR_UNSUPPORTED and names the key if `tree` asks for a computation that lckv does not support.
 * Other unknown keys are harmless. rope.c checks RoPE's keys. */
int config_source_check(const json_t *tree, const char *name);

#endif
