/* Tokenizers in GGUF files, see gguf_vocabulary.h. text/gguf reads them. */
#include "io/gguf/gguf_vocabulary.h"

#include "base/log.h"
#include "text/gguf/gguf_merges.h"
#include "text/gguf/gguf_pre_tokenizer.h"
#include "text/gguf/gguf_tokenizer.h"
#include "text/gguf/gguf_tokens.h"
#include "text/tokenizer/folder_rules.h"
#include "text/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "tokenizer.ggml."

/* The tokenizer that is written. */
typedef struct source {
    const char *folder;
    const model_config *config;
    lckv_tokenizer *tokenizer;
    json_t *root; /* tokenizer.json */
    bool pieces;  /* SentencePiece BPE, otherwise byte-level BPE */
    const gguf_pre_tokenizer *pre;
    bool prefix_space; /* SentencePiece */
    int64_t rows;
} source;

static int unsupported(const source *s, const char *what) {
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: llama.cpp has no tokenizer with %s", s->folder, what);
}

static const json_t *model_of(const source *s) {
    return json_object_get(s->root, "model");
}

/* ---------------------------------------------------------------- what kind of tokenizer */

/* Whether a normalizer replaces spaces by U+2581, and whether it puts one before the text. */
static bool replaces_spaces(const json_t *given, bool *prefix) {
    const json_t *steps = json_object_get(given, "normalizers"), *step;
    json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", "▁");
    json_t *prepend = json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "▁");
    size_t index, replacements = 0, others = 0;
    *prefix = false;
    if (!steps) replacements = json_equal((json_t *)(uintptr_t)given, replace);
    json_array_foreach((json_t *)(uintptr_t)steps, index, step) {
        bool prepends = json_equal((json_t *)(uintptr_t)step, prepend);
        bool replaces = json_equal((json_t *)(uintptr_t)step, replace);
        *prefix = *prefix || (prepends && !replacements);
        replacements += replaces;
        others += !prepends && !replaces;
    }
    json_decref(replace);
    json_decref(prepend);
    return replacements == 1 && !others;
}

static bool is_absent(const json_t *value) {
    return !value || json_is_null(value);
}

static int find_kind(source *s) {
    if (s->tokenizer->unigram.nodes) return unsupported(s, "a Unigram model");
    TRY(gguf_pre_tokenizer_of(s->root, &s->pre));
    if (s->pre) return LCKV_OK;
    s->pieces = s->tokenizer->model.byte_fallback && is_absent(json_object_get(s->root, "pre_tokenizer")) &&
                replaces_spaces(json_object_get(s->root, "normalizer"), &s->prefix_space);
    return s->pieces ? LCKV_OK : unsupported(s, "this normalizer and this pre-tokenizer");
}

/* ---------------------------------------------------------------- tokens */

static bool is_byte_token(const source *s, int32_t id) {
    unsigned byte;
    int end = 0;
    const char *text = vocabulary_text(&s->tokenizer->vocabulary, &s->tokenizer->vocabulary.tokens[id]);
    return s->pieces && sscanf(text, "<0x%2X>%n", &byte, &end) == 1 && end && !text[end] &&
           s->tokenizer->model.byte_ids[byte] == id;
}

static gguf_token_kind kind_of(const source *s, int32_t id) {
    const token_entry *token = vocabulary_entry(&s->tokenizer->vocabulary, id);
    if (!token) return GGUF_TOKEN_UNUSED;
    if (s->pieces && id == s->tokenizer->model.unk_id) return GGUF_TOKEN_UNKNOWN;
    if (token->special) return GGUF_TOKEN_CONTROL;
    if (token->listed) return GGUF_TOKEN_USER;
    return is_byte_token(s, id) ? GGUF_TOKEN_BYTE : GGUF_TOKEN_NORMAL;
}

