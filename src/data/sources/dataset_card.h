/* The configs in a data set's README.md: the files of each split.
 *
 *   configs:
 *   - config_name: first
 *     default: true
 *     data_files:
 *     - split: train
 *       path: ["first/part-*.jsonl", more.jsonl]
 *
 * The rules are those of the datasets library. `data_files` may also be a path or a list of paths, which are all for
 * training; without it, `data_dir` is a folder whose files go by their names (sources.h). Options of a config that
 * change what is read from a file are refused by name. */
#ifndef DATA_SOURCES_DATASET_CARD_H
#define DATA_SOURCES_DATASET_CARD_H

#include "data/sources/source_list.h"

#include <jansson.h>

/* Reads the config `config_name` (NULL: the default) of the data set `name` in `folder`. *out is NULL if there is no
 * README.md or it has no configs. LCKV_ERROR_ARGUMENT, with a list of the configs, if this one does not exist. */
int dataset_card_config(const char *folder, const char *name, const char *config_name, json_t **out);

/* Adds the files of a split, a subset of the data files `all` in the folder. *listed: the config has `data_files`.
 * LCKV_ERROR_FILE if a path matches no file. */
int dataset_card_files(const json_t *config, const char *folder, const source_list *all, const char *split,
                       source_list *out, bool *listed);

/* Whether a path of the form a/b/c matches a pattern: '*' and '?' match within a name, [...] matches one character, and
 * the name "**" matches any number of names. */
bool dataset_path_matches(const char *pattern, const char *path);

#endif
