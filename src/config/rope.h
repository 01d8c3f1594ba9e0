/* Rotary positions of config.json. config_inverse_frequencies() computes the frequencies. */
#ifndef CONFIG_ROPE_H
#define CONFIG_ROPE_H

#include "config/model_config.h"

/* Reads rope_theta and rope_scaling of `tree` into `config`, whose sizes were read before. An unknown type or
 * parameter is LCKV_ERROR_UNSUPPORTED. */
int rope_read(const json_t *tree, const char *name, model_config *config);

#endif
