/* Finds the files of a corpus from the names in options: files, folders, patterns and data sets.
 *
 * A folder means all files in it and its subfolders with a known extension (document_reader.h), sorted by path, without
 * hidden ones. A pattern (*, ?, [...]) means all matching files and folders.
 *
 * README.md of a data set may define its splits (dataset_card.h). If it does not, the path of a file determines its
 * split, with the words of the datasets library: "train" or "training": training; "validation", "valid", "val" or
 * "dev": validation; "test", "testing", "eval" or "evaluation": not used. If no path contains any of these words, all
 * files are for training. Leaves out: the content of files. */
#ifndef DATA_SOURCES_SOURCES_H
#define DATA_SOURCES_SOURCES_H

#include "data/sources/source_list.h"

/* Adds the files that `names` refer to, in order. LCKV_ERROR_FILE if a name does not exist or contains no data. */
int sources_add(const char *const *names, int count, source_list *out);

/* The weight in NAME:WEIGHT, which is above 0; *length is that of NAME. Returns 0 if there is no weight, or a file has
 * the whole name. */
double sources_weight(const char *name, size_t *length);

/* Finds the files of a data set: a file (for training), a folder, or ORG/NAME in the Hugging Face cache. `config_name`:
 * the config with this name in README.md. If README.md has no configs: only files in a folder with this name or, if
 * there is no such folder, with this word in their path. NULL: the default config, or all files. */
int sources_of_dataset(const char *name, const char *config_name, source_list *train, source_list *validation);

#endif
