/* Writes several files of one folder together: all are written under temporary names first, then renamed one by one.
 *
 * Errors of the disk (full, quota, limits) therefore happen before the first rename. */
#ifndef IO_STAGING_H
#define IO_STAGING_H

#include "base/files/file.h"
#include "base/text/json.h"

typedef struct staging {
    const char *folder; /* the caller's */
    new_file *files;
    int count, capacity;
} staging;

/* Creates a file of the folder for writing; the staging owns it. */
int staging_begin(staging *s, const char *name, new_file **out);
int staging_add(staging *s, const char *name, const void *bytes, size_t count);
/* Adds JSON, indented by two; `flags` are jansson's. Takes ownership of `value`; NULL: there was no memory for it. */
int staging_json(staging *s, const char *name, json_t *value, size_t flags);
/* Copies the file from another folder, if it exists there and that is not this folder. */
int staging_copy(staging *s, const char *from_folder, const char *name);
/* Copies the files of a tokenizer (from a GGUF file: writes them), and its chat template unless `chat_template` (NULL:
 * none) has the template's text. */
int staging_tokenizer(staging *s, const char *from_folder, const char *chat_template);

/* Syncs all files, which still have temporary names. */
int staging_sync(staging *s);
/* Renames all files, in the order in which they were added. After a failure the earlier ones are renamed. */
int staging_commit(staging *s);
/* Removes files that were not committed. Does nothing after a commit. */
void staging_abandon(staging *s);

#endif
