/* What transformers takes from the files beside tokenizer.json, see folder_rules.h. prefix_space.c applies
 * add_prefix_space. */
#include "text/tokenizer/folder_rules.h"

#include "base/files/file.h"
#include "base/text/json.h"
#include "gguf/gguf.h"
#include "text/gguf/gguf_tokenizer.h"
#include "text/tokenizer/steps/prefix_space.h"
#include "text/tokenizer/tokenizer_class.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* State while the files are read. */
typedef struct reading {
    const char *folder;
    char *config_path;                           /* for errors */
    json_t *config, *map, *added_tokens, *model; /* NULL if a file does not exist */
    const json_t *root;                          /* tokenizer.json */
    const tokenizer_class *class;
    json_t *known;                  /* content -> token, as described by added_tokens_decoder (or tokenizer.json) */
    json_t *names;                  /* content -> true: the special tokens */
    json_t *decoder;                /* [] tokens of added_tokens_decoder (or added_tokens.json), sorted by id */
    json_t *special[SPECIAL_COUNT]; /* a string or a token; NULL: none */
    bool by_class[SPECIAL_COUNT];   /* named by the class, not by a file */
    json_t *more_special;           /* [] likewise */
} reading;

/* ---- files */

static int open_file(const reading *r, const char *name, int (*read)(const char *, json_t **), json_t **out) {
    char *path;
    *out = NULL;
    if (gguf_is_file(r->folder)) return gguf_tokenizer_file(r->folder, name, out);
    TRY(path_join(r->folder, name, &path));
    int status = path_exists(path) ? read(path, out) : LCKV_OK;
    if (status >= 0 && *out && !json_is_object(*out))
        status = fail(LCKV_ERROR_FORMAT, "%s: should be a JSON object", path);
    free(path);
    return status;
}

static int read_json(const char *path, json_t **out) {
    char *text;
    size_t bytes;
    TRY(file_read(path, &text, &bytes));
    int status = json_parse_as(text, bytes, path, JSON_DECODE_INT_AS_REAL, out);
    free(text);
    return status;
}

int folder_tokenizer_config(const char *folder, json_t **out) {
    return open_file(&(reading){.folder = folder}, "tokenizer_config.json", read_json, out);
}

/* config.json. If it is not JSON, it names no class; other code reports the error. */
static int read_model_config(const char *path, json_t **out) {
    if (read_json(path, out) < 0) *out = NULL;
    return LCKV_OK;
}

static int open_files(reading *r) {
    TRY(path_join(r->folder, "tokenizer_config.json", &r->config_path));
    TRY(open_file(r, "tokenizer_config.json", read_json, &r->config));
    TRY(open_file(r, "special_tokens_map.json", read_json, &r->map));
    TRY(open_file(r, "added_tokens.json", read_json, &r->added_tokens));
    return open_file(r, "config.json", read_model_config, &r->model);
}

static void close_files(reading *r) {
    json_decref(r->config);
    json_decref(r->map);
    json_decref(r->added_tokens);
    json_decref(r->model);
    json_decref(r->known);
    json_decref(r->names);
    json_decref(r->decoder);
    json_decref(r->more_special);
    for (int i = 0; i < SPECIAL_COUNT; i++) json_decref(r->special[i]);
    free(r->config_path);
}

/* ---- tokens: a string, or an object with "content" and flags */

static const json_t *content_of(const json_t *token) {
    return json_is_object(token) ? json_object_get(token, "content") : token;
}

static bool same_content(const json_t *a, const json_t *b) {
    return json_equal((json_t *)(uintptr_t)content_of(a), (json_t *)(uintptr_t)content_of(b));
}

