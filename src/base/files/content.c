#include "base/files/content.h"

#include "base/files/file.h"

#include <string.h>
#include <unistd.h>

static const char POINTER[] = "version https://git-lfs.github.com/spec/";

int content_check(const char *path, const void *data, size_t bytes) {
    size_t length = sizeof POINTER - 1;
    REQUIRE(bytes < length || memcmp(data, POINTER, length) != 0, LCKV_ERROR_FORMAT,
            "%s is a Git LFS pointer, not the file itself: fetch the files with 'git lfs pull' in the clone, or the "
            "whole model with 'lckv fetch ORG/NAME' (a data set: with --repo_type dataset)",
            path);
    return LCKV_OK;
}

int content_check_file(const char *path) {
    char start[sizeof POINTER];
    int fd;
    size_t bytes;
    if (file_open(path, &fd, &bytes) < 0) return LCKV_OK; /* reading the file reports the error */
    ssize_t found = pread(fd, start, sizeof start, 0);
    close(fd);
    return content_check(path, start, found > 0 ? (size_t)found : 0);
}
