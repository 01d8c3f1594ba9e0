/* A temporary folder for each test of files. Includes cmocka, after the project's headers. */
#ifndef TESTS_FOLDER_FIXTURE_H
#define TESTS_FOLDER_FIXTURE_H

#include "base/files/file.h"

#include "expect.h"
#include "temp_folder.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct folder {
    char path[PATH_BYTES];
} folder;

static inline int folder_open(void **state) {
    folder *f = calloc(1, sizeof *f);
    *state = f;
    return temp_folder_create(f->path) ? 0 : -1;
}

/* A path of the test; in() adds it, folder_close() frees it. */
typedef struct test_path {
    struct test_path *next;
    char text[];
} test_path;
static test_path *test_paths;

static inline int folder_close(void **state) {
    folder *f = *state;
    remove_tree(f->path);
    free(f);
    for (test_path *next; test_paths; test_paths = next) {
        next = test_paths->next;
        free(test_paths);
    }
    return 0;
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_open, folder_close)

/* A path in the folder; valid until the test ends. */
static inline const char *in(const folder *f, const char *name) {
    size_t bytes = strlen(f->path) + strlen(name) + 2;
    test_path *path = malloc(sizeof *path + bytes);
    snprintf(path->text, bytes, "%s/%s", f->path, name);
    path->next = test_paths;
    test_paths = path;
    return path->text;
}

static inline void put(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static inline void put_text(const char *path, const char *text) {
    put(path, text, strlen(text));
}

/* Write a file in the folder and return its path. */
static inline const char *put_in(const folder *f, const char *name, const void *bytes, size_t count) {
    const char *path = in(f, name);
    put(path, bytes, count);
    return path;
}

static inline const char *put_text_in(const folder *f, const char *name, const char *text) {
    return put_in(f, name, text, strlen(text));
}

/* Reads a file; release with free(). */
static inline char *get(const char *path, size_t *count) {
    char *bytes;
    OK(file_read(path, &bytes, count));
    return bytes;
}

static inline void assert_same_bytes(const char *left, const char *right) {
    size_t a, b;
    char *x = get(left, &a), *y = get(right, &b);
    assert_int_equal(a, b);
    assert_memory_equal(x, y, a);
    free(x);
    free(y);
}

static inline void assert_file_says(const char *path, const char *part) {
    size_t count;
    char *text = get(path, &count);
    if (!strstr(text, part)) fail_msg("%s does not say %s: %s", path, part, text);
    free(text);
}

static inline int files_in(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) count += e->d_name[0] != '.';
    if (dir) closedir(dir);
    return count;
}

#endif
