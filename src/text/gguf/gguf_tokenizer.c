/* The tokenizer of a GGUF file as files of a folder, see gguf_tokenizer.h. */
#include "text/gguf/gguf_tokenizer.h"

#include "text/gguf/gguf_merges.h"
#include "text/gguf/gguf_pre_tokenizer.h"
#include "text/gguf/gguf_tokens.h"

#include "base/text/utf8.h"

#include <stdlib.h>
#include <string.h>

#define PREFIX "tokenizer.ggml."

typedef enum model_kind { MODEL_NONE, MODEL_BYTES, MODEL_PIECES } model_kind;

/* What both files are made of. */
typedef struct reading {
    const gguf_file *file;
    model_kind kind;
    const gguf_pre_tokenizer *pre; /* MODEL_BYTES */
    gguf_tokens tokens;
    int32_t bos, eos, unknown; /* NO_TOKEN: none */
    bool adds_bos, adds_eos, prefix_space;
} reading;

static int no_memory(const reading *r) {
    return fail(LCKV_ERROR_MEMORY, "%s: no memory for its tokenizer", r->file->path);
}

/* ---------------------------------------------------------------- keys */

static int read_pre_tokenizer(reading *r) {
    gguf_text name;
    TRY(gguf_get_string(r->file, PREFIX "pre", &name));
    REQUIRE(name.data, LCKV_ERROR_UNSUPPORTED,
            "%s: key '" PREFIX
            "pre', the name of the pre-tokenizer, is missing; use --tokenizer_name with the tokenizer "
            "of the model that the file was made from",
            r->file->path);
    r->pre = gguf_pre_tokenizer_named(name);
    REQUIRE(r->pre, LCKV_ERROR_UNSUPPORTED,
            "%s: key '" PREFIX
            "pre': the pre-tokenizer '%.*s' is not supported; use --tokenizer_name with the tokenizer "
            "of the model that the file was made from",
            r->file->path, (int)(name.bytes < 60 ? name.bytes : 60), name.data);
    return LCKV_OK;
}

static int read_kind(reading *r) {
    gguf_text model;
    TRY(gguf_get_string(r->file, PREFIX "model", &model));
    if (!model.data || gguf_text_is(model, "none") || gguf_text_is(model, "no_vocab")) return LCKV_OK;
    r->kind = gguf_text_is(model, "gpt2") ? MODEL_BYTES : MODEL_PIECES;
    REQUIRE(r->kind == MODEL_BYTES || gguf_text_is(model, "llama"), LCKV_ERROR_UNSUPPORTED,
            "%s: key '" PREFIX "model': the tokenizer '%.*s' is not supported, only gpt2 and llama", r->file->path,
            (int)(model.bytes < 60 ? model.bytes : 60), model.data);
    return r->kind == MODEL_BYTES ? read_pre_tokenizer(r) : LCKV_OK;
}

/* Keys that are not read here may only name tokens, or be without effect. */
static int check_keys(const reading *r) {
    static const char *const known[] = {
        "model",         "pre",           "tokens",          "token_type", "scores", "merges", "token_type_count",
        "add_bos_token", "add_eos_token", "add_space_prefix"};
    static const char *const off[] = {"add_sep_token", "remove_extra_whitespaces", "escape_whitespaces",
                                      "normalizer.lowercase"};
    size_t prefix = sizeof PREFIX - 1;
    for (int64_t i = 0; i < r->file->key_count; i++) {
        const gguf_key *key = &r->file->keys[i];
        if (key->name.bytes < prefix || memcmp(key->name.data, PREFIX, prefix) != 0) continue;
        gguf_text rest = {key->name.data + prefix, key->name.bytes - prefix};
        bool fine = (rest.bytes > 9 && memcmp(rest.data + rest.bytes - 9, "_token_id", 9) == 0) ||
                    (rest.bytes > 10 && memcmp(rest.data + rest.bytes - 10, "_token_ids", 10) == 0);
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) fine = fine || gguf_text_is(rest, known[k]);
        for (size_t k = 0; k < sizeof off / sizeof *off; k++)
            fine = fine || (gguf_text_is(rest, off[k]) && key->type == GGUF_BOOL && !key->array && !*key->data);
        REQUIRE(fine, LCKV_ERROR_UNSUPPORTED, "%s: key '%.*s' is not supported", r->file->path, (int)key->name.bytes,
                key->name.data);
    }
    return LCKV_OK;
}

