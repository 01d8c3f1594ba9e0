/* checksums.json of a checkpoint: sizes and checksums of its files, which are checked before anything is loaded. */
#ifndef TRAIN_CHECKPOINT_MANIFEST_H
#define TRAIN_CHECKPOINT_MANIFEST_H

#include "base/status.h"

/* Writes the sizes and checksums (CRC-64/XZ) of the files in `folder`. */
int manifest_write(const char *folder);

/* Fails with the name of the first file that is missing (LCKV_ERROR_FILE) or has changed (LCKV_ERROR_FORMAT). */
int manifest_check(const char *folder);

#endif
