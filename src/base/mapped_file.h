/* Mapped files: read where they lie on disk, shared with other processes.
 *
 * A mapped file must not become shorter: the next access to the part that is gone raises SIGBUS. The library installs
 * no signal handlers; it keeps a table of its mappings, so that a program's handler can say which file it was
 * (lckv_mapped_file_at() in lckv.h). Small files are read instead (file.h). */
#ifndef BASE_MAPPED_FILE_H
#define BASE_MAPPED_FILE_H

#include "base/file.h"

typedef struct mapped_file {
    const unsigned char *data; /* NULL when the file is empty */
    size_t bytes;
} mapped_file;

int file_map(const char *path, mapped_file *out);
/* The same of a file that file_open() opened; `fd` stays the caller's. */
int file_map_open(int fd, const char *path, size_t bytes, mapped_file *out);
void file_unmap(mapped_file *file);

#endif
