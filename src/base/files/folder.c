/* Folders; see folder.h. */
#include "base/files/folder.h"

#include "base/files/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int remove_entries(const char *path, DIR *folder) {
    for (struct dirent *entry; (entry = readdir(folder));) {
        char *inside;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        TRY(path_join(path, entry->d_name, &inside));
        int status = unlink(inside) < 0 ? folder_remove(inside) : LCKV_OK; /* a link is unlinked, never followed */
        free(inside);
        TRY(status);
    }
    return LCKV_OK;
}

int folder_remove(const char *path) {
    DIR *folder = opendir(path);
    if (!folder && errno == ENOENT) return LCKV_OK;
    REQUIRE(folder, LCKV_ERROR_FILE, "cannot remove '%s': %s", path, strerror(errno));
    int status = remove_entries(path, folder);
    closedir(folder);
    TRY(status);
    REQUIRE(rmdir(path) == 0, LCKV_ERROR_FILE, "cannot remove '%s': %s", path, strerror(errno));
    return LCKV_OK;
}

/* Whether a name has the form NAME.0123456789abcdef.partial. */
static bool is_temporary(const char *name, const char *prefix) {
    static const char ENDING[] = ".partial";
    size_t length = strlen(name), tail = FILE_RANDOM_DIGITS + sizeof ENDING - 1;
    if (length < tail + 1 || strncmp(name, prefix, strlen(prefix)) != 0) return false;
    const char *random = name + length - tail;
    return random[-1] == '.' && strspn(random, "0123456789abcdef") == FILE_RANDOM_DIGITS &&
           !strcmp(random + FILE_RANDOM_DIGITS, ENDING);
}

static int sweep_entries(const char *path, const char *prefix, DIR *folder) {
    for (struct dirent *entry; (entry = readdir(folder));) {
        char *inside;
        if (!is_temporary(entry->d_name, prefix)) continue;
        TRY(path_join(path, entry->d_name, &inside));
        unlink(inside); /* does not remove folders */
        free(inside);
    }
    return LCKV_OK;
}

int folder_sweep(const char *path, const char *prefix) {
    DIR *folder = opendir(path);
    REQUIRE(folder, LCKV_ERROR_FILE, "cannot read the folder '%s': %s", path, strerror(errno));
    int status = sweep_entries(path, prefix, folder);
    closedir(folder);
    return status;
}

int folder_move(const char *from, const char *to) {
    REQUIRE(rename(from, to) == 0, LCKV_ERROR_FILE, "cannot rename '%s' to '%s': %s", from, to, strerror(errno));
    file_sync_parent(to);
    return LCKV_OK;
}
