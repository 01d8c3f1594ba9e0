/* Reading the added tokens of a tokenizer file: see added_tokens.h. */
#include "text/added_tokens.h"
#include "text/component.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a file says of a token. */
typedef struct token_spec {
    const char *content;
    size_t bytes;
    int64_t id;
    bool normalized, lstrip, rstrip, single_word, special;
} token_spec;

static int read_spec(const json_t *value, const char *file, token_spec *out) {
    component c;
    TRY(component_open(value, file, "added_tokens", "", &c));
    TRY(component_keys(&c, "id content single_word lstrip rstrip normalized special"));
    TRY(component_string(&c, "content", &out->content, &out->bytes));
    TRY(json_get_int(value, c.where, "id", -1, &out->id));
    TRY(json_get_bool(value, c.where, "special", false, &out->special));
    TRY(json_get_bool(value, c.where, "normalized", !out->special, &out->normalized));
    TRY(json_get_bool(value, c.where, "lstrip", false, &out->lstrip));
    TRY(json_get_bool(value, c.where, "rstrip", false, &out->rstrip));
    return json_get_bool(value, c.where, "single_word", false, &out->single_word);
}

/* The tokenizers library gives a token the model's id, or counts on from the largest one; a file that says another id
 * means a vocabulary with holes, for which writer and reader disagree. */
static int check_id(const token_spec *spec, const vocabulary *v, int32_t model_count, int32_t largest,
                    const char *file) {
    int32_t known = vocabulary_find(v, spec->content, spec->bytes);
    int32_t expected = known != NO_TOKEN ? known : largest >= model_count ? largest + 1 : model_count;
    REQUIRE(spec->id == expected, LCKV_ERROR_FORMAT,
            "%s: the added token '%.80s' has id %" PRId64 ", but its place in the vocabulary is %" PRId32, file,
            spec->content, spec->id, expected);
    return LCKV_OK;
}

/* The string that is looked for: normalized, where the text that it is looked for in is. */
static int searched_content(const token_spec *spec, const normalizer *n, const char *file, added_token *token) {
    text_buffer content = {0};
    bool keeps_start = true;
    int status = text_append(&content, spec->content, spec->bytes);
    if (status >= 0 && spec->normalized) status = normalizer_apply(n, &content, &keeps_start);
    if (status >= 0 && content.length == 0)
        status = fail(LCKV_ERROR_UNSUPPORTED, "%s: the added token '%.80s' is empty once it is normalized", file,
                      spec->content);
    token->bytes = content.length;
    if (status >= 0) status = text_take(&content, &token->content);
    text_free(&content);
    return status;
}

static int add_to_set(added_token_set *set, const token_spec *spec, const normalizer *n, size_t order,
                      const char *file) {
    added_token token = {.id = (int32_t)spec->id,
                         .order = order,
                         .lstrip = spec->lstrip,
                         .rstrip = spec->rstrip,
                         .single_word = spec->single_word};
    added_token *tokens = realloc(set->tokens, (set->count + 1) * sizeof *tokens);
    REQUIRE(tokens, LCKV_ERROR_MEMORY, "%s: no memory for added tokens", file);
    set->tokens = tokens;
    TRY(searched_content(spec, n, file, &token));
    set->tokens[set->count++] = token;
    return LCKV_OK;
}

static int compare_content(const added_token *left, const added_token *right) {
    size_t shorter = left->bytes < right->bytes ? left->bytes : right->bytes;
    int order = memcmp(left->content, right->content, shorter);
    return order ? order : (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

static int by_content(const void *a, const void *b) {
    const added_token *left = a, *right = b;
    int order = compare_content(left, right);
    return order ? order : (left->order > right->order) - (left->order < right->order);
}

static void sort_set(added_token_set *set) {
    size_t kept = 0, at = 0;
    if (set->count) qsort(set->tokens, set->count, sizeof *set->tokens, by_content);
    for (size_t i = 0; i < set->count; i++) {
        if (kept && !compare_content(&set->tokens[kept - 1], &set->tokens[i]))
            free(set->tokens[i].content);
        else
            set->tokens[kept++] = set->tokens[i];
    }
    set->count = kept;
    for (size_t byte = 0; byte < 257; byte++) {
        while (at < set->count && (unsigned char)set->tokens[at].content[0] < byte) at++;
        set->first[byte] = at;
    }
}

/* Makes the token one of the vocabulary. */
static int list_token(const token_spec *spec, vocabulary *v, const char *file) {
    if (!vocabulary_entry(v, spec->id)) TRY(vocabulary_add(v, spec->content, spec->bytes, spec->id, true, file));
    token_entry *entry = &v->tokens[spec->id];
    REQUIRE(!entry->listed, LCKV_ERROR_FORMAT, "%s: the added token '%.80s' stands there twice", file, spec->content);
    entry->listed = true;
    entry->special = spec->special;
    return LCKV_OK;
}

int added_tokens_read(added_tokens *a, const json_t *config, vocabulary *v, const normalizer *n, const char *file) {
    if (!config || json_is_null(config)) return LCKV_OK;
    REQUIRE(json_is_array(config), LCKV_ERROR_FORMAT, "%s: 'added_tokens' should be a list", file);
    int32_t model_count = v->count, largest = -1;
    const json_t *item;
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)config, index, item) {
        token_spec spec;
        TRY(read_spec(item, file, &spec));
        if (spec.bytes == 0) continue; /* nothing to look for */
        TRY(check_id(&spec, v, model_count, largest, file));
        TRY(list_token(&spec, v, file));
        if (spec.id > largest) largest = (int32_t)spec.id;
        size_t order = spec.special ? index : json_array_size(config) + index;
        TRY(add_to_set(spec.normalized ? &a->in_normalized : &a->in_given, &spec, n, order, file));
    }
    sort_set(&a->in_given);
    sort_set(&a->in_normalized);
    return LCKV_OK;
}
