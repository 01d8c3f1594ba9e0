/* Files that hold something else than their name says. */
#ifndef BASE_CONTENT_H
#define BASE_CONTENT_H

#include "base/status.h"

/* LCKV_ERROR_FORMAT where the first `bytes` of the file `path` are a Git LFS pointer: a few lines that a clone without
 * Git LFS leaves in place of a large file. */
int content_check(const char *path, const void *data, size_t bytes);

/* The same, of a file that is not read otherwise; one that cannot be read is fine. */
int content_check_file(const char *path);

#endif
