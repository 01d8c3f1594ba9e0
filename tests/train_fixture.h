/* A temporary folder for each test of training, and files in it. */
#ifndef TESTS_TRAIN_FIXTURE_H
#define TESTS_TRAIN_FIXTURE_H

#include "base/file.h"

#include "expect.h"
#include "temp_folder.h"

#include <math.h>
#include <unistd.h>

typedef struct room {
    char folder[PATH_BYTES];
    char *paths[256]; /* returned by room_path() */
    int path_count;
} room;

static inline int room_open(void **state) {
    room *r = calloc(1, sizeof *r);
    if (!temp_folder_create(r->folder)) return -1;
    *state = r;
    return 0;
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
    if (r->path_count > (int)(sizeof r->paths / sizeof *r->paths)) fail_msg("a test uses more than 256 paths");
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
