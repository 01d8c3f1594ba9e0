/* Files of one folder that appear together: all are written beside their targets first, then renamed one by one.
 *
 * What can go wrong with a disk (full, quota, limits) goes wrong while nothing has been renamed. */
#ifndef IO_STAGING_H
#define IO_STAGING_H

#include "base/file.h"
#include "base/json.h"

typedef struct staging {
    const char *folder; /* the caller's */
    new_file *files;
    int count, capacity;
} staging;

/* A new file of the folder to write into; it stays the staging's. */
int staging_begin(staging *s, const char *name, new_file **out);
int staging_add(staging *s, const char *name, const void *bytes, size_t count);
/* Indented by two; `flags` are jansson's. `value` (NULL: there was no memory for it) is the function's. */
int staging_json(staging *s, const char *name, json_t *value, size_t flags);
/* The file of that name from another folder; nothing where it has none, or is this folder. */
int staging_copy(staging *s, const char *from_folder, const char *name);
/* The files of a tokenizer and its chat template, those that there are; or this text as the template. */
int staging_tokenizer(staging *s, const char *from_folder, const char *chat_template);

/* Everything is on disk, under its temporary name. */
int staging_sync(staging *s);
/* Renames all, in the order of their beginning. After a failure those before it are in place. */
int staging_commit(staging *s);
/* Removes what was not committed. Harmless after a commit. */
void staging_abandon(staging *s);

#endif
