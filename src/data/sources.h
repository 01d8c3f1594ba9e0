/* The files of a corpus, from the names that people give: files, folders, patterns, and data sets.
 *
 * A folder stands for all files in it and below whose names say what they hold (documents.h), in the order of their
 * paths; hidden ones are passed over. A pattern (*, ?, [...]) stands for the files and folders that match, likewise.
 *
 * The files of a data set belong to parts as its README.md says (dataset_card.h). Where that says nothing, their names
 * do: one with the word "train" or "training" in its path, below the folder, to the training part; "validation",
 * "valid", "val" or "dev" to the validation part; "test", "testing", "eval" or "evaluation" to neither (the words of
 * the datasets library). Where no path has any of these words, all files are for training. Leaves out: what is in the
 * files. */
#ifndef DATA_SOURCES_H
#define DATA_SOURCES_H

#include "data/source_list.h"

/* Adds what `names` stand for, in their order. LCKV_ERROR_FILE: there is nothing of one's name, or no data in it. */
int sources_add(const char *const *names, int count, source_list *out);

/* The weight behind a name, NAME:WEIGHT, above 0; *length: of the name without it. 0: there is none, or a file has this
 * whole name. */
double sources_weight(const char *name, size_t *length);

/* The parts of a data set: a file (for training), a folder, or ORG/NAME in the Hugging Face cache. `config_name`: the
 * config of this name in the README.md. Where that lists none: only files in folders of this name or, where there is
 * none, with this word in their path. NULL: the default config, or all files. */
int sources_of_dataset(const char *name, const char *config_name, source_list *train, source_list *validation);

#endif
