/* Error messages for data that is not found: where lckv searched, and what to do. */
#ifndef DATA_SOURCES_SOURCE_NAMES_H
#define DATA_SOURCES_SOURCE_NAMES_H

#include "base/status.h"

/* For a data set; returns LCKV_ERROR_FILE. `config_name`: as in sources_of_dataset(). */
int dataset_is_absent(const char *name, const char *config_name);

/* For a file, folder or pattern; returns LCKV_ERROR_FILE. */
int source_is_absent(const char *name);

#endif