/* The defaults are those of llama.cpp, which has its own for SentencePiece. */
static int read_special(reading *r) {
    bool pieces = r->kind == MODEL_PIECES;
    TRY(gguf_token_id(&r->tokens, PREFIX "bos_token_id", pieces ? 1 : NO_TOKEN, &r->bos));
    TRY(gguf_token_id(&r->tokens, PREFIX "eos_token_id", pieces ? 2 : NO_TOKEN, &r->eos));
    TRY(gguf_token_id(&r->tokens, PREFIX "unknown_token_id", pieces ? 0 : NO_TOKEN, &r->unknown));
    TRY(gguf_get_bool(r->file, PREFIX "add_bos_token", pieces || r->pre->adds_bos, &r->adds_bos));
    TRY(gguf_get_bool(r->file, PREFIX "add_eos_token", false, &r->adds_eos));
    TRY(gguf_get_bool(r->file, PREFIX "add_space_prefix", pieces, &r->prefix_space));
    REQUIRE(!r->adds_bos || r->bos != NO_TOKEN, LCKV_ERROR_FORMAT,
            "%s: a BOS token should be added, but the key '" PREFIX "bos_token_id' is missing", r->file->path);
    REQUIRE(!r->adds_eos || r->eos != NO_TOKEN, LCKV_ERROR_FORMAT,
            "%s: an EOS token should be added, but the key '" PREFIX "eos_token_id' is missing", r->file->path);
    REQUIRE(pieces || !r->prefix_space, LCKV_ERROR_UNSUPPORTED,
            "%s: key '" PREFIX "add_space_prefix' is not supported "
            "with the tokenizer gpt2",
            r->file->path);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- the model */

/* Text to id. Errors of memory are counted. */
static json_t *vocabulary_json(const reading *r) {
    json_t *out = json_object();
    int failed = 0;
    for (int32_t id = 0; id < r->tokens.vocabulary.size && !failed; id++)
        failed = json_object_set_new(out, gguf_token_text(&r->tokens, id), json_integer(id));
    if (!failed) return out;
    json_decref(out);
    return NULL;
}

/* "left right", as in tokenizer.json. */
static int read_merges(const reading *r, json_t **out) {
    const gguf_key *key;
    *out = NULL;
    TRY(gguf_get_strings(r->file, PREFIX "merges", &key));
    REQUIRE(key, LCKV_ERROR_FORMAT, "%s: expected the key '" PREFIX "merges', found none", r->file->path);
    json_t *list = json_array();
    const unsigned char *at = key->data;
    int status = list ? LCKV_OK : no_memory(r);
    for (int64_t i = 0; i < key->count && status >= 0; i++) {
        gguf_text merge = gguf_next_string(&at);
        if (!utf8_valid(merge.data, merge.bytes))
            status = fail(LCKV_ERROR_FORMAT, "%s: key '" PREFIX "merges': merge %lld is not UTF-8", r->file->path,
                          (long long)i);
        else if (json_array_append_new(list, json_stringn(merge.data, merge.bytes)))
            status = no_memory(r);
    }
    if (status < 0)
        json_decref(list);
    else
        *out = list;
    return status;
}

/* Only normal tokens result from merges; the others have their own way into a text. */
static int merges_of_scores(const reading *r, bool *merged, float *scores, json_t **out) {
    for (int32_t id = 0; id < r->tokens.vocabulary.size; id++) {
        gguf_token_kind kind = gguf_token_kind_of(&r->tokens, id);
        merged[id] = kind == GGUF_TOKEN_NORMAL || kind == GGUF_TOKEN_UNDEFINED;
        scores[id] = (float)gguf_number(r->tokens.scores, id);
    }
    return gguf_merges(&r->tokens.vocabulary, merged, scores, r->file->path, out);
}

static int make_merges(const reading *r, json_t **out) {
    *out = NULL;
    REQUIRE(r->tokens.scores, LCKV_ERROR_FORMAT, "%s: expected the key '" PREFIX "scores', found none", r->file->path);
    size_t count = (size_t)r->tokens.vocabulary.size;
    bool *merged = calloc(count, sizeof *merged);
    float *scores = calloc(count, sizeof *scores);
    int status = merged && scores ? merges_of_scores(r, merged, scores, out) : no_memory(r);
    free(merged);
    free(scores);
    return status;
}

static int make_model(const reading *r, json_t **out) {
    bool pieces = r->kind == MODEL_PIECES;
    json_t *merges;
    TRY(pieces ? make_merges(r, &merges) : read_merges(r, &merges));
    const char *unknown = pieces && r->unknown != NO_TOKEN ? gguf_token_text(&r->tokens, r->unknown) : NULL;
    *out =
        json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token", unknown,
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", pieces, "byte_fallback", pieces,
                  "ignore_merges", !pieces && r->pre->ignore_merges, "vocab", vocabulary_json(r), "merges", merges);
    return *out ? LCKV_OK : no_memory(r);
}

