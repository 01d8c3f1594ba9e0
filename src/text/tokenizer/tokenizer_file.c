/* Opening a tokenizer: which files are read, and the components of tokenizer.json. See tokenizer.h. */
#include "base/files/file.h"
#include "gguf/gguf.h"
#include "text/gguf/gguf_tokenizer.h"
#include "text/subword/component.h"
#include "text/tokenizer/folder_rules.h"
#include "text/tokenizer/tokenizer.h"

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

/* Early files do not have the type of their model; a list of tokens is a Unigram model. */
static int read_model(lckv_tokenizer *t, const json_t *model, const char *name) {
    const char *type = json_string_value(json_object_get(model, "type"));
    bool is_unigram = type ? !strcmp(type, "Unigram") : json_is_array(json_object_get(model, "vocab"));
    return is_unigram ? unigram_read(&t->unigram, model, &t->vocabulary, name)
                      : bpe_read(&t->model, model, &t->vocabulary, name);
}

static int read_parts(lckv_tokenizer *t, const json_t *root, const json_t *more_tokens, const char *name) {
    const json_t *listed = json_object_get(root, "added_tokens");
    t->bos_id = t->eos_id = NO_TOKEN;
    TRY(check_file(root, name));
    TRY(read_model(t, json_object_get(root, "model"), name));
    TRY(normalizer_read(&t->normalizer, json_object_get(root, "normalizer"), name));
    TRY(added_tokens_read(&t->added, listed, more_tokens, &t->vocabulary, &t->normalizer, name));
    TRY(pre_tokenizer_read(&t->pre_tokenizer, json_object_get(root, "pre_tokenizer"), name));
    TRY(pre_tokenizer_check_first(&t->pre_tokenizer, t->normalizer.count > 0, name));
    TRY(post_processor_read(&t->post_processor, json_object_get(root, "post_processor"), &t->vocabulary, name));
    return detokenizer_read(&t->detokenizer, json_object_get(root, "decoder"), name);
}

int tokenizer_read_parts(lckv_tokenizer *t, const json_t *root, const char *name) {
    return read_parts(t, root, NULL, name);
}

/* ---- the files beside it */

/* The id of a named token; NO_TOKEN if there is none. */
static int32_t special_id(const lckv_tokenizer *t, const json_t *content) {
    return content ? vocabulary_find(&t->vocabulary, json_string_value(content), json_string_length(content))
                   : NO_TOKEN;
}

static int surround_with(id_list *out, bool wanted, int32_t id, const char *path, const char *key) {
    out->count = 0;
    if (!wanted) return LCKV_OK;
    REQUIRE(id != NO_TOKEN, LCKV_ERROR_FORMAT, "%s: '%s' is true, but there is no such token", path, key);
    return id_list_append(out, &id, 1);
}

static int apply_rules(lckv_tokenizer *t, const folder_rules *rules, const json_t *root, const char *path) {
    const json_t *given = json_object_get(root, "post_processor");
    bool has_post_processor = given && !json_is_null(given);
    t->bos_id = special_id(t, rules->bos);
    t->eos_id = special_id(t, rules->eos);
    t->added.in_given.splits_special = t->added.in_normalized.splits_special = rules->splits_special;
    if (rules->surround == SURROUND_FILE || (rules->surround == SURROUND_ABSENT && has_post_processor)) return LCKV_OK;
    TRY(surround_with(&t->post_processor.before, rules->adds_bos, t->bos_id, path, "add_bos_token"));
    return surround_with(&t->post_processor.after, rules->adds_eos, t->eos_id, path, "add_eos_token");
}

static int read_root(lckv_tokenizer *t, json_t *root, const char *path, const char *folder) {
    folder_rules rules;
    int status = folder_rules_read(&rules, root, folder);
    if (status >= 0) status = read_parts(t, root, rules.more_tokens, path);
    if (status >= 0) status = apply_rules(t, &rules, root, path);
    folder_rules_free(&rules);
    return status;
}

static int read_with_rules(lckv_tokenizer *t, const char *path, const char *folder) {
    json_t *root;
    TRY(json_read_file(path, &root));
    int status = json_is_object(root) ? read_root(t, root, path, folder) : check_file(root, path);
    json_decref(root);
    return status;
}

/* ---- which files */

/* Error for a folder without tokenizer.json: says what to do with what it has instead. */
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

static int read_folder(lckv_tokenizer *t, const char *folder) {
    char *file;
    TRY(path_join(folder, "tokenizer.json", &file));
    int status = path_exists(file) ? read_with_rules(t, file, folder) : explain_absence(folder);
    free(file);
    return status;
}

static int read_gguf(lckv_tokenizer *t, const char *file) {
    json_t *root;
    TRY(gguf_tokenizer_file(file, "tokenizer.json", &root));
    REQUIRE(root, LCKV_ERROR_FILE, "%s: the file has no tokenizer", file);
    int status = read_root(t, root, file, file);
    json_decref(root);
    return status;
}

int tokenizer_read(lckv_tokenizer *t, const char *folder_or_file) {
    if (gguf_is_file(folder_or_file)) return read_gguf(t, folder_or_file);
    if (folder_exists(folder_or_file)) return read_folder(t, folder_or_file);
    size_t length = (size_t)(path_base(folder_or_file) - folder_or_file);
    char *folder = length ? strndup(folder_or_file, length) : strdup(".");
    REQUIRE(folder, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = read_with_rules(t, folder_or_file, folder);
    free(folder);
    return status;
}
