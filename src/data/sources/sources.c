/* The files of a corpus, see sources.h. */
#include "data/sources/sources.h"

#include "base/files/file.h"
#include "data/documents/document_reader.h"
#include "data/sources/dataset_card.h"
#include "data/sources/source_names.h"
#include "hub/model_path.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DEPTH = 32 }; /* nested folders; symbolic links may form cycles */

/* ---------------------------------------------------------------- folders and patterns */

static int add_folder(const char *folder, int depth, source_list *out);

static int add_entry(const char *folder, const char *name, int depth, source_list *out) {
    char *path;
    if (name[0] == '.') return LCKV_OK;
    TRY(path_join(folder, name, &path));
    int status = folder_exists(path)            ? add_folder(path, depth + 1, out)
                 : document_name_is_known(path) ? source_list_add(out, path)
                                                : LCKV_OK;
    free(path);
    return status;
}

static int add_folder(const char *folder, int depth, source_list *out) {
    struct dirent **entries;
    REQUIRE(depth < MAX_DEPTH, LCKV_ERROR_FILE, "'%s': more than %d nested folders", folder, MAX_DEPTH);
    int count = scandir(folder, &entries, NULL, alphasort), status = LCKV_OK;
    REQUIRE(count >= 0, LCKV_ERROR_FILE, "cannot list '%s': %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (status >= 0) status = add_entry(folder, entries[i]->d_name, depth, out);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static int add_whole_folder(const char *folder, source_list *out) {
    int before = out->count;
    TRY(add_folder(folder, 0, out));
    REQUIRE(out->count > before, LCKV_ERROR_FILE,
            "'%s' contains no data: expected .txt, .jsonl, .ndjson, .json, .csv, .bin or .npy files, plain or "
            "compressed, or .parquet",
            folder);
    return LCKV_OK;
}

static int add_pattern(const char *pattern, source_list *out) {
    glob_t found;
    int status = glob(pattern, 0, NULL, &found);
    REQUIRE(status == 0, LCKV_ERROR_FILE, "no file matches '%s'", pattern);
    for (size_t i = 0; i < found.gl_pathc && status >= 0; i++) {
        const char *path = found.gl_pathv[i];
        status = folder_exists(path) ? add_whole_folder(path, out) : source_list_add(out, path);
    }
    globfree(&found);
    return status;
}

int sources_add(const char *const *names, int count, source_list *out) {
    for (int i = 0; i < count; i++) {
        if (folder_exists(names[i]))
            TRY(add_whole_folder(names[i], out));
        else if (!file_exists(names[i]) && strpbrk(names[i], "*?["))
            TRY(add_pattern(names[i], out));
        else if (access(names[i], F_OK) != 0)
            return source_is_absent(names[i]);
        else
            TRY(source_list_add(out, names[i]));
    }
    return LCKV_OK;
}

double sources_weight(const char *name, size_t *length) {
    const char *colon = strrchr(name, ':');
    char *end = NULL;
    *length = strlen(name);
    if (!colon || colon == name || !isdigit((unsigned char)colon[1]) || file_exists(name)) return 0;
    double weight = strtod(colon + 1, &end);
    if (*end || !(weight > 0) || isinf(weight)) return 0;
    *length = (size_t)(colon - name);
    return weight;
}

/* ---------------------------------------------------------------- data sets */

/* Whether `path` contains `word` without a letter before or after it: "train" in "train-00000" or "1.train2". */
static bool has_word(const char *path, const char *word) {
    size_t length = strlen(word);
    for (const char *at = path; (at = strstr(at, word)); at++) {
        bool begins = at == path || !isalpha((unsigned char)at[-1]);
        if (begins && !isalpha((unsigned char)at[length])) return true;
    }
    return false;
}

typedef enum part { PART_NONE, PART_TRAIN, PART_VALIDATION, PART_TEST } part;

static part part_of(const char *path) {
    static const struct {
        const char *word;
        part part;
    } words[] = {{"train", PART_TRAIN},      {"training", PART_TRAIN}, {"validation", PART_VALIDATION},
                 {"valid", PART_VALIDATION}, {"val", PART_VALIDATION}, {"dev", PART_VALIDATION},
                 {"test", PART_TEST},        {"testing", PART_TEST},   {"eval", PART_TEST},
                 {"evaluation", PART_TEST}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (has_word(path, words[i].word)) return words[i].part;
    return PART_NONE;
}

/* Whether a folder in the path has exactly this name. */
static bool in_folder(const char *below, const char *name) {
    size_t length = strlen(name);
    for (const char *at = below; (at = strstr(at, name)); at++)
        if (at > below && at[-1] == '/' && at[length] == '/') return true;
    return false;
}

/* A config is the folder with its name; without such a folder, all files with that word in their path. */
typedef struct config_choice {
    const char *name; /* NULL: all files */
    bool is_folder;
} config_choice;

static config_choice choose_config(const source_list *all, size_t root, const char *name) {
    config_choice c = {name, false};
    for (int i = 0; name && i < all->count; i++) c.is_folder |= in_folder(all->paths[i] + root, name);
    return c;
}

static bool is_wanted(const char *below, const config_choice *c) {
    if (source_is_description(below)) return false;
    return !c->name || (c->is_folder ? in_folder(below, c->name) : has_word(below, c->name));
}

/* `root`: length of the data set's folder, with which all paths start. */
static int divide(const source_list *all, size_t root, const char *config_name, source_list *train,
                  source_list *validation) {
    bool named = false;
    config_choice config = choose_config(all, root, config_name);
    for (int i = 0; i < all->count; i++)
        named |= is_wanted(all->paths[i] + root, &config) && part_of(all->paths[i] + root) != PART_NONE;
    for (int i = 0; i < all->count; i++) {
        if (!is_wanted(all->paths[i] + root, &config)) continue;
        part p = named ? part_of(all->paths[i] + root) : PART_TRAIN;
        if (p == PART_TRAIN) TRY(source_list_add(train, all->paths[i]));
        if (p == PART_VALIDATION) TRY(source_list_add(validation, all->paths[i]));
    }
    return LCKV_OK;
}

/* By a config of the data set's README.md: its list of files, or the names of those in its folder. */
static int divide_by_card(const json_t *config, const char *folder, const source_list *all, source_list *train,
                          source_list *validation) {
    bool listed;
    char *path = NULL;
    source_list below = {0};
    const char *data_dir = json_string_value(json_object_get(config, "data_dir"));
    TRY(dataset_card_files(config, folder, all, "train", train, &listed));
    if (listed) return dataset_card_files(config, folder, all, "validation", validation, &listed);
    if (!data_dir) return divide(all, strlen(folder), NULL, train, validation);
    TRY(path_join(folder, data_dir, &path));
    int status = folder_exists(path)
                     ? add_whole_folder(path, &below)
                     : fail(LCKV_ERROR_FILE, "the data set has no folder '%s', which its README.md names", path);
    if (status >= 0) status = divide(&below, strlen(path), NULL, train, validation);
    source_list_free(&below);
    free(path);
    return status;
}

static int divide_all(const char *name, const char *folder, const char *config_name, const source_list *all,
                      source_list *train, source_list *validation) {
    json_t *config;
    TRY(dataset_card_config(folder, name, config_name, &config));
    int status = config ? divide_by_card(config, folder, all, train, validation)
                        : divide(all, strlen(folder), config_name, train, validation);
    json_decref(config);
    return status;
}

static int divide_folder(const char *name, const char *folder, const char *config_name, source_list *train,
                         source_list *validation) {
    source_list all = {0};
    int status = add_whole_folder(folder, &all);
    if (status >= 0) status = divide_all(name, folder, config_name, &all, train, validation);
    if (status >= 0 && !train->count && !validation->count)
        status = fail(LCKV_ERROR_FILE, "the data set '%s' has no files for training or validation%s%s", name,
                      config_name ? " of the config " : "", config_name ? config_name : "");
    source_list_free(&all);
    return status;
}

int sources_of_dataset(const char *name, const char *config_name, source_list *train, source_list *validation) {
    char *folder;
    if (file_exists(name) && !folder_exists(name)) return source_list_add(train, name);
    int found = dataset_path_resolve(name, &folder);
    if (found == LCKV_ERROR_FILE) return dataset_is_absent(name, config_name);
    TRY(found);
    int status = divide_folder(name, folder, config_name, train, validation);
    free(folder);
    return status;
}