static bool flag_of(const json_t *token, const char *flag, bool fallback) {
    const json_t *value = json_object_get(token, flag);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

/* Whether both objects describe the same token. */
static bool same_token(const json_t *a, const json_t *b) {
    static const char *const flags[] = {"lstrip", "rstrip", "single_word", "special"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flag_of(a, flags[i], false) != flag_of(b, flags[i], false)) return false;
    return same_content(a, b) && flag_of(a, "normalized", !flag_of(a, "special", false)) ==
                                     flag_of(b, "normalized", !flag_of(b, "special", false));
}

/* The token in the form of tokenizer.json. Returns a new reference; NULL if memory runs out. */
static json_t *token_new(const json_t *token, bool special) {
    bool was_special = flag_of(token, "special", false);
    return json_pack("{s:O, s:b, s:b, s:b, s:b, s:b}", "content", content_of(token), "special", special, "normalized",
                     json_is_object(token) ? flag_of(token, "normalized", !was_special) : !special, "lstrip",
                     flag_of(token, "lstrip", false), "rstrip", flag_of(token, "rstrip", false), "single_word",
                     flag_of(token, "single_word", false));
}

static int out_of_memory(const reading *r) {
    return fail(LCKV_ERROR_MEMORY, "%s: no memory for special tokens", r->folder);
}

static int check_token(const reading *r, const json_t *token, const char *where) {
    REQUIRE(json_is_string(content_of(token)), LCKV_ERROR_FORMAT,
            "%s: '%s' should be a string or an object with 'content'", r->config_path, where);
    return LCKV_OK;
}

static int append(const reading *r, json_t *list, const json_t *token, bool special) {
    return json_array_append_new(list, token_new(token, special)) ? out_of_memory(r) : LCKV_OK;
}

/* Without a known class, transformers does not open the folder, and a name that is not in the vocabulary has no effect.
 */
static int known_only(const reading *r, json_t *list) {
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    return json_object_set_new(last, "known_only", json_true()) ? out_of_memory(r) : LCKV_OK;
}

/* ---- named special tokens */

static int name_special(reading *r, int which, json_t *value) {
    if (value && !json_is_null(value)) TRY(check_token(r, value, special_token_keys[which]));
    r->by_class[which] = false;
    json_decref(r->special[which]);
    r->special[which] = value && !json_is_null(value) ? json_incref(value) : NULL;
    return LCKV_OK;
}

static int append_more_special(reading *r, const json_t *value, const char *key) {
    json_t *item;
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)value, index, item) {
        TRY(check_token(r, item, key));
        if (json_array_append(r->more_special, item)) return out_of_memory(r);
    }
    return LCKV_OK;
}

/* "extra_special_tokens": a list (since 5.x), or an object that names each token. */
static int append_extra(reading *r) {
    const json_t *value = json_object_get(r->config, "extra_special_tokens");
    const char *key;
    json_t *item;
    if (json_is_array(value)) return append_more_special(r, value, "extra_special_tokens");
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        TRY(check_token(r, item, key));
        if (json_array_append(r->more_special, item)) return out_of_memory(r);
    }
    return LCKV_OK;
}

static int append_numbered(reading *r, const char *form, int count) {
    for (int i = 0; i < count; i++)
        if (json_array_append_new(r->more_special, json_sprintf(form, i))) return out_of_memory(r);
    return LCKV_OK;
}

static bool names_extra_ids(const json_t *list) {
    json_t *item;
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)list, index, item) {
        const char *text = json_string_value(content_of(item));
        if (text && strstr(text, "<extra_id_")) return true;
    }
    return false;
}

