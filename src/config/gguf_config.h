/* The config of a GGUF file as the tree of a config.json. */
#ifndef CONFIG_GGUF_CONFIG_H
#define CONFIG_GGUF_CONFIG_H

#include "base/text/json.h"

/* Reads the architectures llama, qwen2 and qwen3. A key of the architecture that is unknown, or that asks for a
 * computation that lckv does not do, is LCKV_ERROR_UNSUPPORTED and named. The caller owns *out. */
int gguf_config_read(const char *path, json_t **out);

#endif
