/* A temporary folder: created below $TMPDIR (or /tmp), and removed with everything in it. */
#ifndef TESTS_TEMP_FOLDER_H
#define TESTS_TEMP_FOLDER_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 512 };

static inline bool temp_folder_create(char path[PATH_BYTES]) {
    const char *place = getenv("TMPDIR");
    snprintf(path, PATH_BYTES, "%s/lckv-test-XXXXXX", place ? place : "/tmp");
    return mkdtemp(path) != NULL;
}

static inline void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char inside[2 * PATH_BYTES];
        snprintf(inside, sizeof inside, "%.500s/%.500s", path, e->d_name);
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (remove(inside) < 0) remove_tree(inside);
    }
    if (dir) closedir(dir);
    remove(path);
}

#endif