/* Ids without a token get a text that no other has. */
static int put_texts(gguf_keys *k, const source *s) {
    const vocabulary *v = &s->tokenizer->vocabulary;
    TRY(gguf_begin_array(k, PREFIX "tokens", GGUF_STRING, (uint64_t)s->rows));
    for (int32_t id = 0; id < s->rows; id++) {
        const token_entry *token = vocabulary_entry(v, id);
        char pad[32];
        int bytes = snprintf(pad, sizeof pad, "[PAD%d]", id);
        while (!token && bytes < (int)sizeof pad - 1 && vocabulary_find(v, pad, (size_t)bytes) != NO_TOKEN)
            pad[bytes++] = ']';
        TRY(token ? gguf_add_string(k, vocabulary_text(v, token), token->bytes)
                  : gguf_add_string(k, pad, (size_t)bytes));
    }
    return LCKV_OK;
}

static int put_kinds(gguf_keys *k, const source *s) {
    TRY(gguf_begin_array(k, PREFIX "token_type", GGUF_INT32, (uint64_t)s->rows));
    for (int32_t id = 0; id < s->rows; id++) TRY(gguf_add_int(k, kind_of(s, id)));
    return LCKV_OK;
}

/* Flags of added tokens that GGUF does not have. */
static void warn_of_flags(const source *s) {
    static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
    const json_t *token;
    size_t index;
    json_array_foreach(json_object_get(s->root, "added_tokens"), index, token) {
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            if (json_is_true(json_object_get(token, flags[i])))
                log_message(LCKV_LOG_WARNING, "%s: GGUF files do not have the flag '%s' of the token '%.80s'",
                            s->folder, flags[i], json_string_value(json_object_get(token, "content")));
    }
}

/* ---------------------------------------------------------------- merges */

/* The two sides of a merge as one string with a space between them, as GGUF has it. */
static int merge_text(const source *s, const json_t *merge, text_buffer *out) {
    const json_t *sides[2] = {json_array_get(merge, 0), json_array_get(merge, 1)};
    out->length = 0;
    if (json_is_string(merge)) return text_append(out, json_string_value(merge), json_string_length(merge));
    for (int i = 0; i < 2; i++) {
        const char *text = json_string_value(sides[i]);
        if (strchr(text, ' ')) return unsupported(s, "a space in a merge");
        TRY(text_printf(out, "%s%s", i ? " " : "", text));
    }
    return LCKV_OK;
}

static int put_merges(gguf_keys *k, const source *s) {
    const json_t *merges = json_object_get(model_of(s), "merges"), *merge;
    text_buffer text = {0};
    size_t index, comments = 0;
    json_array_foreach((json_t *)(uintptr_t)merges, index, merge) comments +=
        json_is_string(merge) && !strncmp(json_string_value(merge), "#version", 8);
    int status = gguf_begin_array(k, PREFIX "merges", GGUF_STRING, json_array_size(merges) - comments);
    json_array_foreach((json_t *)(uintptr_t)merges, index, merge) {
        if (status >= 0) status = merge_text(s, merge, &text);
        if (status >= 0 && strncmp(text.data, "#version", 8) != 0) status = gguf_add_string(k, text.data, text.length);
    }
    text_free(&text);
    return status;
}

/* The token that a merge makes; NO_TOKEN if there is none. */
static int merged_token(const source *s, const json_t *merge, text_buffer *text, int32_t *out) {
    TRY(merge_text(s, merge, text));
    char *space = strchr(text->data, ' ');
    *out = NO_TOKEN;
    if (!space) return LCKV_OK;
    memmove(space, space + 1, text->length - (size_t)(space - text->data));
    *out = vocabulary_find(&s->tokenizer->vocabulary, text->data, text->length - 1);
    return LCKV_OK;
}

/* The number of the last merge that makes each token; -1: none does. */
static int last_merges(const source *s, int64_t *last) {
    const json_t *merges = json_object_get(model_of(s), "merges"), *merge;
    text_buffer text = {0};
    int status = LCKV_OK;
    size_t index;
    int32_t id;
    for (int64_t i = 0; i < s->rows; i++) last[i] = -1;
    json_array_foreach((json_t *)(uintptr_t)merges, index, merge) {
        if (status >= 0) status = merged_token(s, merge, &text, &id);
        if (status >= 0 && id != NO_TOKEN) last[id] = (int64_t)index;
    }
    text_free(&text);
    return status;
}

