/* Local folders of models and data sets, and GGUF files, by name. Nothing is downloaded here. */
#ifndef HUB_MODEL_PATH_H
#define HUB_MODEL_PATH_H

#include "base/status.h"
#include "base/text/text_buffer.h"

/* Resolves a folder, a GGUF file, or ORG/NAME in the Hugging Face cache (HF_HUB_CACHE, else HF_HOME/hub, else
 * ~/.cache/huggingface/hub; refs/main names the snapshot). A folder without config.json that has one GGUF file stands
 * for that file. If none exists, the error contains the command that downloads it. Release *folder with free(). */
int model_path_resolve(const char *name, char **folder);

/* The same for data sets. */
int dataset_path_resolve(const char *name, char **folder);

/* Whether the name has the form ORG/NAME: one slash, and nothing that could leave the cache. */
bool hub_name_allowed(const char *name);

/* Appends the folder of the Hugging Face cache with models and data sets, which need not exist. */
int hub_cache_folder(text_buffer *out);

/* Appends the folder with the user's token (HF_HOME, else ~/.cache/huggingface). */
int hub_home_folder(text_buffer *out);

#endif
