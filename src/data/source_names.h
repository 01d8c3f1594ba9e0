/* What is said of names that stand for no data: where was looked, and what to do. */
#ifndef DATA_SOURCE_NAMES_H
#define DATA_SOURCE_NAMES_H

#include "base/status.h"

/* `name` is no data set here; returns LCKV_ERROR_FILE. `config_name`: as in sources_of_dataset(). */
int dataset_is_absent(const char *name, const char *config_name);

/* `name` is no file, folder or pattern; returns LCKV_ERROR_FILE. */
int source_is_absent(const char *name);

#endif
