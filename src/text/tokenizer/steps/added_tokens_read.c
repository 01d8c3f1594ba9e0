/* Reading the added tokens of a tokenizer file, see added_tokens.h. */
#include "text/subword/component.h"
#include "text/tokenizer/steps/added_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The description of a token in a file. */
typedef struct token_spec {
    const char *content;
    size_t bytes;
    int64_t id; /* -1: not given */
    bool normalized, lstrip, rstrip, single_word, special;
} token_spec;

/* A string to search for. A token that is added again with other flags keeps the string of its first addition. */
typedef struct search {
    token_spec spec;
    size_t order;
} search;

/* State while the two sets are built. */
typedef struct reading {
    vocabulary *vocabulary;
    const normalizer *normalizer;
    const char *file;
    token_spec *latest; /* [room] latest description of each token, in the order of first additions */
    search *searches;   /* [room] */
    int32_t *place;     /* [ids] index into `latest`; -1: no added token has this id */
    size_t count, search_count, ids;
    int32_t model_count, largest; /* number of tokens of the model; largest id of an added token, -1 if there is none */
} reading;

static int read_spec(const json_t *value, const char *file, token_spec *out) {
    component c;
    TRY(component_open(value, file, "added_tokens", "", &c));
    TRY(component_keys(&c, "id content single_word lstrip rstrip normalized special known_only"));
    TRY(component_string(&c, "content", &out->content, &out->bytes));
    TRY(json_get_int(value, c.where, "id", -1, &out->id));
    TRY(json_get_bool(value, c.where, "special", false, &out->special));
    TRY(json_get_bool(value, c.where, "normalized", !out->special, &out->normalized));
    TRY(json_get_bool(value, c.where, "lstrip", false, &out->lstrip));
    TRY(json_get_bool(value, c.where, "rstrip", false, &out->rstrip));
    return json_get_bool(value, c.where, "single_word", false, &out->single_word);
}

/* The id that the tokenizers library assigns to a token: its existing id, or the one after the model's ids and the
 * largest added id. */
static int32_t id_of(const reading *r, const token_spec *spec) {
    int32_t known = vocabulary_find(r->vocabulary, spec->content, spec->bytes);
    if (known != NO_TOKEN) return known;
    return r->largest >= r->model_count ? r->largest + 1 : r->model_count;
}

static bool same_flags(const token_spec *a, const token_spec *b) {
    return a->normalized == b->normalized && a->lstrip == b->lstrip && a->rstrip == b->rstrip &&
           a->single_word == b->single_word && a->special == b->special;
}

/* Adds the token to the vocabulary. A token that was special stays special. */
static int enter(reading *r, const token_spec *spec) {
    vocabulary *v = r->vocabulary;
    if (!vocabulary_entry(v, spec->id)) TRY(vocabulary_add(v, spec->content, spec->bytes, spec->id, true, r->file));
    token_entry *entry = &v->tokens[spec->id];
    bool first = !entry->listed;
    /* special tokens are found before others with the same normal form */
    size_t order = (spec->special ? 0 : SIZE_MAX / 2) + r->search_count;
    if (first || !entry->special) r->searches[r->search_count++] = (search){*spec, order};
    entry->listed = true;
    entry->special = entry->special || spec->special;
    if (first) r->place[spec->id] = (int32_t)r->count++;
    r->latest[r->place[spec->id]] = *spec;
    if (spec->id > r->largest) r->largest = (int32_t)spec->id;
    return LCKV_OK;
}

/* Adds a token of tokenizer.json. If the file gives another id than the library would assign, the vocabulary has holes,
 * for which writer and reader disagree. */
static int read_listed(reading *r, const json_t *value) {
    token_spec spec;
    TRY(read_spec(value, r->file, &spec));
    if (spec.bytes == 0) return LCKV_OK; /* nothing to search for */
    int32_t expected = id_of(r, &spec);
    REQUIRE(spec.id == expected, LCKV_ERROR_FORMAT,
            "%s: the added token '%.80s' has id %" PRId64 ", but its place in the vocabulary is %" PRId32, r->file,
            spec.content, spec.id, expected);
    const token_entry *entry = vocabulary_entry(r->vocabulary, spec.id);
    REQUIRE(!entry || !entry->listed, LCKV_ERROR_FORMAT, "%s: the added token '%.80s' occurs twice", r->file,
            spec.content);
    return enter(r, &spec);
}

