/* Files: read whole, mapped, and written so that a crash leaves the old file or the new one (DESIGN: errors and files).
 *
 * Leaves out: formats. Every error names the path. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/status.h"

#include <stdio.h>

typedef struct mapped_file {
    const unsigned char *data; /* NULL when the file is empty */
    size_t bytes;
} mapped_file;

int file_map(const char *path, mapped_file *out); /* read only; pages are shared with other processes */
void file_unmap(mapped_file *file);

/* The whole file plus a NUL after it; release with free(). */
int file_read(const char *path, char **out, size_t *bytes);

bool file_exists(const char *path);
bool folder_exists(const char *path);
int folder_create(const char *path); /* parents too; one that exists is fine */

/* dir + "/" + name; release with free(). */
int path_join(const char *dir, const char *name, char **out);
/* The part after the last '/'. Points into `path`. */
const char *path_base(const char *path);

/* A file being written beside its target: PATH.partial until file_commit() syncs it and renames it over PATH.
 * file_abandon() closes and removes what was begun; harmless after a commit. */
typedef struct new_file {
    FILE *stream;
    char *path, *partial;
} new_file;

int file_begin(const char *path, new_file *out);
int file_commit(new_file *file); /* also on failure nothing stays behind */
void file_abandon(new_file *file);
int file_write(new_file *file, const void *bytes, size_t count);

/* begin, write, commit in one. */
int file_replace(const char *path, const void *bytes, size_t count);
int file_copy(const char *from, const char *to);

#endif