/* The tokens that CodeLlama uses for infilling. */
static int append_code_llama(reading *r) {
    static const char *const keys[][2] = {{"prefix_token", "\xE2\x96\x81<PRE>"},
                                          {"middle_token", "\xE2\x96\x81<MID>"},
                                          {"suffix_token", "\xE2\x96\x81<SUF>"},
                                          {"eot_token", "\xE2\x96\x81<EOT>"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(r->config, keys[i][0]);
        if (json_is_null(value)) continue;
        if (value) TRY(check_token(r, value, keys[i][0]));
        value = value ? json_incref(value) : json_string(keys[i][1]);
        if (json_array_append_new(r->more_special, value)) return out_of_memory(r);
    }
    return LCKV_OK;
}

static int append_class_tokens(reading *r) {
    double extra_ids;
    switch (r->class->more) {
    case MORE_T5:
        TRY(json_get_number(r->config, r->config_path, "extra_ids", 100, &extra_ids));
        REQUIRE(extra_ids >= 0 && extra_ids <= 10000, LCKV_ERROR_FORMAT, "%s: 'extra_ids' should be 0 to 10000",
                r->config_path);
        return names_extra_ids(r->more_special) ? LCKV_OK : append_numbered(r, "<extra_id_%d>", (int)extra_ids);
    case MORE_XGLM:
        return append_numbered(r, "<madeupword%d>", 7);
    case MORE_CODE_LLAMA:
        return append_code_llama(r);
    case MORE_NONE:
        break;
    }
    return LCKV_OK;
}

/* The class's defaults, overridden by tokenizer_config.json. */
static int name_from_config(reading *r) {
    for (int i = 0; i < SPECIAL_COUNT; i++) {
        json_t *value = json_object_get(r->config, special_token_keys[i]);
        if (value) {
            TRY(name_special(r, i, value));
        } else if (r->class->special[i]) {
            r->by_class[i] = true;
            r->special[i] = json_string(r->class->special[i]);
            if (!r->special[i]) return out_of_memory(r);
        }
    }
    return append_more_special(r, json_object_get(r->config, "additional_special_tokens"), "additional_special_tokens");
}

/* special_tokens_map.json, an older file, overrides both if it is read. A token that it describes by an object is
 * special. */
static int name_from_map(reading *r) {
    json_t *value;
    for (int i = 0; i < SPECIAL_COUNT; i++) {
        value = json_object_get(r->map, special_token_keys[i]);
        if (value) TRY(name_special(r, i, value));
        if (json_is_object(value) && json_object_set_new(value, "special", json_true())) return out_of_memory(r);
    }
    size_t index;
    json_array_foreach(json_object_get(r->map, "additional_special_tokens"), index, value) {
        if (json_is_object(value) && json_object_set_new(value, "special", json_true())) return out_of_memory(r);
    }
    return append_more_special(r, json_object_get(r->map, "additional_special_tokens"), "additional_special_tokens");
}

/* ---- added tokens */

static bool is_named(const reading *r, const json_t *token) {
    return json_object_get(r->names, json_string_value(content_of(token))) != NULL;
}

static int add_name(const reading *r, const json_t *token) {
    return json_object_set_new(r->names, json_string_value(content_of(token)), json_true()) ? out_of_memory(r)
                                                                                            : LCKV_OK;
}

/* Records which tokens are special: those that the files name, or those of the class. */
static int index_names(const reading *r, bool by_class) {
    json_t *item;
    size_t index;
    for (int i = 0; i < SPECIAL_COUNT; i++)
        if (r->special[i] && r->by_class[i] == by_class) TRY(add_name(r, r->special[i]));
    json_array_foreach(r->more_special, index, item) TRY(add_name(r, item));
    return LCKV_OK;
}

static int note(reading *r, const json_t *token) {
    const json_t *content = content_of(token);
    if (!json_is_string(content)) return LCKV_OK; /* the reader of tokenizer.json reports it */
    return json_object_set(r->known, json_string_value(content), (json_t *)(uintptr_t)token) ? out_of_memory(r)
                                                                                             : LCKV_OK;
}

/* A token with its id, for sorting. */
typedef struct numbered {
    int64_t id;
    json_t *token;
} numbered;

static int by_id(const void *a, const void *b) {
    const numbered *left = a, *right = b;
    return (left->id > right->id) - (left->id < right->id);
}

static int read_number(const reading *r, const char *text, int64_t *out) {
    char *end;
    *out = strtoll(text, &end, 10);
    REQUIRE(*text && !*end && *out >= 0, LCKV_ERROR_FORMAT, "%s: '%.40s' in 'added_tokens_decoder' is not an id",
            r->config_path, text);
    return LCKV_OK;
}

/* Fills `list` from added_tokens_decoder: id -> token. */
static int read_decoder(reading *r, const json_t *decoder, numbered *list) {
    const char *key;
    json_t *token;
    size_t count = 0;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, token) {
        REQUIRE(json_is_object(token), LCKV_ERROR_FORMAT, "%s: '%.40s' in 'added_tokens_decoder' should be an object",
                r->config_path, key);
        TRY(check_token(r, token, "added_tokens_decoder"));
        TRY(read_number(r, key, &list[count].id));
        TRY(note(r, token));
        list[count++].token = token;
    }
    return LCKV_OK;
}

