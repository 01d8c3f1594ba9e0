/* The configs of a data set, see dataset_card.h. */
#include "data/sources/dataset_card.h"

#include "base/files/file.h"
#include "base/text/text_buffer.h"
#include "data/sources/card_yaml.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- choosing a config */

/* Options of the datasets library that change how a file is read. */
static const char *const CHANGES_READING[] = {
    "sep",   "delimiter", "header",  "names",       "column_names",   "usecols", "skiprows", "skipfooter",
    "nrows", "quotechar", "quoting", "doublequote", "escapechar",     "comment", "encoding", "skipinitialspace",
    "field", "sample_by", "columns", "filters",     "keep_linebreaks"};

static const char *name_of(const json_t *config) {
    return json_string_value(json_object_get(config, "config_name"));
}

/* False for the YAML 1.1 words for false, and for an absent value. */
static bool is_true(const json_t *value) {
    static const char *const FALSE_WORDS[] = {"false", "False", "FALSE", "no", "No", "NO",
                                              "off",   "Off",   "OFF",   "0",  ""};
    const char *text = json_string_value(value);
    for (size_t i = 0; text && i < sizeof FALSE_WORDS / sizeof *FALSE_WORDS; i++)
        if (!strcmp(text, FALSE_WORDS[i])) return false;
    return text != NULL;
}

static int check_configs(const json_t *configs, const char *path) {
    size_t index;
    const json_t *config;
    REQUIRE(json_is_array(configs), LCKV_ERROR_FORMAT, "%s: 'configs' should be a list", path);
    json_array_foreach((json_t *)(uintptr_t)configs, index, config) REQUIRE(
        name_of(config), LCKV_ERROR_FORMAT, "%s: entry %zu of 'configs' should have a 'config_name'", path, index);
    return LCKV_OK;
}

/* "a, b, c" */
static int list_names(const json_t *configs, text_buffer *out) {
    size_t index;
    const json_t *config;
    json_array_foreach((json_t *)(uintptr_t)configs, index, config)
        TRY(text_printf(out, "%s%s", index ? ", " : "", name_of(config)));
    return LCKV_OK;
}

static int refuse_choice(const json_t *configs, const char *name, const char *config_name) {
    text_buffer names = {.limit = 1 << 16};
    int status = list_names(configs, &names);
    if (status >= 0)
        status = config_name ? fail(LCKV_ERROR_ARGUMENT, "the data set '%s' has no config '%s'; it has %s", name,
                                    config_name, names.data)
                             : fail(LCKV_ERROR_ARGUMENT,
                                    "the data set '%s' has several configs and no default; choose one with "
                                    "dataset_config_name: %s",
                                    name, names.data);
    text_free(&names);
    return status;
}

/* The default config: the only one, the one with `default: true`, or the one named "default". */
static int find_default(const json_t *configs, const char *path, const json_t **out) {
    size_t index;
    const json_t *config;
    *out = NULL;
    json_array_foreach((json_t *)(uintptr_t)configs, index, config) {
        bool is_default = json_array_size(configs) == 1 || !strcmp(name_of(config), "default") ||
                          is_true(json_object_get(config, "default"));
        REQUIRE(!is_default || !*out, LCKV_ERROR_FORMAT, "%s: the configs '%s' and '%s' are both the default", path,
                name_of(*out), name_of(config));
        if (is_default) *out = config;
    }
    return LCKV_OK;
}

static const json_t *find_named(const json_t *configs, const char *config_name) {
    for (size_t i = json_array_size(configs); i > 0; i--) /* the last one of a name is used */
        if (!strcmp(name_of(json_array_get(configs, i - 1)), config_name)) return json_array_get(configs, i - 1);
    return NULL;
}

static int check_options(const json_t *config, const char *path) {
    for (size_t i = 0; i < sizeof CHANGES_READING / sizeof *CHANGES_READING; i++)
        REQUIRE(!json_object_get(config, CHANGES_READING[i]), LCKV_ERROR_UNSUPPORTED,
                "%s: the option '%s' of the config '%s' is not supported; name the files themselves (train_file) if "
                "lckv's way of reading them is right",
                path, CHANGES_READING[i], name_of(config));
    return LCKV_OK;
}

static int choose(const json_t *configs, const char *path, const char *name, const char *config_name, json_t **out) {
    const json_t *config;
    TRY(check_configs(configs, path));
    if (json_array_size(configs) == 0) return LCKV_OK;
    if (config_name)
        config = find_named(configs, config_name);
    else
        TRY(find_default(configs, path, &config));
    if (!config) return refuse_choice(configs, name, config_name);
    TRY(check_options(config, path));
    *out = json_incref((json_t *)(uintptr_t)config);
    return LCKV_OK;
}

