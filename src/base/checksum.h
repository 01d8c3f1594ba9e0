/* CRC-64/XZ (ECMA-182, reflected): finds damage in files, is no defence against anyone who means it. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include "base/status.h"

/* The checksum of what `sum` is the checksum of (0: of nothing), followed by these bytes. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t count);

/* Of a whole file, and its size. */
int checksum_file(const char *path, uint64_t *sum, size_t *bytes);

#endif
