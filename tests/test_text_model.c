/* The BPE model: known results, a plain implementation, and long words.
 *
 * The expected tokens were computed with the tokenizers library, version 0.20.3. */
#include "text_fixture.h"

static const char VOCABULARY[] =
    "{\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"<0xC3>\": 3, \"<0xA9>\": 4, \"a\": 5, \"b\": 6, \"c\": 7, \"ab\": 8, "
    "\"bc\": 9, \"abc\": 10, \" \": 11, \"\xE2\x96\x81\": 12, \"\xE2\x96\x81"
    "a\": 13, \"aa\": 14, \"aaaa\": 15, \"ca\": 16, \"d\": 17, \"cab\": 18, \" a\": 19, \"X<\": 20, \"<\": 21}";
static const char MERGES[] = "[[\"a\", \"b\"], [\"b\", \"c\"], [\"ab\", \"c\"], [\"a\", \"a\"], [\"aa\", \"aa\"], "
                             "[\"\xE2\x96\x81\", \"a\"], [\"c\", \"a\"], [\"ca\", \"b\"], [\" \", \"a\"]]";

/* A tokenizer with these tokens; `settings` are additional keys of the model. */
static lckv_tokenizer *open_model(const char *settings, const char *merges) {
    char model[2048];
    lckv_tokenizer *t;
    snprintf(model, sizeof model, "%s%s\"vocab\": %s, \"merges\": %s", settings, *settings ? ", " : "", VOCABULARY,
             merges);
    OK(open_parts(&(tokenizer_parts){.model = model}, &t));
    return t;
}

static const struct {
    const char *settings, *text, *tokens;
} MODELS[] = {
    {"", "abcab", "abc|ab"},
    {"", "aXYb", "ab"},
    {"\"unk_token\": \"<unk>\"", "aXYb", "a|<unk>|<unk>|b"},
    {"\"unk_token\": \"<unk>\", \"fuse_unk\": true", "aXYb", "a|<unk>|b"},
    {"\"byte_fallback\": true",
     "a\xC3\xA9"
     "b",
     "a|<0xC3>|<0xA9>|b"},
    {"\"unk_token\": \"<unk>\", \"byte_fallback\": true",
     "\xC3\xA9\xC3\xB6"
     "b",
     "<0xC3>|<0xA9>|<unk>|b"},
    {"\"unk_token\": \"<unk>\", \"byte_fallback\": true, \"fuse_unk\": true", "Z\xC3\xA9Zb", "<0xC3>|<0xA9>|<unk>|b"},
    {"\"byte_fallback\": true",
     "a\xC3\xA9\xC3\xB6"
     "b",
     "a|<0xC3>|<0xA9>|b"},
    {"", "cab", "c|ab"},
    {"\"ignore_merges\": true", "cab", "cab"},
    {"\"ignore_merges\": true", "cabcab", "c|abc|ab"},
    {"", "aaaaaaa", "aaaa|aa|a"},
    {"",
     " a\xE2\x96\x81"
     "a",
     " a|\xE2\x96\x81"
     "a"},
    {"", "", ""},
    {"\"unk_token\": \"<unk>\", \"fuse_unk\": true", "\xE6\x97\xA5\xE6\x9C\xAC", "<unk>"},
    {"\"unk_token\": \"<unk>\"",
     "a\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E"
     "b",
     "a|<unk>|<unk>|<unk>|b"},
    {"", "XX", ""},
};

static void test_models(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof MODELS / sizeof *MODELS; i++) {
        lckv_tokenizer *t = open_model(MODELS[i].settings, MERGES);
        assert_tokens(t, MODELS[i].text, MODELS[i].tokens);
        assert_tokens(t, MODELS[i].text, MODELS[i].tokens); /* now from the word cache */
        lckv_tokenizer_free(t);
    }
}

/* In the format of merges.txt; early tokenizer.json files contain its first line. */
static void test_merges_as_strings(void **state) {
    (void)state;
    lckv_tokenizer *t = open_model("", "[\"#version: 0.2\", \"a b\", \"b c\", \"ab c\", \"c a\", \"ca b\"]");
    assert_tokens(t, "abcab", "abc|ab");
    assert_tokens(t, "cab", "c|ab");
    lckv_tokenizer_free(t);
}

static void test_unknown_token_that_is_not_there(void **state) {
    (void)state;
    lckv_tokenizer *t = open_model("\"unk_token\": \"[UNK]\"", MERGES);
    int32_t *ids;
    size_t count;
    assert_tokens(t, "abc", "abc");
    assert_int_equal(lckv_tokenizer_encode(t, "aXb", 3, true, &ids, &count), LCKV_ERROR_FORMAT);
    assert_null(ids);
    assert_non_null(strstr(lckv_last_error(), "U+0058"));
    assert_non_null(strstr(lckv_last_error(), "[UNK]"));
    lckv_tokenizer_free(t);
}

static void test_a_model_without_its_type(void **state) {
    (void)state;
    static const char text[] = "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}";
    lckv_tokenizer *t;
    OK(open_json(text, strlen(text), &t));
    assert_tokens(t, "aba", "ab|a");
    lckv_tokenizer_free(t);
}

/* ---- comparison with a plain implementation: random merges over few letters, and random words of any length */

enum { LETTERS = 4, MAX_TOKENS = 60, MAX_BYTES = 400 };

typedef struct plain_model {
    char tokens[MAX_TOKENS][64];
    int left[MAX_TOKENS], right[MAX_TOKENS]; /* of the tokens after the letters, in order of rank */
    int count;
} plain_model;