/* Fills `list` from added_tokens.json: content -> id. The tokens are created here and owned by `r->decoder`. */
static int read_added_tokens(reading *r, numbered *list) {
    const char *content;
    json_t *id;
    size_t count = 0;
    json_object_foreach(r->added_tokens, content, id) {
        REQUIRE(json_is_number(id), LCKV_ERROR_FORMAT, "%s/added_tokens.json: the id of '%.80s' should be a number",
                r->folder, content);
        json_t *text = json_string(content);
        json_t *token = text ? token_new(text, is_named(r, text)) : NULL;
        json_decref(text);
        if (json_array_append_new(r->decoder, token)) return out_of_memory(r);
        list[count++] = (numbered){(int64_t)json_number_value(id), token};
    }
    return LCKV_OK;
}

static int sort_decoder(reading *r, const json_t *decoder, numbered *list, size_t count) {
    TRY(decoder ? read_decoder(r, decoder, list) : read_added_tokens(r, list));
    qsort(list, count, sizeof *list, by_id);
    json_t *sorted = json_array();
    for (size_t i = 0; i < count; i++)
        if (!sorted || json_array_append(sorted, list[i].token)) {
            json_decref(sorted);
            return out_of_memory(r);
        }
    json_decref(r->decoder);
    r->decoder = sorted;
    return LCKV_OK;
}

/* The further tokens, sorted by id. The library assigns the ids. */
static int list_decoder(reading *r) {
    const json_t *decoder = json_object_get(r->config, "added_tokens_decoder");
    size_t count = decoder ? json_object_size(decoder) : json_object_size(r->added_tokens);
    REQUIRE(!decoder || json_is_object(decoder), LCKV_ERROR_FORMAT, "%s: 'added_tokens_decoder' should be an object",
            r->config_path);
    if (count == 0) return LCKV_OK;
    numbered *list = calloc(count, sizeof *list);
    if (!list) return out_of_memory(r);
    int status = sort_decoder(r, decoder, list, count);
    free(list);
    return status;
}

static const json_t *listed_token(const json_t *listed, const json_t *token) {
    return json_object_get(listed, json_string_value(content_of(token)));
}

/* Adds tokens to the existing ones, by content. */
static int index_tokens(const reading *r, const json_t *tokens, json_t *there) {
    json_t *token;
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)tokens, index, token) {
        const char *content = json_string_value(content_of(token));
        if (content && json_object_set(there, content, token)) return out_of_memory(r);
    }
    return LCKV_OK;
}

/* Adds a special token. A token that is given as a string does not change an existing one. */
static int add_special(const reading *r, const json_t *there, json_t *out, const json_t *token, bool own) {
    if (!json_is_object(token) && !own && listed_token(there, token)) return LCKV_OK;
    TRY(append(r, out, token, true));
    bool new_name = !*r->class->name && !json_is_object(token);
    return new_name ? known_only(r, out) : LCKV_OK;
}

/* A named token as added_tokens_decoder or tokenizer.json describes it. */
static const json_t *resolved(const reading *r, const json_t *token) {
    const json_t *known = json_object_get(r->known, json_string_value(content_of(token)));
    return known ? known : token;
}

