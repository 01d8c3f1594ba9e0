/* The Python files that a checkpoint brings with it: those that `auto_map` of its config names, and what they import
 * from beside them. */
#ifndef IO_AUTO_MAP_H
#define IO_AUTO_MAP_H

#include "base/json.h"

/* Adds the names ("modeling_lckv.py") of files in `folder` to the object `files` as keys. `tree` is a config.json or
 * tokenizer_config.json. A reference to another repository has no file here; one that is no plain name, or whose file
 * is absent, is left out with a warning. */
int auto_map_files(const json_t *tree, const char *folder, json_t *files);

#endif