/* The score of a token is minus the number of its first merge. Tokens whose merges are mixed have equal scores. Tokens
 * that no merge makes have lower ones. */
static int fill_scores(const source *s, const int64_t *last, float *scores) {
    const json_t *merges = json_object_get(model_of(s), "merges"), *merge;
    text_buffer text = {0};
    int64_t first = 0, end = -1; /* of merges whose tokens have equal scores */
    int status = LCKV_OK;
    size_t index;
    int32_t id;
    for (int64_t i = 0; i < s->rows; i++) scores[i] = -(float)(json_array_size(merges) + (size_t)i + 1);
    json_array_foreach((json_t *)(uintptr_t)merges, index, merge) {
        if (status >= 0) status = merged_token(s, merge, &text, &id);
        if (status < 0 || id == NO_TOKEN) continue;
        if ((int64_t)index > end) first = (int64_t)index;
        if (last[id] > end) end = last[id];
        scores[id] = -(float)first;
    }
    text_free(&text);
    return status;
}

static int scores_of_merges(const source *s, float *scores) {
    int64_t *last = calloc((size_t)s->rows, sizeof *last);
    int status = last ? last_merges(s, last) : fail(LCKV_ERROR_MEMORY, "%s: no memory for its merges", s->folder);
    if (status >= 0) status = fill_scores(s, last, scores);
    free(last);
    return status;
}

/* Whether both lists have the same merges in the same order. */
static int compare_merges(const source *s, const json_t *made) {
    const json_t *merges = json_object_get(model_of(s), "merges"), *merge;
    text_buffer a = {0}, b = {0};
    size_t index;
    bool same = json_array_size(merges) == json_array_size(made);
    int status = LCKV_OK;
    json_array_foreach((json_t *)(uintptr_t)merges, index, merge) {
        if (status < 0 || !same) break;
        status = merge_text(s, merge, &a);
        if (status >= 0) status = merge_text(s, json_array_get(made, index), &b);
        same = status < 0 || (a.length == b.length && memcmp(a.data, b.data, a.length) == 0);
    }
    text_free(&a);
    text_free(&b);
    if (status >= 0 && !same) return unsupported(s, "merges that do not follow from scores of the tokens");
    return status;
}

/* Reads the scores back as merges, which have to be those of the tokenizer. */
static int check_scores(const source *s, const float *scores, bool *merged) {
    json_t *made;
    for (int32_t id = 0; id < s->rows; id++) merged[id] = kind_of(s, id) == GGUF_TOKEN_NORMAL;
    TRY(gguf_merges(&s->tokenizer->vocabulary, merged, scores, s->folder, &made));
    int status = compare_merges(s, made);
    json_decref(made);
    return status;
}

static int put_scores(gguf_keys *k, const source *s) {
    float *scores = calloc((size_t)s->rows, sizeof *scores);
    bool *merged = calloc((size_t)s->rows, sizeof *merged);
    int status = scores && merged ? scores_of_merges(s, scores)
                                  : fail(LCKV_ERROR_MEMORY, "%s: no memory for its tokenizer", s->folder);
    if (status >= 0) status = check_scores(s, scores, merged);
    if (status >= 0) status = gguf_begin_array(k, PREFIX "scores", GGUF_FLOAT32, (uint64_t)s->rows);
    for (int32_t id = 0; id < s->rows && status >= 0; id++)
        status = gguf_add_float(k, kind_of(s, id) == GGUF_TOKEN_NORMAL ? scores[id] : 0);
    free(scores);
    free(merged);
    return status;
}

/* ---------------------------------------------------------------- special tokens */

static int put_id(gguf_keys *k, const char *name, int32_t id) {
    return id < 0 ? LCKV_OK : gguf_put_uint(k, name, (uint32_t)id);
}

/* Whether the ids around a text are one BOS (or EOS), or none. */
static int check_around(const source *s, const id_list *around, int32_t id, bool *adds) {
    *adds = around->count == 1 && around->ids[0] == id;
    return *adds || around->count == 0 ? LCKV_OK : unsupported(s, "other tokens than BOS and EOS around a text");
}

