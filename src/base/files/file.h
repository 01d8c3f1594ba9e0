/* Files: reading whole files, and atomic writing, so that a crash leaves either the old or the new file.
 *
 * Mapped files are in mapped_file.h. Every error names the path. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/status.h"

#include <stdio.h>

/* Opens a regular file for reading and returns its size. Anything else (a folder, a pipe, a device) is LCKV_ERROR_FILE
 * immediately; a pipe never blocks. */
int file_open(const char *path, int *fd, size_t *bytes);
/* Reads the next `bytes` of an open file; a shorter file is an error. */
int file_read_open(int fd, const char *path, char *data, size_t bytes);

/* Reads the whole file and appends a NUL; release with free(). */
int file_read(const char *path, char **out, size_t *bytes);

bool file_exists(const char *path); /* a regular file */
bool path_exists(const char *path); /* anything, also a broken link, which cannot be opened */
bool folder_exists(const char *path);
int folder_create(const char *path);        /* creates parents too; an existing folder is fine */
int folder_create_parent(const char *path); /* the folder of a file, likewise */

/* dir + "/" + name; release with free(). */
int path_join(const char *dir, const char *name, char **out);
/* The part after the last '/'. Points into `path`. */
const char *path_base(const char *path);

/* A file being written: PATH.RANDOM.partial until file_commit() syncs it and renames it to PATH. RANDOM is 16
 * hexadecimal digits, so that several threads and processes can write the same path: each has its own temporary file,
 * and the last commit wins. file_abandon() closes and removes the temporary file; it does nothing after a commit. */
enum { FILE_RANDOM_DIGITS = 16 };

typedef struct new_file {
    FILE *stream;
    char *path, *partial; /* `partial` is NULL if the target is written in place */
} new_file;

/* A target that exists and is not a regular file (a folder, a pipe, a device) is LCKV_ERROR_FILE. Only /dev/stdout,
 * /dev/stderr, /dev/fd/N and /dev/null are written in place. */
int file_begin(const char *path, new_file *out);
int file_commit(new_file *file); /* removes the temporary file on failure */
void file_abandon(new_file *file);
int file_write(new_file *file, const void *bytes, size_t count);

/* Opens a log for appending: a regular file, created if it does not exist. Anything else is LCKV_ERROR_FILE;
 * a pipe never blocks. */
int file_append(const char *path, FILE **out);

/* Begin, write and commit in one call. */
int file_replace(const char *path, const void *bytes, size_t count);
int file_copy(const char *from, const char *to);

/* Syncs the parent folder of a path, after which a rename to that path is durable. Best effort: some file systems
 * refuse to sync a folder. */
void file_sync_parent(const char *path);

/* Atomically replaces `path` by a symbolic link to `target`. */
int file_link(const char *target, const char *path);

#endif
