/* Opening a tokenizer: which files, and the parts that tokenizer.json names. See tokenizer.h. */
#include "base/file.h"
#include "text/component.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tokenizer.json */

static int check_file(const json_t *root, const char *path) {
    component whole = {.object = root, .type = ""};
    const char *version;
    REQUIRE(json_is_object(root), LCKV_ERROR_FORMAT, "%s: should be a JSON object", path);
    component named = whole;
    snprintf(named.where, sizeof named.where, "%.200s", path);
    TRY(component_keys(
        &named, "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model"));
    TRY(json_get_string(root, path, "version", "1.0", &version));
    REQUIRE(!strcmp(version, "1.0"), LCKV_ERROR_UNSUPPORTED, "%s: version '%.40s' is not supported", path, version);
    return LCKV_OK;
}

int tokenizer_read_parts(lckv_tokenizer *t, const json_t *root, const char *name) {
    t->bos_id = t->eos_id = NO_TOKEN;
    TRY(check_file(root, name));
    TRY(bpe_read(&t->model, json_object_get(root, "model"), &t->vocabulary, name));
    TRY(normalizer_read(&t->normalizer, json_object_get(root, "normalizer"), name));
    TRY(added_tokens_read(&t->added, json_object_get(root, "added_tokens"), &t->vocabulary, &t->normalizer, name));
    TRY(pre_tokenizer_read(&t->pre_tokenizer, json_object_get(root, "pre_tokenizer"), name));
    TRY(pre_tokenizer_check_first(&t->pre_tokenizer, t->normalizer.count > 0, name));
    TRY(post_processor_read(&t->post_processor, json_object_get(root, "post_processor"), &t->vocabulary, name));
    return detokenizer_read(&t->detokenizer, json_object_get(root, "decoder"), name);
}

static int read_tokenizer_json(lckv_tokenizer *t, const char *path, bool *has_post_processor) {
    json_t *root;
    TRY(json_read_file(path, &root));
    int status = tokenizer_read_parts(t, root, path);
    const json_t *surrounding = json_object_get(root, "post_processor");
    *has_post_processor = surrounding && !json_is_null(surrounding);
    json_decref(root);
    return status;
}

/* ---- tokenizer_config.json */

/* The id of "bos_token" and the like: a string, or an object with "content"; NO_TOKEN where there is none. */
static int special_id(const lckv_tokenizer *t, const json_t *config, const char *path, const char *key, int32_t *out) {
    const json_t *value = json_object_get(config, key),
                 *content = json_is_object(value) ? json_object_get(value, "content") : value;
    *out = NO_TOKEN;
    if (!value || json_is_null(value)) return LCKV_OK;
    REQUIRE(json_is_string(content), LCKV_ERROR_FORMAT, "%s: '%s' should be a string or an object with 'content'", path,
            key);
    *out = vocabulary_find(&t->vocabulary, json_string_value(content), json_string_length(content));
    return LCKV_OK;
}

/* add_bos_token and add_eos_token count where tokenizer.json leaves open what surrounds a text. */
static int add_surrounding(const json_t *config, const char *path, const char *key, int32_t id, id_list *out) {
    bool wanted;
    TRY(json_get_bool(config, path, key, false, &wanted));
    if (!wanted) return LCKV_OK;
    REQUIRE(id != NO_TOKEN, LCKV_ERROR_FORMAT, "%s: '%s' is true, but there is no such token", path, key);
    return id_list_append(out, &id, 1);
}

static int read_config(lckv_tokenizer *t, const json_t *config, const char *path, bool has_post_processor) {
    REQUIRE(json_is_object(config), LCKV_ERROR_FORMAT, "%s: should be a JSON object", path);
    TRY(special_id(t, config, path, "bos_token", &t->bos_id));
    TRY(special_id(t, config, path, "eos_token", &t->eos_id));
    if (has_post_processor) return LCKV_OK;
    TRY(add_surrounding(config, path, "add_bos_token", t->bos_id, &t->post_processor.before));
    return add_surrounding(config, path, "add_eos_token", t->eos_id, &t->post_processor.behind);
}

int tokenizer_config_read(const char *path, json_t **out) {
    char *text;
    size_t bytes;
    json_error_t error;
    TRY(file_read(path, &text, &bytes));
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &error);
    free(text);
    REQUIRE(*out, LCKV_ERROR_FORMAT, "%s: line %d, column %d: not JSON: %s", path, error.line, error.column,
            error.text);
    return LCKV_OK;
}

static int read_tokenizer_config(lckv_tokenizer *t, const char *path, bool has_post_processor) {
    json_t *config = NULL;
    if (!file_exists(path)) return LCKV_OK;
    TRY(tokenizer_config_read(path, &config));
    int status = read_config(t, config, path, has_post_processor);
    json_decref(config);
    return status;
}

/* ---- which files */

/* A folder without tokenizer.json: what it has instead says what to do. */
static int explain_absence(const char *folder) {
    static const char *const others[] = {"tokenizer.json.gz", "tokenizer.model", "vocab.json", "tiktoken.model"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof others / sizeof *others && !found; i++) {
        char *path;
        TRY(path_join(folder, others[i], &path));
        if (file_exists(path)) found = others[i];
        free(path);
    }
    if (!found) return fail(LCKV_ERROR_FILE, "'%s' has no tokenizer.json", folder);
    if (found == others[0])
        return fail(LCKV_ERROR_UNSUPPORTED, "'%s' has %s but no tokenizer.json; unpack it with gunzip", folder, found);
    return fail(LCKV_ERROR_UNSUPPORTED,
                "'%s' has %s but no tokenizer.json; convert it with Python's transformers: "
                "AutoTokenizer.from_pretrained(\"%s\").save_pretrained(\"%s\")",
                folder, found, folder, folder);
}

static int read_both(lckv_tokenizer *t, const char *file, const char *folder) {
    bool has_post_processor;
    char *config;
    TRY(read_tokenizer_json(t, file, &has_post_processor));
    TRY(path_join(folder, "tokenizer_config.json", &config));
    int status = read_tokenizer_config(t, config, has_post_processor);
    free(config);
    return status;
}

static int read_folder(lckv_tokenizer *t, const char *folder) {
    char *file;
    TRY(path_join(folder, "tokenizer.json", &file));
    int status = file_exists(file) ? read_both(t, file, folder) : explain_absence(folder);
    free(file);
    return status;
}

int tokenizer_read(lckv_tokenizer *t, const char *folder_or_file) {
    if (folder_exists(folder_or_file)) return read_folder(t, folder_or_file);
    size_t length = (size_t)(path_base(folder_or_file) - folder_or_file);
    char *folder = length ? strndup(folder_or_file, length) : strdup(".");
    REQUIRE(folder, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = read_both(t, folder_or_file, folder);
    free(folder);
    return status;
}
