/* RoPE of a GGUF file in the spelling of config.json; part of gguf_config.h. */
#ifndef CONFIG_GGUF_ROPE_H
#define CONFIG_GGUF_ROPE_H

#include "base/text/json.h"
#include "gguf/gguf.h"

/* A GGUF file whose config is read. */
typedef struct gguf_model {
    const gguf_file *file;
    const char *architecture;
    int64_t head_dim;
    json_t *config;
} gguf_model;

/* The values of "ARCHITECTURE.KEY": an integer from 1 on, or a real number in the shortest decimal form that is the
 * same float. `fallback` if absent. */
int gguf_model_int(const gguf_model *m, const char *key, int64_t fallback, int64_t *out);
int gguf_model_number(const gguf_model *m, const char *key, double fallback, double *out);

/* Sets rope_theta and rope_scaling from the keys "rope." and the tensors with a factor per frequency. */
int gguf_rope_read(const gguf_model *m);

#endif
