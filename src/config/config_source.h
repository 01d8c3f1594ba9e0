/* The text of a config.json before it is understood: one spelling, overrides applied, and what lckv cannot compute
 * refused. Works on the JSON tree alone; model_config.c gives the fields their meaning. */
#ifndef CONFIG_CONFIG_SOURCE_H
#define CONFIG_CONFIG_SOURCE_H

#include "base/json.h"

/* A deep copy of `tree` (an object) in the transformers 4 spelling, which transformers 5 reads too (`torch_dtype`,
 * `rope_theta` and `rope_scaling` instead of `dtype` and `rope_parameters`), with `overrides` ("k=v,k=v", may be NULL)
 * put over it. The caller owns *out. */
int config_source_make(const json_t *tree, const char *name, const char *overrides, json_t **out);

/* Fails with LCKV_ERROR_UNSUPPORTED, naming the key, where `tree` asks for a computation that lckv does not do. Other
 * unknown keys are harmless. RoPE's own keys are rope.c's to check. */
int config_source_check(const json_t *tree, const char *name);

#endif