/* ---------------------------------------------------------------- the other parts of tokenizer.json */

static json_t *added_tokens(const reading *r) {
    json_t *list = json_array();
    int failed = 0;
    for (int32_t id = 0; id < r->tokens.vocabulary.size && !failed; id++) {
        gguf_token_kind kind = gguf_token_kind_of(&r->tokens, id);
        if (kind != GGUF_TOKEN_CONTROL && kind != GGUF_TOKEN_UNKNOWN && kind != GGUF_TOKEN_USER) continue;
        failed =
            json_array_append_new(list, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)id, "content",
                                                  gguf_token_text(&r->tokens, id), "single_word", 0, "lstrip", 0,
                                                  "rstrip", 0, "normalized", 0, "special", kind != GGUF_TOKEN_USER));
    }
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

static json_t *normalizer(const reading *r) {
    if (r->kind == MODEL_BYTES) return gguf_normalizer_json(r->pre);
    json_t *spaces = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", "▁");
    if (!r->prefix_space) return spaces;
    return json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type", "Prepend", "prepend", "▁",
                     spaces);
}

static json_t *byte_level(bool trim_offsets) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", trim_offsets,
                     "use_regex", 1);
}

static json_t *decoder(const reading *r) {
    if (r->kind == MODEL_BYTES) return byte_level(true);
    json_t *steps = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String", "▁",
                              "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (r->prefix_space)
        json_array_append_new(
            steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
}

static json_t *special_entry(const reading *r, int32_t id, int type) {
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", gguf_token_text(&r->tokens, id), "type_id", type);
}

/* Appends a text with the special tokens around it. */
static int append_text(const reading *r, json_t *list, const char *sequence, int type) {
    int failed = 0;
    if (r->adds_bos) failed += json_array_append_new(list, special_entry(r, r->bos, type));
    failed += json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "Sequence", "id", sequence, "type_id", type));
    if (r->adds_eos) failed += json_array_append_new(list, special_entry(r, r->eos, type));
    return failed;
}

static int name_special(const reading *r, json_t *tokens, int32_t id) {
    const char *text = gguf_token_text(&r->tokens, id);
    return json_object_set_new(tokens, text,
                               json_pack("{s:s, s:[i], s:[s]}", "id", text, "ids", (int)id, "tokens", text));
}

/* Fills parts of a template. Returns 0, or a negative number if memory ran out. */
static int fill_template(const reading *r, json_t *single, json_t *pair, json_t *tokens) {
    int failed = append_text(r, single, "A", 0) + append_text(r, pair, "A", 0) + append_text(r, pair, "B", 1);
    if (r->adds_bos) failed += name_special(r, tokens, r->bos);
    if (r->adds_eos) failed += name_special(r, tokens, r->eos);
    return failed;
}

static json_t *template_processing(const reading *r) {
    json_t *single = json_array(), *pair = json_array(), *tokens = json_object();
    int failed = fill_template(r, single, pair, tokens);
    json_t *out = json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                            "special_tokens", tokens);
    if (!failed) return out;
    json_decref(out);
    return NULL;
}

static json_t *post_processor(const reading *r) {
    bool adds = r->adds_bos || r->adds_eos;
    if (r->kind == MODEL_PIECES) return adds ? template_processing(r) : json_null();
    if (!adds) return byte_level(false);
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "processors", byte_level(false), template_processing(r));
}

static int make_tokenizer(const reading *r, json_t **out) {
    json_t *model;
    TRY(make_model(r, &model));
    json_t *pre = r->kind == MODEL_BYTES ? gguf_pre_tokenizer_json(r->pre) : json_null();
    *out = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
                     "added_tokens", added_tokens(r), "normalizer", normalizer(r), "pre_tokenizer", pre,
                     "post_processor", post_processor(r), "decoder", decoder(r), "model", model);
    return *out ? LCKV_OK : no_memory(r);
}

