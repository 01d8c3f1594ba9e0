/* The configs of a data set, as its README.md lists them: which files belong to which split.
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
#ifndef DATA_DATASET_CARD_H
#define DATA_DATASET_CARD_H

#include "data/source_list.h"

#include <jansson.h>

/* Reads the config `config_name` of the data set `name` in `folder`; NULL: the default one. `*out` is NULL where there
 * is no README.md or it lists no configs. An unknown config is LCKV_ERROR_ARGUMENT, and the message lists the known
 * ones. */
int dataset_card_config(const char *folder, const char *name, const char *config_name, json_t **out);

/* Adds the files of a split, of `all` data files of the folder. *listed: the config has `data_files`. A path that
 * nothing matches is LCKV_ERROR_FILE. */
int dataset_card_files(const json_t *config, const char *folder, const source_list *all, const char *split,
                       source_list *out, bool *listed);

/* Whether a path of the form a/b/c matches a pattern: '*' and '?' match within a name, [...] one character, and a part
 * "**" any number of names. */
bool dataset_path_matches(const char *pattern, const char *path);

#endif
