/* Unigram vocabularies: the sequence of tokens with the highest score.
 *
 * The expected ids were computed with the tokenizers library, version 0.22.2 (0.23.3 gives the same). Random models are
 * compared with an exhaustive search. */
#include "text_fixture.h"

#include "linear.h"

static int open_unigram(const char *model, lckv_tokenizer **out) {
    text_buffer text = {0};
    OK(text_printf(&text, "{\"version\": \"1.0\", \"added_tokens\": [], \"model\": {\"type\": \"Unigram\", %s}}",
                   model));
    int status = open_json(text.data, text.length, out);
    text_free(&text);
    return status;
}

static void assert_ids(lckv_tokenizer *t, const char *text, const char *expected) {
    text_buffer found = {0};
    int32_t *ids;
    size_t count;
    OK(lckv_tokenizer_encode(t, text, strlen(text), true, &ids, &count));
    for (size_t i = 0; i < count; i++) OK(text_printf(&found, "%s%d", i ? " " : "", (int)ids[i]));
    assert_text(text, found.data, found.length, expected);
    lckv_free(ids);
    text_free(&found);
}

#define WORDS "[\"<unk>\", 0], [\"a\", -1], [\"b\", -1], [\"ab\", -2], [\"ba\", -1.5], [\"aba\", -3], [\"c\", -9]"
#define BYTES "[\"<0xC3>\", -20], [\"<0xA9>\", -20], [\"<0x78>\", -20]"
#define TWICE "[\"<unk>\", 0], [\"a\", -1], [\"b\", -1]"
#define LOW "[\"<unk>\", -3], [\"a\", -1], [\"x\", -2], [\"xy\", -2]"

static const struct {
    const char *model, *text, *ids;
} TEXTS[] = {
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "ab", "3"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "aba", "1 4"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "abab", "1 4 2"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "bab", "4 2"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "axxb", "1 0 2"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "<unk>", "0"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "a<unk>b", "1 0 2"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]", "\xC3\xA9", "0"},
    {"\"unk_id\": 0, \"vocab\": [" WORDS "]",
     "c\xC3\xA9\xC3\xA9"
     "c",
     "6 0 6"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" WORDS ", " BYTES "]", "a\xC3\xA9x", "1 7 8 9"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" WORDS ", " BYTES "]", "\xC3\xA9\xC3\xA9", "7 8 7 8"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" WORDS ", " BYTES "]", "axxb", "1 9 9 2"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" WORDS ", " BYTES "]", "z", "0"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" WORDS ", " BYTES "]", "xz", "0"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" WORDS ", " BYTES "]", "a<unk>", "1 0"},
    {"\"unk_id\": 0, \"byte_fallback\": false, \"vocab\": [" WORDS ", " BYTES "]", "a\xC3\xA9x", "1 0"},
    {"\"unk_id\": 2, \"vocab\": [" LOW "]", "axa", "1 2 1"},
    {"\"unk_id\": 2, \"vocab\": [" LOW "]", "axxa", "1 2 1"},
    {"\"unk_id\": 2, \"vocab\": [" LOW "]", "axya", "1 3 1"},
    {"\"unk_id\": 2, \"vocab\": [" LOW "]", "az", "1 2"},
    {"\"unk_id\": 2, \"vocab\": [" LOW "]", "azxa", "1 2 1"},
    {"\"unk_id\": 0, \"vocab\": [" LOW "]", "xyz", "3 0"},
    {"\"unk_id\": 0, \"vocab\": [" LOW "]", "x<unk>y", "2 0"},
    {"\"unk_id\": 0, \"vocab\": [" LOW "]", "zz", "0"},
    /* a token that is listed twice: the score of the last entry counts */
    {"\"unk_id\": 0, \"vocab\": [" TWICE ", [\"ab\", -5], [\"ab\", -1]]", "zab", "0 4"},
    {"\"unk_id\": 0, \"vocab\": [" TWICE ", [\"ab\", -1], [\"ab\", -5]]", "zab", "0 1 2"},
    {"\"unk_id\": 0, \"vocab\": [" TWICE ", [\"a\", -3], [\"ab\", -9]]", "ab", "3 2"},
    {"\"unk_id\": 0, \"vocab\": [" TWICE ", [\"<unk>\", -3]]", "<unk>", "3"},
    {"\"unk_id\": 0, \"byte_fallback\": true, \"vocab\": [" TWICE ", [\"<0x78>\", -5], [\"<0x78>\", -6]]", "x", "4"},
};