static int read_and_choose(const char *path, const char *name, const char *config_name, json_t **out) {
    char *text;
    size_t bytes;
    json_t *configs;
    if (!path_exists(path)) return LCKV_OK;
    TRY(file_read(path, &text, &bytes));
    int status = card_yaml_configs(text, bytes, path, &configs);
    free(text);
    if (status >= 0 && configs && !json_is_null(configs)) status = choose(configs, path, name, config_name, out);
    json_decref(configs);
    return status;
}

int dataset_card_config(const char *folder, const char *name, const char *config_name, json_t **out) {
    char *path;
    *out = NULL;
    TRY(path_join(folder, "README.md", &path));
    int status = read_and_choose(path, name, config_name, out);
    free(path);
    return status;
}

/* ---------------------------------------------------------------- patterns */

/* Whether a character is in the set that starts after '['. *end is after its ']'; NULL if it is not closed. */
static bool in_set(const char *set, char character, const char **end) {
    bool inverted = *set == '!' || *set == '^', found = false;
    const char *at = set + inverted;
    do {
        if (!*at) return *end = NULL, false;
        bool range = at[1] == '-' && at[2] && at[2] != ']';
        found = found || (range ? at[0] <= character && character <= at[2] : *at == character);
        at += range ? 3 : 1;
    } while (*at != ']');
    *end = at + 1;
    return found != inverted;
}

/* Whether the pattern starts with a match for the character; *next is the rest of the pattern. */
static bool matches_one(const char *pattern, char character, const char **next) {
    const char *end = NULL;
    bool in = *pattern == '[' && in_set(pattern + 1, character, &end);
    *next = end ? end : pattern + 1;
    if (end) return in;
    return *pattern == '?' || *pattern == character;
}

/* Matches one name with one part of a pattern. If the rest fails, the last '*' takes one more character. */
static bool name_matches(const char *pattern, const char *pattern_end, const char *name, const char *name_end) {
    const char *star = NULL, *taken = NULL, *next;
    while (name < name_end) {
        if (pattern < pattern_end && *pattern == '*') {
            star = ++pattern;
            taken = name;
        } else if (pattern < pattern_end && matches_one(pattern, *name, &next) && next <= pattern_end) {
            pattern = next;
            name++;
        } else if (star) {
            pattern = star;
            name = ++taken;
        } else {
            return false;
        }
    }
    while (pattern < pattern_end && *pattern == '*') pattern++;
    return pattern == pattern_end;
}

static bool is_any_names(const char *part) {
    return !strncmp(part, "**", 2) && (!part[2] || part[2] == '/');
}

/* The end of the first name of a path; next_part(): the name after it. */
static const char *part_end(const char *path) {
    return path + strcspn(path, "/");
}

static const char *next_part(const char *path) {
    const char *end = part_end(path);
    return end + (*end == '/');
}

bool dataset_path_matches(const char *pattern, const char *path) {
    const char *star = NULL, *taken = NULL;
    while (*path) {
        if (*pattern && is_any_names(pattern)) {
            star = pattern = next_part(pattern);
            taken = path;
        } else if (*pattern && name_matches(pattern, part_end(pattern), path, part_end(path))) {
            pattern = next_part(pattern);
            path = next_part(path);
        } else if (star) {
            pattern = star;
            path = taken = next_part(taken);
        } else {
            return false;
        }
    }
    while (*pattern && is_any_names(pattern)) pattern = next_part(pattern);
    return !*pattern;
}

/* Names that begin with two underscores; as in datasets, a pattern has to name as many as the path has. */
static int special_folders(const char *path) {
    int count = 0;
    for (; *path; path = next_part(path)) count += !strncmp(path, "__", 2) && *part_end(path) == '/';
    return count;
}

/* ---------------------------------------------------------------- the files of a split */

typedef struct lookup {
    const char *folder, *config_name;
    const source_list *all;
    source_list *out;
} lookup;

