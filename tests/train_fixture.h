/* A folder of its own for each test of training, and files in it. */
#ifndef TESTS_TRAIN_FIXTURE_H
#define TESTS_TRAIN_FIXTURE_H

#include "base/file.h"

#include "expect.h"

#include <dirent.h>
#include <math.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

typedef struct room {
    char folder[PATH_BYTES];
    char *paths[256]; /* that were asked for */
    int path_count;
} room;

static inline int room_open(void **state) {
    room *r = calloc(1, sizeof *r);
    const char *place = getenv("TMPDIR");
    snprintf(r->folder, sizeof r->folder, "%s/lckv-train-XXXXXX", place ? place : "/tmp");
    if (!mkdtemp(r->folder)) return -1;
    *state = r;
    return 0;
}

static inline void remove_tree(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *e; folder && (e = readdir(folder));) {
        char inside[2 * PATH_BYTES];
        snprintf(inside, sizeof inside, "%.500s/%.500s", path, e->d_name);
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (remove(inside) < 0) remove_tree(inside);
    }
    if (folder) closedir(folder);
    remove(path);
}

static inline int room_close(void **state) {
    room *r = *state;
    remove_tree(r->folder);
    for (int i = 0; i < r->path_count; i++) free(r->paths[i]);
    free(r);
    return 0;
}

/* A path in the test's folder, valid until the test ends. */
static inline const char *room_path(room *r, const char *name) {
    char **path = &r->paths[r->path_count++];
    if (r->path_count > (int)(sizeof r->paths / sizeof *r->paths)) fail_msg("a test asked for too many paths");
    OK(path_join(r->folder, name, path));
    return *path;
}

static inline const char *room_write(room *r, const char *name, const char *text, size_t bytes) {
    const char *path = room_path(r, name);
    OK(file_replace(path, text, bytes));
    return path;
}

static inline const char *room_file(room *r, const char *name, const char *text) {
    return room_write(r, name, text, strlen(text));
}

#define ROOM_TEST(function) cmocka_unit_test_setup_teardown(function, room_open, room_close)

#endif
