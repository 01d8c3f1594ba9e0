/* The list of tokens of a GGUF file, see gguf_tokens.h. */
#include "text/gguf/gguf_tokens.h"

#include "base/text/utf8.h"

#include <math.h>
#include <string.h>

#define TOKENS "tokenizer.ggml.tokens"

static int add_token(gguf_tokens *t, gguf_text text, int32_t id) {
    const char *path = t->file->path;
    REQUIRE(utf8_valid(text.data, text.bytes) && !memchr(text.data, 0, text.bytes), LCKV_ERROR_FORMAT,
            "%s: key '" TOKENS "': token %d is not UTF-8 text", path, id);
    int32_t other = vocabulary_find(&t->vocabulary, text.data, text.bytes);
    REQUIRE(other == NO_TOKEN, LCKV_ERROR_FORMAT, "%s: key '" TOKENS "': the tokens %d and %d are both '%.*s'", path,
            other, id, (int)(text.bytes < 80 ? text.bytes : 80), text.data);
    return vocabulary_add(&t->vocabulary, text.data, text.bytes, id, false, path);
}

static int read_tokens(gguf_tokens *t, const gguf_key *key) {
    const unsigned char *at = key->data;
    REQUIRE(key->count <= VOCABULARY_MAX_ID + 1, LCKV_ERROR_FORMAT,
            "%s: key '" TOKENS "': %lld tokens, at most %d are supported", t->file->path, (long long)key->count,
            VOCABULARY_MAX_ID + 1);
    for (int32_t id = 0; id < key->count; id++) TRY(add_token(t, gguf_next_string(&at), id));
    return LCKV_OK;
}

static int check_length(const gguf_tokens *t, const char *name, const gguf_key *key) {
    REQUIRE(!key || key->count == t->vocabulary.size, LCKV_ERROR_FORMAT, "%s: key '%s': expected %d items, found %lld",
            t->file->path, name, t->vocabulary.size, (long long)key->count);
    return LCKV_OK;
}

static int read_kinds(gguf_tokens *t) {
    static const char name[] = "tokenizer.ggml.token_type";
    TRY(gguf_get_integers(t->file, name, &t->kinds));
    TRY(check_length(t, name, t->kinds));
    for (int32_t id = 0; t->kinds && id < t->vocabulary.size; id++) {
        int64_t kind = gguf_integer(t->kinds, id);
        REQUIRE(kind >= 0 && kind < GGUF_TOKEN_KINDS, LCKV_ERROR_FORMAT,
                "%s: key '%s': token %d has the unknown type %lld", t->file->path, name, id, (long long)kind);
    }
    return LCKV_OK;
}

static int read_scores(gguf_tokens *t) {
    static const char name[] = "tokenizer.ggml.scores";
    TRY(gguf_get_numbers(t->file, name, &t->scores));
    TRY(check_length(t, name, t->scores));
    for (int32_t id = 0; t->scores && id < t->vocabulary.size; id++)
        REQUIRE(isfinite((float)gguf_number(t->scores, id)), LCKV_ERROR_FORMAT,
                "%s: key '%s': the score of token %d is not finite", t->file->path, name, id);
    return LCKV_OK;
}

int gguf_tokens_read(const gguf_file *f, gguf_tokens *out) {
    const gguf_key *key;
    *out = (gguf_tokens){.file = f};
    TRY(gguf_get_strings(f, TOKENS, &key));
    REQUIRE(key && key->count, LCKV_ERROR_FORMAT, "%s: expected the key '" TOKENS "', found none", f->path);
    TRY(read_tokens(out, key));
    TRY(read_kinds(out));
    return read_scores(out);
}

void gguf_tokens_free(gguf_tokens *t) {
    vocabulary_free(&t->vocabulary);
}

gguf_token_kind gguf_token_kind_of(const gguf_tokens *t, int32_t id) {
    return t->kinds ? (gguf_token_kind)gguf_integer(t->kinds, id) : GGUF_TOKEN_NORMAL;
}

const char *gguf_token_text(const gguf_tokens *t, int32_t id) {
    return vocabulary_text(&t->vocabulary, &t->vocabulary.tokens[id]);
}

int gguf_token_id(const gguf_tokens *t, const char *key, int32_t fallback, int32_t *out) {
    int64_t id;
    TRY(gguf_get_int(t->file, key, fallback, 0, t->vocabulary.size - 1, &id));
    *out = id < t->vocabulary.size ? (int32_t)id : NO_TOKEN; /* a fallback that the file does not have */
    return LCKV_OK;
}