/* ---------------------------------------------------------------- tokenizer_config.json */

static int put_text(const reading *r, json_t *out, const char *key, gguf_text text, const char *where) {
    if (!text.data) return LCKV_OK;
    REQUIRE(utf8_valid(text.data, text.bytes), LCKV_ERROR_FORMAT, "%s: key '%s' is not UTF-8", r->file->path, where);
    return json_object_set_new(out, key, json_stringn(text.data, text.bytes)) ? no_memory(r) : LCKV_OK;
}

static int put_special(const reading *r, json_t *out) {
    static const char *const names[][2] = {{"pad_token", PREFIX "padding_token_id"},
                                           {"sep_token", PREFIX "seperator_token_id"}, /* as the format spells it */
                                           {"mask_token", PREFIX "mask_token_id"}};
    int32_t known[] = {r->bos, r->eos, r->unknown};
    static const char *const known_names[] = {"bos_token", "eos_token", "unk_token"};
    for (int i = 0; i < 3; i++) {
        int32_t other;
        TRY(gguf_token_id(&r->tokens, names[i][1], NO_TOKEN, &other));
        const char *text = known[i] != NO_TOKEN ? gguf_token_text(&r->tokens, known[i]) : NULL;
        if (text && json_object_set_new(out, known_names[i], json_string(text))) return no_memory(r);
        text = other != NO_TOKEN ? gguf_token_text(&r->tokens, other) : NULL;
        if (text && json_object_set_new(out, names[i][0], json_string(text))) return no_memory(r);
    }
    return LCKV_OK;
}

/* A list of named templates: the default one and tokenizer.chat_template.NAME. */
static int put_named_templates(const reading *r, json_t *out, const gguf_key *names) {
    json_t *list = json_array(), *standard = json_incref(json_object_get(out, "chat_template"));
    const unsigned char *at = names->data;
    if (standard) json_array_append_new(list, json_pack("{s:s, s:o}", "name", "default", "template", standard));
    if (json_object_set_new(out, "chat_template", list)) return no_memory(r);
    for (int64_t i = 0; i < names->count; i++) {
        gguf_text name = gguf_next_string(&at), text;
        text_buffer key = {0};
        json_t *entry = json_object();
        int status =
            text_printf(&key, "tokenizer.chat_template.%.*s", (int)(name.bytes < 200 ? name.bytes : 200), name.data);
        if (status >= 0) status = gguf_get_string(r->file, key.data, &text);
        if (status >= 0) status = put_text(r, entry, "name", name, "tokenizer.chat_templates");
        if (status >= 0) status = put_text(r, entry, "template", text, key.data);
        text_free(&key);
        if (json_array_append_new(list, entry) && status >= 0) status = no_memory(r);
        TRY(status);
    }
    return LCKV_OK;
}

static int fill_config(const reading *r, json_t *out) {
    gguf_text text;
    const gguf_key *names;
    TRY(put_special(r, out));
    TRY(gguf_get_string(r->file, "tokenizer.chat_template", &text));
    TRY(put_text(r, out, "chat_template", text, "tokenizer.chat_template"));
    TRY(gguf_get_strings(r->file, "tokenizer.chat_templates", &names));
    return names ? put_named_templates(r, out, names) : LCKV_OK;
}

static int make_config(const reading *r, json_t **out) {
    *out = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces", 0);
    if (!*out) return no_memory(r);
    int status = fill_config(r, *out);
    if (status >= 0) return LCKV_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}

/* ---------------------------------------------------------------- both */

static int read_file(reading *r, bool config, json_t **out) {
    TRY(read_kind(r));
    if (r->kind == MODEL_NONE) return LCKV_OK;
    TRY(check_keys(r));
    TRY(gguf_tokens_read(r->file, &r->tokens));
    TRY(read_special(r));
    return config ? make_config(r, out) : make_tokenizer(r, out);
}

int gguf_tokenizer_file(const char *path, const char *name, json_t **out) {
    bool config = !strcmp(name, "tokenizer_config.json");
    gguf_file file;
    *out = NULL;
    if (!config && strcmp(name, "tokenizer.json") != 0) return LCKV_OK;
    TRY(gguf_open(path, &file));
    reading r = {.file = &file};
    int status = read_file(&r, config, out);
    gguf_tokens_free(&r.tokens);
    gguf_close(&file);
    return status;
}