/* `there`: the tokens of tokenizer.json. */
static int list_more_tokens(const reading *r, json_t *there, json_t *out) {
    json_t *token;
    size_t index;
    json_array_foreach(r->decoder, index, token) {
        const json_t *same = listed_token(there, token);
        if (!same || !same_token(same, token))
            TRY(append(r, out, token, flag_of(token, "special", false) || is_named(r, token)));
    }
    TRY(index_tokens(r, r->decoder, there));
    for (int i = 0; i < SPECIAL_COUNT; i++)
        if (r->special[i]) TRY(add_special(r, there, out, resolved(r, r->special[i]), r->class->own_tokens));
    json_array_foreach(r->more_special, index, token) TRY(add_special(r, there, out, token, false));
    return LCKV_OK;
}

/* Reads the names of the special tokens. If the config has added_tokens_decoder, the older files are ignored. */
static int gather_names(reading *r, bool *has_decoder) {
    *has_decoder = json_object_get(r->config, "added_tokens_decoder") != NULL;
    TRY(name_from_config(r));
    return *has_decoder ? LCKV_OK : name_from_map(r);
}

static int gather_tokens(reading *r) {
    bool has_decoder;
    json_t *token;
    size_t index;
    TRY(gather_names(r, &has_decoder));
    TRY(index_names(r, false));
    TRY(list_decoder(r));
    TRY(append_class_tokens(r));
    TRY(append_extra(r));
    TRY(index_names(r, true));
    if (!has_decoder) json_array_foreach(json_object_get(r->root, "added_tokens"), index, token) TRY(note(r, token));
    return LCKV_OK;
}

/* ---- the folder */

/* Whether a value is false in Python: null, false, or absent (then `fallback`). */
static int python_bool(const reading *r, const char *key, bool fallback, bool *out) {
    if (json_is_null(json_object_get(r->config, key))) {
        *out = false;
        return LCKV_OK;
    }
    return json_get_bool(r->config, r->config_path, key, fallback, out);
}

static bool gives_prefix(const reading *r) {
    const json_t *prefix = json_object_get(r->config, "add_prefix_space");
    return prefix && !json_is_null(prefix);
}

/* Whether 4.57 opens the folder; if it does not, the rules of 5.24 apply. 4.57 does not support a list of
 * extra_special_tokens, and if add_prefix_space is given, it builds some classes from tokenizer.model. */
static int opens_in_4_57(const reading *r, bool *out) {
    char *path;
    *out = !json_is_array(json_object_get(r->config, "extra_special_tokens"));
    if (!*out || r->class->prefix != PREFIX_REBUILT || !gives_prefix(r)) return LCKV_OK;
    TRY(path_join(r->folder, "tokenizer.model", &path));
    *out = file_exists(path);
    free(path);
    return LCKV_OK;
}

/* Whether 5.24 uses tokenizer.json unchanged: for some model types whatever their config says, and if no file names a
 * class. */
static bool is_backend_in_5_24(const reading *r) {
    static const char *const types[] = {"mistral", "mixtral", "ministral", "phi3"};
    const char *type = json_string_value(json_object_get(r->model, "model_type"));
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (!strcmp(type, types[i])) return true;
    return !json_is_string(json_object_get(r->config, "tokenizer_class")) &&
           !json_is_string(json_object_get(r->model, "tokenizer_class"));
}

static int read_surrounding(folder_rules *out, const reading *r, bool in_4_57) {
    TRY(python_bool(r, "split_special_tokens", false, &out->splits_special));
    TRY(python_bool(r, "add_bos_token", r->class->adds_bos, &out->adds_bos));
    TRY(python_bool(r, "add_eos_token", false, &out->adds_eos));
    bool names_them =
        (!out->adds_bos || out->bos) && (!out->adds_eos || out->eos); /* otherwise 4.57 does not open it */
    out->surround = !*r->class->name ? SURROUND_ABSENT : SURROUND_FILE;
    if (r->class->surrounds && in_4_57 && names_them) out->surround = SURROUND_FLAGS;
    return LCKV_OK;
}

