/* checksums.json: what a folder holds, so that damage is found before anything of it is used. */
#ifndef TRAIN_CHECKPOINT_MANIFEST_H
#define TRAIN_CHECKPOINT_MANIFEST_H

#include "base/status.h"

/* Writes sizes and checksums (CRC-64/XZ) of the files in `folder`, which are all on disk. */
int manifest_write(const char *folder);

/* LCKV_ERROR_FORMAT or LCKV_ERROR_FILE naming the first file that is not as it was written. */
int manifest_check(const char *folder);

#endif
