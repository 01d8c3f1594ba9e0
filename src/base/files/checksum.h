/* CRC-64/XZ (ECMA-182, reflected). Detects accidental damage of files, not tampering. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include "base/status.h"

/* Extends the checksum `sum` (0 at the start) by these bytes. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t count);

/* The checksum and the size of a file. */
int checksum_file(const char *path, uint64_t *sum, size_t *bytes);

#endif