static json_t *content_reference(const json_t *token) {
    return token ? json_incref((json_t *)(uintptr_t)content_of(token)) : NULL;
}

static int read_rules(folder_rules *out, reading *r, json_t *root) {
    TRY(open_files(r));
    TRY(tokenizer_class_of(r->config, r->model, r->config_path, &r->class));
    r->known = json_object();
    r->decoder = json_array();
    r->more_special = json_array();
    out->more_tokens = json_array();
    r->names = json_object();
    json_t *there = json_object();
    bool made = r->known && r->names && r->decoder && r->more_special && out->more_tokens && there;
    int status = made ? gather_tokens(r) : out_of_memory(r);
    if (status >= 0) status = index_tokens(r, json_object_get(root, "added_tokens"), there);
    if (status >= 0) status = list_more_tokens(r, there, out->more_tokens);
    json_decref(there);
    out->bos = content_reference(r->special[SPECIAL_BOS]);
    out->eos = content_reference(r->special[SPECIAL_EOS]);
    TRY(status);
    bool in_4_57;
    TRY(opens_in_4_57(r, &in_4_57));
    TRY(read_surrounding(out, r, in_4_57));
    if (!in_4_57 && is_backend_in_5_24(r)) return LCKV_OK;
    return prefix_space_apply(root, r->class->prefix, json_object_get(r->config, "add_prefix_space"), r->config,
                              r->config_path);
}

int folder_rules_read(folder_rules *r, json_t *root, const char *folder) {
    *r = (folder_rules){0};
    reading files = {.folder = folder, .root = root};
    int status = read_rules(r, &files, root);
    close_files(&files);
    return status;
}

void folder_rules_free(folder_rules *r) {
    json_decref(r->more_tokens);
    json_decref(r->bos);
    json_decref(r->eos);
    *r = (folder_rules){0};
}

/* ---- for chat templates */

static int put(const reading *r, json_t *out, const char *key, const json_t *token) {
    return json_object_set(out, key, (json_t *)(uintptr_t)content_of(token)) ? out_of_memory(r) : LCKV_OK;
}

static int put_more(const reading *r, json_t *out) {
    json_t *list = json_array(), *token;
    size_t index;
    if (!list || json_object_set_new(out, "additional_special_tokens", list)) return out_of_memory(r);
    json_array_foreach(r->more_special, index, token) {
        if (json_array_append(list, (json_t *)(uintptr_t)content_of(token))) return out_of_memory(r);
    }
    return LCKV_OK;
}

static int put_all(reading *r, json_t *out) {
    const char *key;
    json_t *token;
    bool has_decoder;
    r->more_special = json_array();
    if (!r->more_special) return out_of_memory(r);
    TRY(gather_names(r, &has_decoder));
    for (int i = 0; i < SPECIAL_COUNT; i++)
        if (r->special[i]) TRY(put(r, out, special_token_keys[i], r->special[i]));
    if (json_array_size(r->more_special)) TRY(put_more(r, out));
    json_object_foreach(json_object_get(r->config, "extra_special_tokens"), key, token) {
        TRY(check_token(r, token, key));
        TRY(put(r, out, key, token));
    }
    return LCKV_OK;
}

int folder_special_tokens(const char *folder, json_t **out) {
    reading files = {.folder = folder};
    json_t *tokens = json_object();
    *out = NULL;
    int status = tokens ? open_files(&files) : fail(LCKV_ERROR_MEMORY, "%s: no memory for special tokens", folder);
    if (status >= 0 && tokenizer_class_of(files.config, files.model, files.config_path, &files.class) < 0)
        status = tokenizer_class_of(NULL, NULL, files.config_path, &files.class);
    if (status >= 0) status = put_all(&files, tokens);
    close_files(&files);
    if (status < 0)
        json_decref(tokens);
    else
        *out = tokens;
    return status;
}
