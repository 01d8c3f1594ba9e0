/* Detects files whose content does not match their name. */
#ifndef BASE_CONTENT_H
#define BASE_CONTENT_H

#include "base/status.h"

/* LCKV_ERROR_FORMAT if the first `bytes` of the file `path` are a Git LFS pointer: the few lines that a clone without
 * Git LFS has in place of a large file. */
int content_check(const char *path, const void *data, size_t bytes);

/* The same for a file that has not been read. A file that cannot be read passes. */
int content_check_file(const char *path);

#endif