static void test_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        lckv_tokenizer *t;
        OK(open_unigram(TEXTS[i].model, &t));
        assert_ids(t, TEXTS[i].text, TEXTS[i].ids);
        lckv_tokenizer_free(t);
    }
}

/* ---- random models against the definition */

enum { LETTERS = 3, TOKENS = 12, TEXT_BYTES = 14 };

typedef struct random_model {
    char tokens[TOKENS][4];
    double scores[TOKENS];
} random_model;

/* The highest score of a sequence of tokens that spells `text`. */
static double best_score(const random_model *m, const char *text) {
    double best = *text ? -1e9 : 0;
    for (int i = 0; *text && i < TOKENS; i++) {
        size_t length = strlen(m->tokens[i]);
        if (strncmp(text, m->tokens[i], length) != 0) continue;
        double score = m->scores[i] + best_score(m, text + length);
        if (score > best) best = score;
    }
    return best;
}

static bool is_new(const random_model *m, int count, const char *token) {
    for (int i = 0; i < count; i++)
        if (!strcmp(m->tokens[i], token)) return false;
    return true;
}

static int random_below(uint64_t *rng, int limit) {
    return (int)(rng_uniform(7, 0, (*rng)++) * limit);
}

static void random_word(uint64_t *rng, char *out, int bytes) {
    for (int i = 0; i < bytes; i++) out[i] = (char)('a' + random_below(rng, LETTERS));
    out[bytes] = 0;
}

/* Every letter is a token, so that every text can be spelled. */
static lckv_tokenizer *random_tokenizer(uint64_t *rng, random_model *m) {
    text_buffer model = {0};
    lckv_tokenizer *t;
    OK(text_printf(&model, "\"vocab\": ["));
    for (int i = 0; i < TOKENS; i++) {
        do {
            random_word(rng, m->tokens[i], i < LETTERS ? 1 : 2 + random_below(rng, 2));
        } while (!is_new(m, i, m->tokens[i]));
        m->scores[i] = -(double)random_below(rng, 1000000) / 65536; /* sums of these are exact */
        OK(text_printf(&model, "%s[\"%s\", %.17g]", i ? ", " : "", m->tokens[i], m->scores[i]));
    }
    OK(text_printf(&model, "]"));
    OK(open_unigram(model.data, &t));
    text_free(&model);
    return t;
}

static void test_random_models(void **state) {
    (void)state;
    uint64_t rng = 0;
    for (int round = 0; round < 50; round++) {
        random_model m;
        lckv_tokenizer *t = random_tokenizer(&rng, &m);
        for (int k = 0; k < 10; k++) {
            char text[TEXT_BYTES + 1], spelled[2 * TEXT_BYTES] = "";
            double score = 0;
            int32_t *ids;
            size_t count;
            random_word(&rng, text, TEXT_BYTES);
            OK(lckv_tokenizer_encode(t, text, TEXT_BYTES, true, &ids, &count));
            for (size_t i = 0; i < count; i++) {
                score += m.scores[ids[i]];
                strcat(spelled, m.tokens[ids[i]]);
            }
            assert_string_equal(spelled, text);
            assert_true(score == best_score(&m, text));
            lckv_free(ids);
        }
        lckv_tokenizer_free(t);
    }
}

/* ---- long texts, and errors */

static void test_a_long_text(void **state) {
    (void)state;
    enum { BYTES_LONG = 3000001 };
    char *text = malloc(BYTES_LONG);
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    assert_non_null(text);
    memset(text, 'a', BYTES_LONG);
    OK(open_unigram("\"vocab\": [[\"a\", -1], [\"aaa\", -1.5]]", &t));
    OK(lckv_tokenizer_encode(t, text, BYTES_LONG, true, &ids, &count));
    assert_int_equal(count,
                     1000001); /* the odd a comes first: of sequences with the same score the first one found is used */
    lckv_free(ids);
    lckv_tokenizer_free(t);
    free(text);
}

typedef struct long_text {
    lckv_tokenizer *tokenizer;
    const char *repeated;
} long_text;

static void encode_long(const void *user, size_t size) {
    const long_text *l = user;
    text_buffer text = {0};
    int32_t *ids;
    size_t count;
    while (text.length < size) OK(text_append(&text, l->repeated, strlen(l->repeated)));
    OK(lckv_tokenizer_encode(l->tokenizer, text.data, text.length, true, &ids, &count));
    lckv_free(ids);
    text_free(&text);
}

