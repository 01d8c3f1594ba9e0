/* The Python files of a checkpoint: those that `auto_map` of its config refers to, and the files of the same folder
 * that they import. */
#ifndef IO_AUTO_MAP_H
#define IO_AUTO_MAP_H

#include "base/text/json.h"

/* Adds the names of the files in `folder` ("modeling_lckv.py") to the object `files` as keys. `tree` is a config.json
 * or tokenizer_config.json. References to other repositories are ignored; invalid references and missing files are
 * ignored with a warning. */
int auto_map_files(const json_t *tree, const char *folder, json_t *files);

#endif