static uint64_t stream; /* index of the next random number */

static int draw(int below) {
    return (int)(rng_uniform(3, stream++, 0) * below);
}

static int find_token(const plain_model *m, const char *text) {
    for (int i = 0; i < m->count; i++)
        if (!strcmp(m->tokens[i], text)) return i;
    return -1;
}

static void make_model(plain_model *m) {
    m->count = LETTERS;
    for (int i = 0; i < LETTERS; i++) snprintf(m->tokens[i], sizeof m->tokens[i], "%c", "abcd"[i]);
    for (int tries = 0; tries < 200 && m->count < MAX_TOKENS; tries++) {
        char whole[128];
        int left = draw(m->count), right = draw(m->count);
        snprintf(whole, sizeof whole, "%s%s", m->tokens[left], m->tokens[right]);
        if (strlen(whole) > 20 || find_token(m, whole) >= 0) continue;
        m->left[m->count] = left;
        m->right[m->count] = right;
        snprintf(m->tokens[m->count++], sizeof *m->tokens, "%.63s", whole);
    }
}

static lckv_tokenizer *open_plain(const plain_model *m) {
    text_buffer text = {0};
    lckv_tokenizer *t;
    OK(text_printf(&text, "\"vocab\": {"));
    for (int i = 0; i < m->count; i++) OK(text_printf(&text, "%s\"%s\": %d", i ? ", " : "", m->tokens[i], i));
    OK(text_printf(&text, "}, \"merges\": ["));
    for (int i = LETTERS; i < m->count; i++)
        OK(text_printf(&text, "%s\"%s %s\"", i > LETTERS ? ", " : "", m->tokens[m->left[i]], m->tokens[m->right[i]]));
    OK(text_printf(&text, "]"));
    OK(open_parts(&(tokenizer_parts){.model = text.data}, &t));
    text_free(&text);
    return t;
}

/* The definition: repeatedly merges the first pair of lowest rank. */
static int merge_plainly(const plain_model *m, int *ids, int count) {
    for (;;) {
        int best = m->count, at = -1;
        for (int i = 0; i + 1 < count; i++)
            for (int k = LETTERS; k < best; k++)
                if (ids[i] == m->left[k] && ids[i + 1] == m->right[k]) best = k, at = i;
        if (at < 0) return count;
        ids[at] = best;
        memmove(ids + at + 1, ids + at + 2, (size_t)(count - at - 2) * sizeof *ids);
        count--;
    }
}

/* A text with exactly the allowed number of ids is encoded, one with more is rejected. */
static void expect_limit(lckv_tokenizer *t, const char *text, size_t bytes, size_t count) {
    int32_t *ids;
    size_t found;
    for (size_t limit = 1; limit < count + 3; limit++) {
        int status = lckv_tokenizer_encode_at_most(t, text, bytes, true, limit, &ids, &found);
        assert_int_equal(status, limit < count ? LCKV_ERROR_TOO_LONG : LCKV_OK);
        assert_int_equal(found, limit < count ? 0 : count);
        lckv_free(ids);
    }
}

static void compare_one(const plain_model *m, lckv_tokenizer *t, int limit) {
    char text[MAX_BYTES + 1];
    int expected[MAX_BYTES], count = draw(limit) + 1;
    int32_t *ids;
    size_t found;
    for (int i = 0; i < count; i++) {
        expected[i] = draw(LETTERS);
        text[i] = "abcd"[expected[i]];
    }
    text[count] = 0;
    OK(lckv_tokenizer_encode(t, text, (size_t)count, true, &ids, &found));
    count = merge_plainly(m, expected, count);
    if ((int)found != count) fail_msg("%s: %zu ids, expected %d", text, found, count);
    for (int i = 0; i < count; i++)
        if (ids[i] != expected[i]) fail_msg("%s: id %d is %d, expected %d", text, i, ids[i], expected[i]);
    lckv_free(ids);
    expect_limit(t, text, strlen(text), found);
}

static void test_beside_a_plain_implementation(void **state) {
    (void)state;
    for (int model = 0; model < 40; model++) {
        plain_model m;
        make_model(&m);
        lckv_tokenizer *t = open_plain(&m);
        for (int i = 0; i < 60; i++) compare_one(&m, t, i < 40 ? 30 : MAX_BYTES);
        lckv_tokenizer_free(t);
    }
}

/* ---- long words */

static void test_a_million_letters_without_a_space(void **state) {
    (void)state;
    enum { BYTES = 1 << 20 };
    lckv_tokenizer *t = open_model("", MERGES);
    char *text = malloc(BYTES);
    int32_t *ids;
    size_t count;
    assert_non_null(text);
    memset(text, 'a', BYTES);
    OK(lckv_tokenizer_encode(t, text, BYTES, true, &ids, &count));
    assert_int_equal(count, BYTES / 4); /* "aaaa" is the longest token of a's */
    lckv_free(ids);
    lckv_tokenizer_free(t);

    /* The error for more than 100 tokens comes before any merging. */
    t = open_model("", MERGES);
    assert_int_equal(lckv_tokenizer_encode_at_most(t, text, BYTES, true, 100, &ids, &count), LCKV_ERROR_TOO_LONG);
    assert_int_equal(t->model.work.capacity, 0);
    free(text);
    lckv_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_merges_as_strings),
        cmocka_unit_test(test_unknown_token_that_is_not_there),
        cmocka_unit_test(test_a_model_without_its_type),
        cmocka_unit_test(test_beside_a_plain_implementation),
        cmocka_unit_test(test_a_million_letters_without_a_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
