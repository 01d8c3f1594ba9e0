/* Where a model lies: names given by people to local folders. Nothing is fetched here. */
#ifndef CONFIG_MODEL_PATH_H
#define CONFIG_MODEL_PATH_H

#include "base/status.h"

/* A folder of that name, else ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, else HF_HOME/hub, else
 * ~/.cache/huggingface/hub; refs/main names the snapshot). Otherwise the error prints the command that would fetch it.
 * On success *folder is released with free(). */
int model_path_resolve(const char *name, char **folder);

#endif