/* Long tokens, a long unknown text, bytes, marks in one cluster: linear work. */
static void test_work_is_linear(void **state) {
    (void)state;
    static const char *const repeated[] = {"a", "ab", "x", "\xC3\xA9", "<unk>", "e\xCC\x81", "\xCC\x81\xCC\xA3"};
    text_buffer text = {0};
    lckv_tokenizer *t;
    OK(text_printf(&text, "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Nmt\"}, {\"type\": "
                          "\"Precompiled\", \"precompiled_charsmap\": \"\"}]}, \"model\": {\"type\": \"Unigram\", "
                          "\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"b\", -2]"));
    for (int length = 1; length <= UNIGRAM_TOKEN_BYTES; length++) {
        OK(text_printf(&text, ", [\""));
        for (int i = 0; i < length; i++) OK(text_append(&text, "a", 1));
        OK(text_printf(&text, "\", -1]"));
    }
    OK(text_printf(&text, "]}}"));
    OK(open_json(text.data, text.length, &t));
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++)
        expect_linear(repeated[i], encode_long, &(long_text){t, repeated[i]}, 20000);
    lckv_tokenizer_free(t);
    text_free(&text);
}

static void test_a_file_without_a_type(void **state) {
    (void)state;
    static const char text[] = "{\"model\": {\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", -1]]}}";
    lckv_tokenizer *t;
    OK(open_json(text, strlen(text), &t));
    assert_ids(t, "ab", "1 0");
    lckv_tokenizer_free(t);
}

/* Both ids have the text; a token from another file comes after all entries. */
static void test_a_token_listed_twice(void **state) {
    (void)state;
    static const char text[] =
        "{\"added_tokens\": [{\"id\": 4, \"content\": \"new\"}], \"model\": {\"type\": \"Unigram\", "
        "\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", -1], [\"a\", -3], [\"b\", -1]]}}";
    static const int32_t ids[] = {1, 3, 2, 4};
    lckv_tokenizer *t;
    char *decoded;
    size_t bytes;
    OK(open_json(text, strlen(text), &t));
    assert_ids(t, "anewb", "2 4 3");
    OK(lckv_tokenizer_decode(t, ids, 4, false, &decoded, &bytes));
    assert_string_equal(decoded, "a b a new");
    lckv_free(decoded);
    lckv_tokenizer_free(t);
}

static void test_bad_models(void **state) {
    (void)state;
    static const struct {
        const char *model, *message;
    } bad[] = {
        {"\"unk_id\": 0", "'vocab' should be a list"},
        {"\"vocab\": {\"a\": 0}", "'vocab' should be a list"},
        {"\"vocab\": [[\"a\"]]", "entry 0 of 'vocab'"},
        {"\"vocab\": [[\"a\", 0], [1, 0]]", "entry 1 of 'vocab'"},
        {"\"vocab\": [[\"a\", \"0\"]]", "entry 0 of 'vocab'"},
        {"\"vocab\": [[\"a\", 0]], \"unk_id\": 1", "'unk_id'"},
        {"\"vocab\": [], \"unk_id\": 0", "'unk_id'"},
        {"\"vocab\": [[\"a\", 0]], \"unk_id\": -2", "'unk_id'"},
        {"\"vocab\": [[\"a\", 0]], \"alpha\": 1", "'alpha'"},
    };
    lckv_tokenizer *t;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int status = open_unigram(bad[i].model, &t);
        if (status >= 0 || t || !strstr(lckv_last_error(), bad[i].message))
            fail_msg("%s: status %d, '%s' is not in: %s", bad[i].model, status, bad[i].message, lckv_last_error());
    }
    text_buffer model = {0};
    OK(text_printf(&model, "\"vocab\": [[\"%0*d\", 0]]", UNIGRAM_TOKEN_BYTES + 1, 0));
    assert_int_equal(open_unigram(model.data, &t), LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "513 bytes"));
    text_free(&model);
}

static void test_an_unknown_character_without_unk_id(void **state) {
    (void)state;
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    OK(open_unigram("\"vocab\": [[\"a\", -1]]", &t));
    assert_int_equal(lckv_tokenizer_encode(t, "aba", 3, true, &ids, &count), LCKV_ERROR_FORMAT);
    assert_non_null(strstr(lckv_last_error(), "U+0062"));
    assert_ids(t, "aa", "0 0");
    lckv_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_random_models),
        cmocka_unit_test(test_a_long_text),
        cmocka_unit_test(test_work_is_linear),
        cmocka_unit_test(test_a_file_without_a_type),
        cmocka_unit_test(test_a_token_listed_twice),
        cmocka_unit_test(test_bad_models),
        cmocka_unit_test(test_an_unknown_character_without_unk_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
