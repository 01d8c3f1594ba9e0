/* Files: read whole, and written so that a crash leaves the old file or the new one (DESIGN: errors and files).
 *
 * Leaves out: formats, mapping (mapped_file.h). Every error names the path. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/status.h"

#include <stdio.h>

/* Opens a regular file for reading and tells its size. Anything else (a folder, a pipe, a device) is LCKV_ERROR_FILE at
 * once: opening a pipe never waits for its writer. */
int file_open(const char *path, int *fd, size_t *bytes);
/* The next `bytes` of an open file; a file that ends before is an error. */
int file_read_open(int fd, const char *path, char *data, size_t bytes);

/* The whole file plus a NUL after it; release with free(). */
int file_read(const char *path, char **out, size_t *bytes);

bool file_exists(const char *path);
bool folder_exists(const char *path);
int folder_create(const char *path); /* parents too; one that exists is fine */

/* dir + "/" + name; release with free(). */
int path_join(const char *dir, const char *name, char **out);
/* The part after the last '/'. Points into `path`. */
const char *path_base(const char *path);

/* A file being written beside its target: PATH.RANDOM.partial until file_commit() syncs it and renames it over PATH.
 * RANDOM is 16 hexadecimal digits, so that any number of threads and processes may write one path at the same time:
 * each writes a file of its own, and the last one that commits stays. file_abandon() closes and removes what was begun;
 * harmless after a commit. */
enum { FILE_RANDOM_DIGITS = 16 };

typedef struct new_file {
    FILE *stream;
    char *path, *partial; /* `partial` is NULL where the target is written in place */
} new_file;

/* A target that exists and is no regular file (a folder, a pipe, a device) is LCKV_ERROR_FILE at once. Only the
 * program's own outputs (/dev/stdout, /dev/stderr, /dev/fd/N, /dev/null) are written in place. */
int file_begin(const char *path, new_file *out);
int file_commit(new_file *file); /* also on failure nothing stays behind */
void file_abandon(new_file *file);
int file_write(new_file *file, const void *bytes, size_t count);

/* Opens a log: a regular file, created where it is absent, for writing behind what it holds. Anything else is
 * LCKV_ERROR_FILE at once: opening a pipe never waits for its reader. */
int file_append(const char *path, FILE **out);

/* begin, write, commit in one. */
int file_replace(const char *path, const void *bytes, size_t count);
int file_copy(const char *from, const char *to);

/* A symbolic link to `target` that replaces whatever has the name `path`, as one step. */
int file_link(const char *target, const char *path);

#endif