/* A path that is only inside the data set. */
static int check_pattern(const lookup *l, const char *pattern) {
    REQUIRE(!strstr(pattern, "://") && !strstr(pattern, "::"), LCKV_ERROR_UNSUPPORTED,
            "the config '%s' has '%.200s' in 'data_files': addresses and files in archives are not supported",
            l->config_name, pattern);
    bool leaves = *pattern == '/';
    for (const char *at = pattern; *at; at = next_part(at)) {
        leaves = leaves || (!strncmp(at, "..", 2) && part_end(at) == at + 2);
        const char *stars = strstr(at, "**");
        REQUIRE(!stars || stars >= part_end(at) || is_any_names(at), LCKV_ERROR_FORMAT,
                "the config '%s' has '%.200s' in 'data_files': '**' should be a whole part of the path", l->config_name,
                pattern);
    }
    REQUIRE(*pattern && !leaves, LCKV_ERROR_FORMAT,
            "the config '%s' has '%.200s' in 'data_files': expected a path inside the data set", l->config_name,
            pattern);
    return LCKV_OK;
}

static int add_matching(const lookup *l, const char *pattern) {
    size_t root = strlen(l->folder) + 1;
    for (int i = 0; i < l->all->count; i++) {
        const char *below = l->all->paths[i] + root;
        if (source_is_description(below) || special_folders(below) != special_folders(pattern)) continue;
        if (dataset_path_matches(pattern, below)) TRY(source_list_add(l->out, l->all->paths[i]));
    }
    return LCKV_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A file that has the name is that file, whatever its ending. */
static int add_pattern(const lookup *l, const char *pattern) {
    char *path;
    int before = l->out->count;
    while (!strncmp(pattern, "./", 2)) pattern += 2;
    TRY(check_pattern(l, pattern));
    TRY(path_join(l->folder, pattern, &path));
    int status = file_exists(path) ? source_list_add(l->out, path) : add_matching(l, pattern);
    if (l->out->count > before + 1)
        qsort(l->out->paths + before, (size_t)(l->out->count - before), sizeof *l->out->paths, by_name);
    if (status >= 0 && l->out->count == before)
        status = fail(LCKV_ERROR_FILE,
                      "the data set's config '%s' has '%.200s' in 'data_files', but no data file in '%s' matches it",
                      l->config_name, pattern, l->folder);
    free(path);
    return status;
}

/* A path or a list of paths. */
static int add_paths(const lookup *l, const json_t *paths) {
    size_t index;
    const json_t *item;
    if (json_is_string(paths)) return add_pattern(l, json_string_value(paths));
    json_array_foreach((json_t *)(uintptr_t)paths, index, item) {
        REQUIRE(json_is_string(item), LCKV_ERROR_FORMAT, "the config '%s': a path in 'data_files' should be text",
                l->config_name);
        TRY(add_pattern(l, json_string_value(item)));
    }
    return LCKV_OK;
}

static bool is_split(const json_t *entry) {
    const json_t *path = json_object_get(entry, "path");
    return json_object_size(entry) == 2 && json_is_string(json_object_get(entry, "split")) &&
           (json_is_string(path) || json_is_array(path));
}

static int add_splits(const lookup *l, const json_t *entries, const char *split) {
    size_t index;
    const json_t *entry;
    bool found = false;
    json_array_foreach((json_t *)(uintptr_t)entries, index, entry) {
        REQUIRE(is_split(entry), LCKV_ERROR_FORMAT,
                "the config '%s': an entry of 'data_files' should have a 'split' and a 'path'", l->config_name);
        if (strcmp(json_string_value(json_object_get(entry, "split")), split) != 0) continue;
        REQUIRE(!found, LCKV_ERROR_FORMAT, "the config '%s': 'data_files' has the split '%s' twice", l->config_name,
                split);
        TRY(add_paths(l, json_object_get(entry, "path")));
        found = true;
    }
    return LCKV_OK;
}

static bool has_splits(const json_t *data_files) {
    size_t index;
    const json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)data_files, index, entry) if (json_is_object(entry)) return true;
    return false;
}

int dataset_card_files(const json_t *config, const char *folder, const source_list *all, const char *split,
                       source_list *out, bool *listed) {
    const json_t *data_files = json_object_get(config, "data_files");
    lookup l = {folder, name_of(config), all, out};
    *listed = data_files && !json_is_null(data_files);
    if (!*listed) return LCKV_OK;
    REQUIRE(json_is_string(data_files) || json_is_array(data_files), LCKV_ERROR_FORMAT,
            "the config '%s': 'data_files' should be a path, a list of paths, or a list of splits with their paths",
            l.config_name);
    if (has_splits(data_files)) return add_splits(&l, data_files, split);
    return strcmp(split, "train") == 0 ? add_paths(&l, data_files) : LCKV_OK;
}
