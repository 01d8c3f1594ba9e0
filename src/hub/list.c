/* List of a repository's files, see list.h. */
#include "hub/list.h"

#include "base/text/json.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static bool is_hex(const char *text, size_t length) {
    return strlen(text) == length && strspn(text, "0123456789abcdef") == length;
}

/* Whether the path stays in its folder: relative, without empty, "." or ".." parts, control characters and backslashes.
 */
static bool is_safe_path(const char *path) {
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < ' ' || *c == '\\') return false;
    for (const char *part = path;; part++) {
        size_t length = strcspn(part, "/");
        if (!length || length > 250) return false; /* file systems allow 255 */
        if (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.'))) return false;
        part += length;
        if (!*part) return true;
    }
}

/* The digest of the content: the SHA-256 of a large file, git's SHA-1 of any other. */
static int read_identity(const json_t *entry, const char *name, hub_file *file) {
    const json_t *large = json_object_get(entry, "lfs");
    const char *blob;
    file->large = json_is_object(large);
    if (file->large) {
        TRY(json_get_string(large, name, "sha256", NULL, &blob));
        if (!blob) TRY(json_get_string(large, name, "oid", "", &blob));
    } else {
        TRY(json_get_string(entry, name, "blobId", "", &blob));
    }
    REQUIRE(is_hex(blob, file->large ? 64 : 40), LCKV_ERROR_FORMAT,
            "%s: '%s' has %s '%.80s', expected %d hexadecimal digits", name, file->path,
            file->large ? "the SHA-256" : "the blobId", blob, file->large ? 64 : 40);
    strcpy(file->blob, blob);
    return LCKV_OK;
}

static int read_entry(const json_t *entry, const char *name, hub_file *file) {
    const char *path;
    REQUIRE(json_is_object(entry), LCKV_ERROR_FORMAT, "%s: expected an object in 'siblings'", name);
    TRY(json_get_string(entry, name, "rfilename", "", &path));
    REQUIRE(is_safe_path(path), LCKV_ERROR_FORMAT, "%s: unsafe path '%.200s'", name, path);
    file->path = strdup(path);
    REQUIRE(file->path, LCKV_ERROR_MEMORY, "no memory for a path");
    TRY(json_get_int(entry, name, "size", -1, &file->bytes));
    REQUIRE(file->bytes >= 0, LCKV_ERROR_FORMAT, "%s: '%s' has no size", name, path);
    return read_identity(entry, name, file);
}

static int read_entries(const json_t *entries, const char *name, hub_list *list) {
    REQUIRE(json_is_array(entries), LCKV_ERROR_FORMAT, "%s: expected an array 'siblings'", name);
    size_t count = json_array_size(entries);
    list->files = calloc(count + 1, sizeof *list->files);
    REQUIRE(list->files, LCKV_ERROR_MEMORY, "no memory for a list of %zu files", count);
    for (size_t i = 0; i < count; i++) {
        hub_file *file = &list->files[list->count++];
        TRY(read_entry(json_array_get(entries, i), name, file));
        REQUIRE(list->bytes <= INT64_MAX - file->bytes, LCKV_ERROR_FORMAT, "%s: the total size is out of range", name);
        list->bytes += file->bytes;
    }
    return LCKV_OK;
}

static int read_list(const json_t *answer, const char *name, hub_list *list) {
    const char *commit;
    REQUIRE(json_is_object(answer), LCKV_ERROR_FORMAT, "%s: expected an object", name);
    TRY(json_get_string(answer, name, "sha", "", &commit));
    REQUIRE(is_hex(commit, 40), LCKV_ERROR_FORMAT,
            "%s: expected a commit of 40 hexadecimal digits in 'sha', found '%.80s'", name, commit);
    strcpy(list->commit, commit);
    return read_entries(json_object_get(answer, "siblings"), name, list);
}

int hub_list_read(const char *text, size_t length, const char *name, hub_list *out) {
    json_t *answer;
    *out = (hub_list){0};
    TRY(json_parse(text, length, name, &answer));
    int status = read_list(answer, name, out);
    json_decref(answer);
    if (status < 0) hub_list_free(out);
    return status;
}

void hub_list_free(hub_list *list) {
    for (int64_t i = 0; i < list->count; i++) free(list->files[i].path);
    free(list->files);
    *list = (hub_list){0};
}

static bool matches_one(const char *path, const char *const *patterns, int count) {
    for (int i = 0; i < count; i++)
        if (fnmatch(patterns[i], path, 0) == 0) return true;
    return false;
}

void hub_list_filter(hub_list *list, const char *const *include, int include_count, const char *const *exclude,
                     int exclude_count) {
    int64_t kept = 0;
    list->bytes = 0;
    for (int64_t i = 0; i < list->count; i++) {
        hub_file *file = &list->files[i];
        bool wanted = !include_count || matches_one(file->path, include, include_count);
        if (wanted && !matches_one(file->path, exclude, exclude_count)) {
            list->bytes += file->bytes;
            list->files[kept++] = *file;
        } else {
            free(file->path);
        }
    }
    list->count = kept;
}
