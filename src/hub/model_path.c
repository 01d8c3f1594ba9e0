/* Local folders and the Hugging Face cache, see model_path.h. The layout of the cache is that of huggingface_hub:
 * CACHE/models--ORG--NAME/refs/main holds a commit, CACHE/models--ORG--NAME/snapshots/COMMIT is the folder. */
#include "hub/model_path.h"

#include "base/files/content.h"
#include "base/files/file.h"
#include "base/text/text_buffer.h"
#include "gguf/gguf.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

bool hub_name_allowed(const char *name) {
    size_t organisation = strspn(name, NAME_CHARACTERS);
    if (!organisation || name[organisation] != '/' || name[0] == '.') return false;
    const char *model = name + organisation + 1;
    return *model && *model != '.' && strspn(model, NAME_CHARACTERS) == strlen(model);
}

static const char *environment(const char *variable) {
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

int hub_home_folder(text_buffer *out) {
    const char *home = environment("HF_HOME"), *cache = environment("XDG_CACHE_HOME"), *user = environment("HOME");
    if (home) return text_printf(out, "%s", home);
    if (cache) return text_printf(out, "%s/huggingface", cache);
    return text_printf(out, "%s/.cache/huggingface", user ? user : "");
}

int hub_cache_folder(text_buffer *out) {
    const char *hub = environment("HF_HUB_CACHE");
    if (hub) return text_printf(out, "%s", hub);
    TRY(hub_home_folder(out));
    return text_printf(out, "/hub");
}

/* Reads the commit of refs/main; "" if there is none. */
static int read_commit(const char *model, text_buffer *out) {
    text_buffer path = {0};
    char *content = NULL;
    size_t bytes;
    int status = text_printf(&path, "%s/refs/main", model);
    if (status >= 0 && file_exists(path.data)) status = file_read(path.data, &content, &bytes);
    if (status >= 0) {
        size_t length = content ? strspn(content, "0123456789abcdef") : 0;
        status = text_append(out, content, length);
    }
    free(content);
    text_free(&path);
    return status;
}

/* Prefix of the folder in the cache, and the command that downloads a repository. */
typedef struct repository_kind {
    const char *begins, *command;
} repository_kind;

static const repository_kind MODEL = {"models", "lckv fetch"}, DATASET = {"datasets", "lckv fetch --repo_type dataset"};

/* Appends the folder of the snapshot; nothing if the cache has none. */
static int find_snapshot(const char *cache, const repository_kind *kind, const char *name, text_buffer *folder) {
    text_buffer repository = {0}, commit = {0};
    const char *slash = strchr(name, '/');
    int status = text_printf(&repository, "%s/%s--%.*s--%s", cache, kind->begins, (int)(slash - name), name, slash + 1);
    if (status >= 0) status = read_commit(repository.data, &commit);
    if (status >= 0 && commit.length) status = text_printf(folder, "%s/snapshots/%s", repository.data, commit.data);
    if (status >= 0 && folder->length && !folder_exists(folder->data)) text_free(folder);
    text_free(&repository);
    text_free(&commit);
    return status;
}

static int find_in_cache(const repository_kind *kind, const char *name, text_buffer *folder) {
    text_buffer cache = {0};
    int status = hub_cache_folder(&cache);
    if (status >= 0) status = find_snapshot(cache.data, kind, name, folder);
    if (status >= 0 && !folder->length)
        status =
            fail(LCKV_ERROR_FILE, "'%s' is neither a folder nor in the Hugging Face cache (%s); fetch it with: %s %s",
                 name, cache.data, kind->command, name);
    text_free(&cache);
    return status;
}

/* ---------------------------------------------------------------- errors */

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length > tail && !strcmp(name + length - tail, end);
}

static int refuse_gguf(const char *name) {
    return fail(LCKV_ERROR_FILE,
                "'%s' does not exist; expected a GGUF file, a folder, or ORG/NAME of the Hugging Face hub", name);
}

