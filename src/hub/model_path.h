/* Where a model lies: names given by people to local folders. Nothing is fetched here. */
#ifndef HUB_MODEL_PATH_H
#define HUB_MODEL_PATH_H

#include "base/status.h"
#include "base/text_buffer.h"

/* A folder of that name, else ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, else HF_HOME/hub, else
 * ~/.cache/huggingface/hub; refs/main names the snapshot). Otherwise the error prints the command that would fetch it.
 * On success *folder is released with free(). */
int model_path_resolve(const char *name, char **folder);

/* The same of data sets. */
int dataset_path_resolve(const char *name, char **folder);

/* ORG/NAME as the hub allows it: one slash, and nothing that could lead out of the cache. */
bool hub_name_allowed(const char *name);

/* Appends the folder of the Hugging Face cache that holds the models and data sets, whether it exists or not. */
int hub_cache_folder(text_buffer *out);

/* Appends the folder of what belongs to the user, the token above all (HF_HOME, else ~/.cache/huggingface). */
int hub_home_folder(text_buffer *out);

#endif
