#include "base/content.h"

#include <stdio.h>
#include <string.h>

static const char POINTER[] = "version https://git-lfs.github.com/spec/";

int content_check(const char *path, const void *data, size_t bytes) {
    size_t length = sizeof POINTER - 1;
    REQUIRE(bytes < length || memcmp(data, POINTER, length) != 0, LCKV_ERROR_FORMAT,
            "%s is a Git LFS pointer, not the file itself: fetch the files with 'git lfs pull' in the clone, or the "
            "whole model with 'lckv fetch ORG/NAME'",
            path);
    return LCKV_OK;
}

int content_check_file(const char *path) {
    char start[sizeof POINTER];
    FILE *file = fopen(path, "rb");
    size_t bytes = file ? fread(start, 1, sizeof start, file) : 0;
    if (file) fclose(file);
    return content_check(path, start, bytes);
}