/* `eos` is the tokenizer's; without one, EOS is the config's; a further EOS of the config is the end of a turn. */
static int put_eos(gguf_keys *k, const model_config *c, int32_t eos) {
    int32_t turn = NO_TOKEN;
    if (eos == NO_TOKEN && c->eos_count) eos = c->eos_token_ids[0];
    for (int i = c->eos_count - 1; i >= 0; i--)
        if (c->eos_token_ids[i] != eos) turn = c->eos_token_ids[i];
    TRY(put_id(k, PREFIX "eos_token_id", eos));
    return put_id(k, PREFIX "eot_token_id", turn);
}

static int put_special(gguf_keys *k, const source *s) {
    const lckv_tokenizer *t = s->tokenizer;
    bool bos, eos;
    TRY(check_around(s, &t->post_processor.before, t->bos_id, &bos));
    TRY(check_around(s, &t->post_processor.after, t->eos_id, &eos));
    TRY(put_id(k, PREFIX "bos_token_id", t->bos_id));
    TRY(put_eos(k, s->config, t->eos_id));
    TRY(put_id(k, PREFIX "padding_token_id", s->config->pad_token_id));
    if (s->pieces) TRY(put_id(k, PREFIX "unknown_token_id", t->model.unk_id));
    TRY(gguf_put_bool(k, PREFIX "add_bos_token", bos));
    return gguf_put_bool(k, PREFIX "add_eos_token", eos);
}

static int put_template(gguf_keys *k, const char *folder) {
    lckv_chat_template *t;
    TRY(lckv_chat_template_open(folder, NULL, &t));
    int status = t ? gguf_put_string(k, "tokenizer.chat_template", lckv_chat_template_source(t)) : LCKV_OK;
    lckv_chat_template_free(t);
    return status;
}

/* ---------------------------------------------------------------- all */

static int put_parts(gguf_keys *k, source *s) {
    TRY(find_kind(s));
    REQUIRE(s->tokenizer->vocabulary.size <= s->rows, LCKV_ERROR_ARGUMENT,
            "%s: the tokenizer has %d tokens, but the model has %lld", s->folder, s->tokenizer->vocabulary.size,
            (long long)s->rows);
    warn_of_flags(s);
    TRY(gguf_put_string(k, PREFIX "model", s->pieces ? "llama" : "gpt2"));
    if (s->pre) {
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(s->pre->names, " "), s->pre->names);
        TRY(gguf_put_string(k, PREFIX "pre", name));
    } else {
        TRY(gguf_put_string(k, PREFIX "pre", "default"));
        TRY(gguf_put_bool(k, PREFIX "add_space_prefix", s->prefix_space));
    }
    TRY(put_texts(k, s));
    TRY(s->pieces ? put_scores(k, s) : put_merges(k, s));
    TRY(put_kinds(k, s));
    TRY(put_special(k, s));
    return put_template(k, s->folder);
}

static int read_root(const char *folder, json_t **out) {
    char *path;
    if (gguf_is_file(folder)) return gguf_tokenizer_file(folder, "tokenizer.json", out);
    TRY(path_join(folder, "tokenizer.json", &path));
    int status = path_exists(path) ? json_read_file(path, out) : LCKV_OK;
    free(path);
    return status;
}

static int put_ids_alone(gguf_keys *k, const model_config *c) {
    TRY(gguf_put_string(k, PREFIX "model", "none"));
    TRY(put_id(k, PREFIX "bos_token_id", c->bos_token_id));
    return put_eos(k, c, NO_TOKEN);
}

int gguf_put_tokenizer(gguf_keys *k, const char *folder, const model_config *config) {
    source s = {.folder = folder, .config = config, .rows = config->vocab_size};
    TRY(read_root(folder, &s.root));
    if (!s.root) return put_ids_alone(k, config);
    int status = lckv_tokenizer_open(folder, &s.tokenizer);
    if (status >= 0) status = put_parts(k, &s);
    lckv_tokenizer_free(s.tokenizer);
    json_decref(s.root);
    return status;
}
