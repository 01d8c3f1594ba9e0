/* Files: see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_fail(const char *what, const char *path) {
    return fail(LCKV_ERROR_FILE, "cannot %s '%s': %s", what, path, strerror(errno));
}

/* Opens a regular file and tells its size; folders and pipes are refused, since they have none. */
static int open_regular(const char *path, int *out, size_t *bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_fail("open", path);
    struct stat info;
    int status = LCKV_OK;
    if (fstat(fd, &info) < 0)
        status = file_fail("read the size of", path);
    else if (!S_ISREG(info.st_mode))
        status = fail(LCKV_ERROR_FILE, "'%s' is not a regular file", path);
    if (status < 0) {
        close(fd);
        return status;
    }
    *out = fd;
    *bytes = (size_t)info.st_size;
    return LCKV_OK;
}

int file_map(const char *path, mapped_file *out) {
    *out = (mapped_file){0};
    int fd;
    size_t bytes;
    TRY(open_regular(path, &fd, &bytes));
    void *data = bytes ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    close(fd);
    if (data == MAP_FAILED) return file_fail("map", path);
    *out = (mapped_file){data, bytes};
    return LCKV_OK;
}

void file_unmap(mapped_file *file) {
    if (file->data) munmap((void *)(uintptr_t)file->data, file->bytes);
    *file = (mapped_file){0};
}

static int read_fully(int fd, const char *path, char *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = read(fd, data + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return file_fail("read", path);
        if (got == 0) return fail(LCKV_ERROR_FILE, "'%s' ended after %zu of %zu bytes", path, done, bytes);
        done += (size_t)got;
    }
    data[bytes] = 0;
    return LCKV_OK;
}

int file_read(const char *path, char **out, size_t *bytes) {
    *out = NULL;
    int fd;
    TRY(open_regular(path, &fd, bytes));
    char *data = malloc(*bytes + 1);
    int status = data ? read_fully(fd, path, data, *bytes)
                      : fail(LCKV_ERROR_MEMORY, "no memory for the %zu bytes of '%s'", *bytes, path);
    close(fd);
    if (status < 0)
        free(data);
    else
        *out = data;
    return status;
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool folder_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int folder_create(const char *path) {
    char *copy = strdup(path);
    REQUIRE(copy, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = LCKV_OK;
    for (char *slash = copy + 1; *copy && status >= 0; slash++) {
        if (*slash && *slash != '/') continue;
        char kept = *slash;
        *slash = 0;
        if (mkdir(copy, 0777) < 0 && !folder_exists(copy)) status = file_fail("create the folder", copy);
        *slash = kept;
        if (!kept) break;
    }
    free(copy);
    return status;
}

int path_join(const char *dir, const char *name, char **out) {
    size_t length = strlen(dir), bytes = length + strlen(name) + 2;
    *out = malloc(bytes);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path of %zu bytes", bytes);
    const char *between = length && dir[length - 1] == '/' ? "" : "/";
    snprintf(*out, bytes, "%s%s%s", dir, between, name);
    return LCKV_OK;
}

const char *path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int file_begin(const char *path, new_file *out) {
    *out = (new_file){0};
    size_t bytes = strlen(path) + sizeof ".partial";
    out->path = strdup(path);
    out->partial = malloc(bytes);
    if (!out->path || !out->partial) {
        file_abandon(out);
        return fail(LCKV_ERROR_MEMORY, "no memory for a path of %zu bytes", bytes);
    }
    snprintf(out->partial, bytes, "%s.partial", path);
    out->stream = fopen(out->partial, "wbe");
    if (out->stream) return LCKV_OK;
    int status = file_fail("create", out->partial);
    file_abandon(out);
    return status;
}

int file_write(new_file *file, const void *bytes, size_t count) {
    if (count && fwrite(bytes, 1, count, file->stream) != count) return file_fail("write", file->partial);
    return LCKV_OK;
}

/* The rename is durable only once the folder that holds the name is synced too. */
static void sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd); /* best effort: some file systems refuse to sync a folder */
        close(fd);
    }
    free(folder);
}

int file_commit(new_file *file) {
    int status = LCKV_OK;
    if (fflush(file->stream) || fsync(fileno(file->stream))) status = file_fail("write", file->partial);
    if (fclose(file->stream) && status >= 0) status = file_fail("close", file->partial);
    file->stream = NULL;
    if (status >= 0 && rename(file->partial, file->path) < 0) status = file_fail("rename into place", file->path);
    if (status >= 0) {
        sync_folder_of(file->path);
        free(file->partial);
        file->partial = NULL;
    }
    file_abandon(file);
    return status;
}

void file_abandon(new_file *file) {
    if (file->stream) fclose(file->stream);
    if (file->partial) unlink(file->partial);
    free(file->path);
    free(file->partial);
    *file = (new_file){0};
}

int file_replace(const char *path, const void *bytes, size_t count) {
    new_file file;
    TRY(file_begin(path, &file));
    int status = file_write(&file, bytes, count);
    if (status < 0) {
        file_abandon(&file);
        return status;
    }
    return file_commit(&file);
}

int file_copy(const char *from, const char *to) {
    char *data;
    size_t bytes;
    TRY(file_read(from, &data, &bytes));
    int status = file_replace(to, data, bytes);
    free(data);
    return status;
}
