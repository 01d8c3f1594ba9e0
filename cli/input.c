#include "input.h"
#include "cli/output/output.h"
#include "lckv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_own_input(const char *path) {
    static const char *const OWN[] = {"/dev/stdin", "/dev/fd/", "/proc/self/fd/", "/dev/null"};
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++)
        if (!strncmp(path, OWN[i], strlen(OWN[i]))) return true;
    return false;
}

/* What a clone without Git LFS leaves in place of a large file. */
static bool is_lfs_pointer(int fd) {
    static const char BEGIN[] = "version https://git-lfs.github.com/spec/";
    char start[sizeof BEGIN];
    ssize_t found = pread(fd, start, sizeof BEGIN - 1, 0);
    return found == sizeof BEGIN - 1 && !memcmp(start, BEGIN, sizeof BEGIN - 1);
}

FILE *open_input(const char *path, char why[INPUT_REASON_BYTES]) {
    struct stat info;
    bool own = is_own_input(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | (own ? 0 : O_NONBLOCK));
    if (fd < 0 || fstat(fd, &info)) {
        snprintf(why, INPUT_REASON_BYTES, "%s", strerror(errno));
    } else if (!own && !S_ISREG(info.st_mode)) {
        snprintf(why, INPUT_REASON_BYTES, "it is %s, not a regular file%s",
                 S_ISDIR(info.st_mode) ? "a folder" : "a pipe or a device",
                 S_ISFIFO(info.st_mode) ? "; name /dev/stdin and redirect it there" : "");
    } else if (S_ISREG(info.st_mode) && is_lfs_pointer(fd)) {
        snprintf(why, INPUT_REASON_BYTES,
                 "it is a Git LFS pointer, not the file itself: fetch it with 'git lfs pull' in the clone");
    } else {
        FILE *file = fdopen(fd, "rb");
        if (file) return file;
        snprintf(why, INPUT_REASON_BYTES, "%s", strerror(errno));
    }
    if (fd >= 0) close(fd);
    return NULL;
}

ssize_t read_line(const char *command, const char *path, FILE *stream, char **line, size_t *capacity, int *code) {
    errno = 0;
    ssize_t bytes = getline(line, capacity, stream);
    if (bytes >= 0 || feof(stream) || errno == EINTR) return bytes;
    const char *why = strerror(errno ? errno : EIO);
    *code = path ? failure(command, "cannot read '%s': %s", path, why)
                 : failure(command, "cannot read standard input: %s", why);
    return -1;
}

char *read_input(const char *path, size_t limit, size_t *bytes, char why[INPUT_REASON_BYTES]) {
    FILE *file = open_input(path, why);
    if (!file) return NULL;
    size_t capacity = 1 << 16, length = 0, got;
    char *text = need(malloc(capacity + 1));
    while ((got = fread(text + length, 1, capacity - length, file)) > 0 && length <= limit) {
        length += got;
        if (length < capacity) continue;
        capacity *= 2;
        text = need(realloc(text, capacity + 1));
    }
    int error = ferror(file) ? errno : 0;
    fclose(file);
    text[length] = '\0';
    *bytes = length;
    if (!error && length <= limit) return text;
    free(text);
    if (error)
        snprintf(why, INPUT_REASON_BYTES, "%s", strerror(error));
    else
        snprintf(why, INPUT_REASON_BYTES, "it has more than %zu bytes", limit);
    return NULL;
}

json_t *parse_json(const char *text, size_t length, size_t flags, json_error_t *error) {
    if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, length -= 3; /* a byte order mark */
    if (lckv_check_json(text, length) >= 0) return json_loadb(text, length, flags, error);
    if (!error) return NULL;
    *error = (json_error_t){.line = 1};
    snprintf(error->text, sizeof error->text, "%s", lckv_last_error());
    return NULL;
}
