/* Memory-mapped files, read-only and shared with other processes.
 *
 * If a mapped file is truncated, access to the missing part raises SIGBUS. The library installs no signal handlers, but
 * keeps a table of its mappings, so that a program's handler can name the file (lckv_mapped_file_at() in lckv.h). Small
 * files are read instead (file.h). */
#ifndef BASE_MAPPED_FILE_H
#define BASE_MAPPED_FILE_H

#include "base/files/file.h"

typedef struct mapped_file {
    const unsigned char *data; /* NULL when the file is empty */
    size_t bytes;
} mapped_file;

int file_map(const char *path, mapped_file *out);
/* The same for a file opened by file_open(); the caller keeps `fd`. */
int file_map_open(int fd, const char *path, size_t bytes, mapped_file *out);
void file_unmap(mapped_file *file);
/* After a part of a mapped file has been read: its pages no longer count as memory of this process. They remain in the
 * system's cache, and are mapped again if they are read again. */
void file_drop_pages(const void *data, size_t bytes);

#endif
