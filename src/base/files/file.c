/* Files; see file.h. */
#include "base/files/file.h"

#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_fail(const char *what, const char *path) {
    return fail(LCKV_ERROR_FILE, "cannot %s '%s': %s", what, path, strerror(errno));
}

/* Describes a file that is not a regular file. */
static const char *kind_of_file(mode_t mode) {
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a named pipe or a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

static int check_regular(const struct stat *info, const char *path) {
    REQUIRE(S_ISREG(info->st_mode), LCKV_ERROR_FILE, "'%s' is not a regular file: it is %s", path,
            kind_of_file(info->st_mode));
    return LCKV_OK;
}

/* A broken link, for example to a blob of the hub's cache that was deleted. */
static int check_link(const char *path) {
    struct stat info;
    bool broken = errno == ENOENT && lstat(path, &info) == 0;
    REQUIRE(!broken, LCKV_ERROR_FILE, "cannot open '%s': it is a symbolic link to a file that does not exist", path);
    return LCKV_OK;
}

/* Calls stat() first, because opening a device or a socket may have side effects or fail with an unhelpful message.
 * Uses O_NONBLOCK, because the path may have become a named pipe in between, and open() would wait for a writer. */
int file_open(const char *path, int *out, size_t *bytes) {
    struct stat info;
    *out = -1;
    if (stat(path, &info) == 0)
        TRY(check_regular(&info, path));
    else
        TRY(check_link(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return file_fail("open", path);
    int status = fstat(fd, &info) < 0 ? file_fail("read the size of", path) : check_regular(&info, path);
    if (status < 0) {
        close(fd);
        return status;
    }
    *out = fd;
    *bytes = (size_t)info.st_size;
    return LCKV_OK;
}

int file_read_open(int fd, const char *path, char *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = read(fd, data + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return file_fail("read", path);
        if (got == 0) return fail(LCKV_ERROR_FILE, "'%s' ended after %zu of %zu bytes", path, done, bytes);
        done += (size_t)got;
    }
    return LCKV_OK;
}

int file_read(const char *path, char **out, size_t *bytes) {
    *out = NULL;
    int fd;
    TRY(file_open(path, &fd, bytes));
    char *data = malloc(*bytes + 1);
    int status = data ? file_read_open(fd, path, data, *bytes)
                      : fail(LCKV_ERROR_MEMORY, "no memory for the %zu bytes of '%s'", *bytes, path);
    close(fd);
    if (status < 0) {
        free(data);
    } else {
        data[*bytes] = 0;
        *out = data;
    }
    return status;
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool path_exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

bool folder_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int create_one(const char *path) {
    if (mkdir(path, 0777) == 0) return LCKV_OK;
    const char *why = errno == EEXIST ? "a file has this name" : strerror(errno);
    REQUIRE(folder_exists(path), LCKV_ERROR_FILE, "cannot create the folder '%s': %s", path, why);
    return LCKV_OK;
}

int folder_create(const char *path) {
    REQUIRE(*path, LCKV_ERROR_FILE, "cannot create a folder: its name is empty");
    char *copy = strdup(path);
    REQUIRE(copy, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = LCKV_OK;
    for (char *slash = copy + 1; status >= 0; slash++) {
        if (*slash && *slash != '/') continue;
        char separator = *slash;
        *slash = 0;
        status = create_one(copy);
        *slash = separator;
        if (!separator) break;
    }
    free(copy);
    return status;
}

int folder_create_parent(const char *path) {
    const char *end = strrchr(path, '/');
    if (!end || end == path) return LCKV_OK;
    char *folder = strndup(path, (size_t)(end - path));
    REQUIRE(folder, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = folder_create(folder);
    free(folder);
    return status;
}

int path_join(const char *dir, const char *name, char **out) {
    size_t length = strlen(dir), bytes = length + strlen(name) + 2;
    *out = malloc(bytes);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path of %zu bytes", bytes);
    const char *separator = length && dir[length - 1] == '/' ? "" : "/";
    snprintf(*out, bytes, "%s%s%s", dir, separator, name);
    return LCKV_OK;
}

const char *path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Bytes of the target's name in the name of the temporary file, which would otherwise be too long for the file system
 * if the target's name has the maximum length. Random hexadecimal digits make the temporary name unique among threads,
 * processes and machines; O_EXCL guarantees it. */
enum { PARTIAL_NAME_BYTES = 200 };

static void name_partial(const char *path, char *out, size_t bytes) {
    int folder = (int)(path_base(path) - path);
    snprintf(out, bytes, "%.*s%.*s.%016llx.partial", folder, path, PARTIAL_NAME_BYTES, path + folder,
             (unsigned long long)rng_entropy());
}

static int open_partial(new_file *file, const char *path, size_t bytes) {
    int fd;
    do {
        name_partial(path, file->partial, bytes);
        fd = open(file->partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EEXIST);
    if (fd >= 0) file->stream = fdopen(fd, "wb");
    if (file->stream) return LCKV_OK;
    int status = file_fail("create", file->partial);
    if (fd >= 0)
        close(fd);
    else
        file->partial[0] = 0; /* open() failed: there is no file of ours to remove */
    return status;
}

/* A new descriptor of one of the program's own outputs; -1: the path names none that is open. */
static int open_own_output(const char *path) {
    static const char *const FOLDERS[] = {"/dev/fd/", "/proc/self/fd/"};
    if (!strcmp(path, "/dev/null")) return open(path, O_WRONLY | O_CLOEXEC);
    if (!strcmp(path, "/dev/stdout")) return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    if (!strcmp(path, "/dev/stderr")) return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        size_t length = strlen(FOLDERS[i]);
        if (strncmp(path, FOLDERS[i], length) != 0 || !path[length]) continue;
        char *end;
        long fd = strtol(path + length, &end, 10);
        return *end || fd < 0 || fd > INT_MAX ? -1 : fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
    }
    return -1;
}

/* What a rename would replace. */
static int check_target(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? check_regular(&info, path) : LCKV_OK;
}

static int begin_beside(new_file *file, const char *path) {
    size_t bytes = strlen(path) + FILE_RANDOM_DIGITS + sizeof "..partial";
    TRY(check_target(path));
    file->partial = malloc(bytes);
    REQUIRE(file->partial, LCKV_ERROR_MEMORY, "no memory for a path of %zu bytes", bytes);
    return open_partial(file, path, bytes);
}

static int begin_in_place(new_file *file, int fd) {
    file->stream = fdopen(fd, "wb");
    if (file->stream) return LCKV_OK;
    close(fd);
    return file_fail("write", file->path);
}

int file_begin(const char *path, new_file *out) {
    *out = (new_file){0};
    REQUIRE(*path, LCKV_ERROR_FILE, "cannot create a file: its name is empty");
    out->path = strdup(path);
    REQUIRE(out->path, LCKV_ERROR_MEMORY, "no memory for a path of %zu bytes", strlen(path));
    int fd = open_own_output(path), status = fd >= 0 ? begin_in_place(out, fd) : begin_beside(out, path);
    if (status < 0) file_abandon(out);
    return status;
}

int file_append(const char *path, FILE **out) {
    struct stat info;
    *out = NULL;
    TRY(check_target(path));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0) return file_fail("write", path);
    int status = fstat(fd, &info) < 0 ? file_fail("write", path) : check_regular(&info, path);
    if (status >= 0 && !(*out = fdopen(fd, "ab"))) status = file_fail("write", path);
    if (status < 0) close(fd);
    return status;
}

int file_link(const char *target, const char *path) {
    size_t bytes = strlen(path) + FILE_RANDOM_DIGITS + sizeof "..partial";
    char *partial = malloc(bytes);
    REQUIRE(partial, LCKV_ERROR_MEMORY, "no memory for a path of %zu bytes", bytes);
    name_partial(path, partial, bytes);
    int status = symlink(target, partial) < 0 ? file_fail("create the link", partial) : LCKV_OK;
    if (status >= 0 && rename(partial, path) < 0) {
        status = file_fail("create the link", path);
        unlink(partial);
    }
    free(partial);
    return status;
}

int file_write(new_file *file, const void *bytes, size_t count) {
    if (count && fwrite(bytes, 1, count, file->stream) != count)
        return file_fail("write", file->partial ? file->partial : file->path);
    return LCKV_OK;
}

void file_sync_parent(const char *path) {
    char *parent = strndup(path, (size_t)(path_base(path) - path));
    int fd = parent ? open(*parent ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(parent);
}

int file_commit(new_file *file) {
    int status = LCKV_OK;
    const char *name = file->partial ? file->partial : file->path;
    if (fflush(file->stream) || (file->partial && fsync(fileno(file->stream)))) status = file_fail("write", name);
    if (fclose(file->stream) && status >= 0) status = file_fail("close", name);
    file->stream = NULL;
    if (status >= 0 && file->partial && rename(file->partial, file->path) < 0)
        status = file_fail("rename into place", file->path);
    if (status >= 0 && file->partial) {
        file_sync_parent(file->path);
        free(file->partial);
        file->partial = NULL;
    }
    file_abandon(file);
    return status;
}

void file_abandon(new_file *file) {
    if (file->stream) fclose(file->stream);
    if (file->partial && *file->partial) unlink(file->partial);
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

int lckv_write_file(const char *path, const void *bytes, size_t count) {
    REQUIRE(path && (bytes || !count), LCKV_ERROR_ARGUMENT, "lckv_write_file: expected a path and bytes, found NULL");
    return file_replace(path, bytes, count);
}

int lckv_create_folder(const char *path) {
    REQUIRE(path && *path, LCKV_ERROR_ARGUMENT, "lckv_create_folder: expected a path, found %s",
            path ? "\"\"" : "NULL");
    return folder_create(path);
}