/* Adds a token of another file: a new one, or one that exists and gets other flags. */
static int read_more(reading *r, const json_t *value) {
    token_spec spec;
    TRY(read_spec(value, r->file, &spec));
    if (spec.bytes == 0) return LCKV_OK;
    bool known_only = json_is_true(json_object_get(value, "known_only"));
    if (known_only && vocabulary_find(r->vocabulary, spec.content, spec.bytes) == NO_TOKEN) return LCKV_OK;
    spec.id = id_of(r, &spec);
    const token_entry *entry = vocabulary_entry(r->vocabulary, spec.id);
    REQUIRE(!entry || vocabulary_find(r->vocabulary, spec.content, spec.bytes) == spec.id, LCKV_ERROR_FORMAT,
            "%s: the added token '%.80s' would get the id %" PRId64 ", which another token has", r->file, spec.content,
            spec.id);
    if (entry && entry->listed && same_flags(&spec, &r->latest[r->place[spec.id]])) return LCKV_OK;
    return enter(r, &spec);
}

static int read_lists(reading *r, const json_t *listed, const json_t *more) {
    const json_t *item;
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)listed, index, item) TRY(read_listed(r, item));
    json_array_foreach((json_t *)(uintptr_t)more, index, item) TRY(read_more(r, item));
    return LCKV_OK;
}

static int normalize_content(const token_spec *spec, const normalizer *n, text_buffer *content) {
    bool keeps_start = true;
    TRY(text_append(content, spec->content, spec->bytes));
    return spec->normalized ? normalizer_apply(n, content, &keeps_start) : LCKV_OK;
}

/* The string to search for, normalized if the token is searched for in normalized text. */
static int searched_content(const token_spec *spec, const normalizer *n, const char *file, added_token *token) {
    text_buffer content = {.limit = ADDED_TOKEN_MAX_BYTES};
    int status = normalize_content(spec, n, &content);
    if (status < 0)
        status = fail_within(status, "%s: the added token '%.80s'", file, spec->content);
    else if (content.length == 0)
        status = fail(LCKV_ERROR_UNSUPPORTED, "%s: the added token '%.80s' is empty after normalization", file,
                      spec->content);
    token->bytes = content.length;
    if (status >= 0) status = text_take(&content, &token->content);
    text_free(&content);
    return status;
}

static int add_to_set(added_token_set *set, const reading *r, const search *found) {
    const token_spec *flags = &r->latest[r->place[found->spec.id]];
    added_token token = {.id = (int32_t)found->spec.id,
                         .order = found->order,
                         .lstrip = flags->lstrip,
                         .rstrip = flags->rstrip,
                         .single_word = flags->single_word,
                         .special = r->vocabulary->tokens[found->spec.id].special};
    if ((set->count & (set->count - 1)) == 0) { /* capacity for the next power of two */
        added_token *tokens = realloc(set->tokens, (2 * set->count + 1) * sizeof *tokens);
        REQUIRE(tokens, LCKV_ERROR_MEMORY, "%s: no memory for added tokens", r->file);
        set->tokens = tokens;
    }
    TRY(searched_content(&found->spec, r->normalizer, r->file, &token));
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

static int fill_sets(added_tokens *a, const reading *r) {
    for (size_t i = 0; i < r->search_count; i++)
        TRY(add_to_set(r->searches[i].spec.normalized ? &a->in_normalized : &a->in_given, r, &r->searches[i]));
    sort_set(&a->in_given);
    sort_set(&a->in_normalized);
    return LCKV_OK;
}

static int begin(reading *r, size_t room) {
    r->ids = (size_t)r->vocabulary->size + room;
    r->latest = calloc(room, sizeof *r->latest);
    r->searches = calloc(room, sizeof *r->searches);
    r->place = malloc(r->ids * sizeof *r->place);
    REQUIRE(r->latest && r->searches && r->place, LCKV_ERROR_MEMORY, "%s: no memory for added tokens", r->file);
    for (size_t i = 0; i < r->ids; i++) r->place[i] = -1;
    return LCKV_OK;
}

int added_tokens_read(added_tokens *a, const json_t *listed, const json_t *more, vocabulary *v, const normalizer *n,
                      const char *file) {
    REQUIRE(!listed || json_is_null(listed) || json_is_array(listed), LCKV_ERROR_FORMAT,
            "%s: 'added_tokens' should be a list", file);
    size_t room = json_array_size(listed) + json_array_size(more);
    if (room == 0) return LCKV_OK;
    reading r = {.vocabulary = v, .normalizer = n, .file = file, .model_count = v->count, .largest = -1};
    int status = begin(&r, room);
    if (status >= 0) status = read_lists(&r, listed, more);
    if (status >= 0) status = fill_sets(a, &r);
    free(r.latest);
    free(r.searches);
    free(r.place);
    return status;
}
