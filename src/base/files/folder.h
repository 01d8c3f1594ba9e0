/* Removing folders, and renaming them atomically. */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include "base/status.h"

/* Removes a folder with its contents. A missing folder is fine. */
int folder_remove(const char *path);

/* Removes temporary files (file.h) that killed processes left in a folder, if their name starts with `prefix` ("":
 * all). The caller must hold a lock against other writers of these files. */
int folder_sweep(const char *path, const char *prefix);

/* Renames a folder within one parent; durable when it returns. `to` must not exist, or be empty. */
int folder_move(const char *from, const char *to);

#endif