/* Error for a file of a model. */
static int refuse_file(const char *name) {
    const char *base = path_base(name);
    int folder = base > name ? (int)(base - name) : 1;
    TRY(content_check_file(name));
    REQUIRE(!ends_with(name, ".gguf"), LCKV_ERROR_FORMAT, "%s: a GGUF file begins with 'GGUF'", name);
    REQUIRE(!ends_with(name, ".safetensors") && !ends_with(name, ".json"), LCKV_ERROR_FILE,
            "'%s' is a file of a model, expected its folder '%.*s'", name, folder, base > name ? name : ".");
    return fail(LCKV_ERROR_FILE,
                "'%s' is a file, expected a folder with config.json, tokenizer.json and model.safetensors, or ORG/NAME "
                "of the Hugging Face hub",
                name);
}

/* Error for a name that is neither a folder nor ORG/NAME. */
static int refuse_name(const repository_kind *kind, const char *name) {
    static const char hub[] = "https://huggingface.co/";
    if (kind == &MODEL && ends_with(name, ".gguf")) return refuse_gguf(name);
    REQUIRE(strncmp(name, hub, sizeof hub - 1) != 0, LCKV_ERROR_FILE,
            "'%s' is an address, expected ORG/NAME: fetch it with: %s ORG/NAME", name, kind->command);
    return fail(LCKV_ERROR_FILE,
                "'%s' is neither a folder nor of the form ORG/NAME; for a repository of the Hugging Face hub, fetch "
                "it with its full name%s: %s %s",
                name, !strcmp(name, "wikitext") ? " (here Salesforce/wikitext)" : "", kind->command,
                !strcmp(name, "wikitext") ? "Salesforce/wikitext" : "ORG/NAME");
}

/* Adds the folder's GGUF files to `names`, separated by commas, and appends one of them to `file`. */
static int list_gguf(const char *folder, DIR *files, text_buffer *names, text_buffer *file) {
    for (struct dirent *entry; (entry = readdir(files));) {
        if (!ends_with(entry->d_name, ".gguf")) continue;
        TRY(text_printf(names, "%s%s", names->length ? ", " : "", entry->d_name));
        file->length = 0;
        TRY(text_printf(file, "%s/%s", folder, entry->d_name));
    }
    return LCKV_OK;
}

/* A folder without config.json, as many repositories of the hub are: its only GGUF file takes its place. */
static int find_gguf(text_buffer *found) {
    char *config;
    text_buffer names = {0}, file = {0};
    TRY(path_join(found->data, "config.json", &config));
    bool there = path_exists(config);
    free(config);
    DIR *files = there ? NULL : opendir(found->data);
    if (!files) return LCKV_OK;
    int status = list_gguf(found->data, files, &names, &file);
    closedir(files);
    if (status >= 0 && names.length && strstr(names.data, ", "))
        status = fail(LCKV_ERROR_ARGUMENT, "'%s' has several GGUF files (%s); name one of them, such as '%s'",
                      found->data, names.data, file.data);
    if (status >= 0 && file.length) {
        found->length = 0;
        status = text_append(found, file.data, file.length);
    }
    text_free(&names);
    text_free(&file);
    return status;
}

static int resolve(const repository_kind *kind, const char *name, char **folder) {
    *folder = NULL;
    text_buffer found = {0};
    int status;
    if (folder_exists(name))
        status = text_printf(&found, "%s", name);
    else if (kind == &MODEL && file_exists(name))
        status = gguf_is_file(name) ? text_printf(&found, "%s", name) : refuse_file(name);
    else if (hub_name_allowed(name) && !ends_with(name, ".gguf"))
        status = find_in_cache(kind, name, &found);
    else
        status = refuse_name(kind, name);
    if (status >= 0 && kind == &MODEL && folder_exists(found.data)) status = find_gguf(&found);
    if (status >= 0) status = text_take(&found, folder);
    text_free(&found);
    return status;
}

int model_path_resolve(const char *name, char **folder) {
    return resolve(&MODEL, name, folder);
}

int dataset_path_resolve(const char *name, char **folder) {
    return resolve(&DATASET, name, folder);
}

int lckv_find_folder(const char *name, char **folder) {
    return model_path_resolve(name, folder);
}
