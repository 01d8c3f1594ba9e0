/* Reading the "model" of a tokenizer file, see bpe.h. */
#include "base/text/utf8.h"
#include "text/subword/bpe.h"
#include "text/subword/component.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Unsupported settings that would change ids must be off. */
static int refuse_settings(const component *c) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    double dropout;
    TRY(json_get_number(c->object, c->where, "dropout", 0, &dropout));
    REQUIRE(dropout == 0, LCKV_ERROR_UNSUPPORTED, "%s: 'dropout' of %g is not supported", c->where, dropout);
    for (size_t i = 0; i < 2; i++) {
        const char *affix;
        TRY(json_get_string(c->object, c->where, affixes[i], "", &affix));
        REQUIRE(!*affix, LCKV_ERROR_UNSUPPORTED, "%s: '%s' of '%.40s' is not supported", c->where, affixes[i], affix);
    }
    return LCKV_OK;
}

static int read_settings(bpe *b, const component *c) {
    const char *unk_token;
    TRY(refuse_settings(c));
    TRY(json_get_bool(c->object, c->where, "fuse_unk", false, &b->fuse_unk));
    TRY(json_get_bool(c->object, c->where, "byte_fallback", false, &b->byte_fallback));
    TRY(json_get_bool(c->object, c->where, "ignore_merges", false, &b->ignore_merges));
    TRY(json_get_string(c->object, c->where, "unk_token", NULL, &unk_token));
    if (!unk_token) return LCKV_OK;
    b->unk_token = strdup(unk_token);
    REQUIRE(b->unk_token, LCKV_ERROR_MEMORY, "%s: no memory for 'unk_token'", c->where);
    return LCKV_OK;
}

static int read_vocabulary(const component *c, vocabulary *v) {
    const json_t *tokens = json_object_get(c->object, "vocab");
    REQUIRE(json_is_object(tokens), LCKV_ERROR_FORMAT, "%s: 'vocab' should be an object of tokens and ids", c->where);
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)tokens, token, id) {
        REQUIRE(json_is_integer(id), LCKV_ERROR_FORMAT, "%s: the id of the token '%.80s' should be an integer",
                c->where, token);
        TRY(vocabulary_add(v, token, strlen(token), json_integer_value(id), false, c->where));
    }
    return LCKV_OK;
}

/* Ids that encoding needs often. */
static void index_characters(bpe *b) {
    for (uint32_t c = 0; c < BPE_CHARACTERS; c++) {
        char character[4];
        b->character_ids[c] = bpe_find(b, character, utf8_write(c, character));
    }
    for (int byte = 0; byte < 256; byte++) {
        char token[8];
        b->byte_ids[byte] = bpe_find(b, token, (size_t)snprintf(token, sizeof token, "<0x%02X>", byte));
    }
    b->unk_id = b->unk_token ? bpe_find(b, b->unk_token, strlen(b->unk_token)) : NO_TOKEN;
}

static size_t longest_token(const vocabulary *v) {
    size_t longest = 1;
    for (int32_t id = 0; id < v->size; id++)
        if (v->tokens[id].present && v->tokens[id].bytes > longest) longest = v->tokens[id].bytes;
    return longest;
}

/* The two sides of a merge: "left right", or ["left", "right"], where a side may contain spaces. */
static int merge_sides(const json_t *merge, const char *where, size_t rank, const char *sides[2], size_t bytes[2]) {
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_is_string(left) && json_is_string(right) && json_array_size(merge) == 2) {
        sides[0] = json_string_value(left);
        bytes[0] = json_string_length(left);
        sides[1] = json_string_value(right);
        bytes[1] = json_string_length(right);
        return LCKV_OK;
    }
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
    REQUIRE(space && !strchr(space + 1, ' '), LCKV_ERROR_FORMAT,
            "%s: merge %zu should be \"left right\" or [\"left\", \"right\"]", where, rank);
    sides[0] = text;
    bytes[0] = (size_t)(space - text);
    sides[1] = space + 1;
    bytes[1] = strlen(space + 1);
    return LCKV_OK;
}

static int merge_token(const bpe *b, const char *token, size_t bytes, const char *where, size_t rank, int32_t *id) {
    *id = bpe_find(b, token, bytes);
    REQUIRE(*id != NO_TOKEN, LCKV_ERROR_FORMAT, "%s: merge %zu requires the token '%.*s', which 'vocab' does not have",
            where, rank, (int)(bytes < 80 ? bytes : 80), token);
    return LCKV_OK;
}

/* Records which characters the merge joins. */
static int note_join(bpe *b, const char *const sides[2], const size_t bytes[2]) {
    uint32_t left, right;
    if (!bytes[0] || !bytes[1]) return LCKV_OK;
    utf8_next(sides[0] + utf8_last(sides[0], bytes[0]), &left);
    utf8_next(sides[1], &right);
    return pair_table_put(&b->joins, pair_of(left, right), 0);
}

static int read_merge(bpe *b, const json_t *merge, const char *where, size_t rank, text_buffer *whole) {
    const char *sides[2] = {0};
    size_t bytes[2] = {0};
    int32_t ids[2], merged;
    TRY(merge_sides(merge, where, rank, sides, bytes));
    whole->length = 0;
    for (int side = 0; side < 2; side++) {
        TRY(merge_token(b, sides[side], bytes[side], where, rank, &ids[side]));
        TRY(text_append(whole, sides[side], bytes[side]));
    }
    TRY(merge_token(b, whole->data, whole->length, where, rank, &merged));
    TRY(note_join(b, sides, bytes));
    return pair_table_put(&b->merges, pair_of((uint32_t)ids[0], (uint32_t)ids[1]), merge_value((uint32_t)rank, merged));
}

static int read_merges(bpe *b, const component *c) {
    const json_t *merges, *merge;
    size_t index, rank = 0;
    text_buffer whole = {0};
    int status = component_list(c, "merges", &merges);
    if (status >= 0 && json_array_size(merges) >= UINT32_MAX)
        status = fail(LCKV_ERROR_FORMAT, "%s: too many merges", c->where);
    if (status < 0) return status;
    json_array_foreach((json_t *)(uintptr_t)merges, index, merge) {
        const char *text = json_string_value(merge);
        if (text && !strncmp(text, "#version", 8)) continue; /* the first line of merges.txt, which old writers kept */
        status = read_merge(b, merge, c->where, rank++, &whole);
        if (status < 0) break;
    }
    text_free(&whole);
    return status;
}

int bpe_read(bpe *b, const json_t *model, vocabulary *v, const char *name) {
    component c;
    *b = (bpe){.vocabulary = v};
    /* early files have no type */
    TRY(component_open(model, name, "model", json_object_get(model, "merges") ? "BPE" : NULL, &c));
    if (strcmp(c.type, "BPE") != 0) return component_unsupported(&c);
    TRY(component_keys(&c, "dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback "
                           "ignore_merges vocab merges"));
    TRY(read_settings(b, &c));
    TRY(read_vocabulary(&c, v));
    index_characters(b);
    b->longest = longest_token(v);
    TRY(read_merges(b, &c));
    return word_cache_create(&b->cache);
}
