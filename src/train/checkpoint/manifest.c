/* checksums.json, see manifest.h. */
#include "train/checkpoint/manifest.h"

#include "base/files/checksum.h"
#include "base/files/file.h"
#include "base/text/json.h"
#include "io/tensors/checkpoint_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "checksums.json";
enum { SUM_BYTES = 24 };

/* ---------------------------------------------------------------- writing */

static int add_file(const char *folder, const char *name, json_t *files) {
    char *path, text[SUM_BYTES];
    uint64_t sum;
    size_t bytes;
    TRY(path_join(folder, name, &path));
    int status = file_exists(path) && strcmp(name, NAME) ? checksum_file(path, &sum, &bytes) : 1;
    free(path);
    if (status) return status < 0 ? status : LCKV_OK; /* no file, or this one */
    snprintf(text, sizeof text, "%016llx", (unsigned long long)sum);
    json_t *entry = json_pack("{sI ss}", "bytes", (json_int_t)bytes, "crc64", text);
    REQUIRE(json_object_set_new(files, name, entry) == 0, LCKV_ERROR_MEMORY, "no memory for a list of files");
    return LCKV_OK;
}

static int add_files(const char *folder, json_t *files) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort), status = LCKV_OK;
    REQUIRE(count >= 0, LCKV_ERROR_FILE, "cannot list '%s': %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (status >= 0) status = add_file(folder, entries[i]->d_name, files);
        free(entries[i]);
    }
    free(entries);
    return status;
}

int manifest_write(const char *folder) {
    json_t *files = json_object();
    REQUIRE(files, LCKV_ERROR_MEMORY, "no memory for a list of files");
    int status = add_files(folder, files);
    if (status >= 0) return json_write_file(files, folder, NAME);
    json_decref(files);
    return status;
}

/* ---------------------------------------------------------------- checking */

static int check_file(const char *path, const json_t *entry) {
    const char *expected;
    int64_t size;
    uint64_t sum;
    size_t bytes;
    char found[SUM_BYTES];
    TRY(json_get_int(entry, NAME, "bytes", -1, &size));
    TRY(json_get_string(entry, NAME, "crc64", "", &expected));
    TRY(checksum_file(path, &sum, &bytes));
    REQUIRE((int64_t)bytes == size, LCKV_ERROR_FORMAT, "'%s' is damaged: it has %zu bytes, expected %lld", path, bytes,
            (long long)size);
    snprintf(found, sizeof found, "%016llx", (unsigned long long)sum);
    REQUIRE(strcmp(found, expected) == 0, LCKV_ERROR_FORMAT, "'%s' is damaged: its checksum is %s, expected %.16s",
            path, found, expected);
    return LCKV_OK;
}

static int check_files(const char *folder, const json_t *files) {
    const char *name;
    json_t *entry;
    REQUIRE(json_object_size(files) > 0, LCKV_ERROR_FORMAT, "'%s/%s' lists no files", folder, NAME);
    json_object_foreach((json_t *)(uintptr_t)files, name, entry) {
        char *path;
        REQUIRE(json_is_object(entry) && checkpoint_shard_name_is_safe(name), LCKV_ERROR_FORMAT,
                "'%s/%s' has an invalid entry '%.80s'", folder, NAME, name);
        TRY(path_join(folder, name, &path));
        int status = check_file(path, entry);
        free(path);
        TRY(status);
    }
    return LCKV_OK;
}

int manifest_check(const char *folder) {
    char *path;
    json_t *files;
    TRY(path_join(folder, NAME, &path));
    int status = path_exists(path)
                     ? json_read_file(path, &files)
                     : fail(LCKV_ERROR_FILE, "'%s' is not a checkpoint of a run: it has no %s", folder, NAME);
    free(path);
    TRY(status);
    status = check_files(folder, files);
    json_decref(files);
    return status;
}
