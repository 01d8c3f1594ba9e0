/* Files of one folder that appear together: all are written beside their targets first, then renamed one by one.
 *
 * What can go wrong with a disk (full, quota, limits) goes wrong while nothing has been renamed. */
#ifndef IO_STAGING_H
#define IO_STAGING_H

#include "base/file.h"

typedef struct staging {
    const char *folder; /* the caller's */
    new_file *files;
    int count, capacity;
} staging;

/* A new file of the folder to write into; it stays the staging's. */
int staging_begin(staging *s, const char *name, new_file **out);
int staging_add(staging *s, const char *name, const void *bytes, size_t count);
/* The file of that name from another folder; nothing where it has none, or is this folder. */
int staging_copy(staging *s, const char *from_folder, const char *name);

/* Everything is on disk, under its temporary name. */
int staging_sync(staging *s);
/* Renames all, in the order of their beginning. After a failure those before it are in place. */
int staging_commit(staging *s);
/* Removes what was not committed. Harmless after a commit. */
void staging_abandon(staging *s);

#endif
