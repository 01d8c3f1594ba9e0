/* Whole folders: removed, and moved so that a crash leaves one name or the other. */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include "base/status.h"

/* With everything in it. One that is not there is fine. */
int folder_remove(const char *path);

/* Removes the temporary files (file.h) whose name begins with `prefix` ("": all of them) that killed processes left in
 * a folder. The caller holds a lock that keeps other writers of these files away. */
int folder_sweep(const char *path, const char *prefix);

/* Renames within one parent; durable when it returns. `to` is not there, or is empty. */
int folder_move(const char *from, const char *to);

#endif
