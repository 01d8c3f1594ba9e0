/* Invalid and malicious tokenizer files: the error of each, and no crash for any damage. */
#include "text_fixture.h"

/* A small tokenizer with one of each part. */
static const char GOOD[] =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"
    " \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": "
    "true, "
    "\"normalized\": false, \"special\": true}, {\"id\": 6, \"content\": \"[X]\", \"normalized\": true}],\n"
    " \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Replace\", "
    "\"pattern\": {\"Regex\": \"q+\"}, \"content\": \"a\"}, {\"type\": \"Strip\", \"strip_left\": true}]},\n"
    " \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"\\\\s+(?!\\\\S)|(?i:[a-z]+)\"}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", "
    "\"use_regex\": false}, {\"type\": \"Digits\"}]},\n"
    " \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, "
    "{\"Sequence\": {\"id\": \"A\"}}], \"pair\": [], \"special_tokens\": {\"<s>\": {\"ids\": [0]}}},\n"
    " \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": \"Strip\", "
    "\"content\": \" \", \"start\": 1, \"stop\": 1}, {\"type\": \"ByteLevel\"}]},\n"
    " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"u\", \"fuse_unk\": true, \"byte_fallback\": "
    "true, "
    "\"ignore_merges\": true, \"vocab\": {\"<s>\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"u\": 4, \"<0x0A>\": 5}, "
    "\"merges\": [\"a b\"]}}";

/* The replacement of a part of GOOD, the status, and the expected message. */
typedef struct bad_case {
    const char *part, *instead;
    int status;
    const char *says;
} bad_case;

#define FORMAT LCKV_ERROR_FORMAT
#define UNSUPPORTED LCKV_ERROR_UNSUPPORTED

static const bad_case BAD[] = {
    /* unsupported parts are named */
    {"\"1.0\"", "\"2.0\"", UNSUPPORTED, "version '2.0'"},
    {"\"padding\": null", "\"strange\": 1", UNSUPPORTED, "'strange'"},
    {"\"BPE\"", "\"WordPiece\"", UNSUPPORTED, "model 'WordPiece'"},
    {"\"BPE\"", "\"WordLevel\"", UNSUPPORTED, "model 'WordLevel'"},
    {"\"dropout\": null", "\"dropout\": 0.1", UNSUPPORTED, "'dropout'"},
    {"\"dropout\": null", "\"continuing_subword_prefix\": \"##\"", UNSUPPORTED, "'continuing_subword_prefix'"},
    {"\"dropout\": null", "\"end_of_word_suffix\": \"</w>\"", UNSUPPORTED, "'end_of_word_suffix'"},
    {"\"dropout\": null", "\"new_key\": null", UNSUPPORTED, "'new_key'"},
    {"\"NFC\"", "\"NFX\"", UNSUPPORTED, "normalizer 'NFX'"},
    {"\"NFC\"", "\"Precompiled\"", FORMAT, "'precompiled_charsmap' should be a string"},
    {"\"NFC\"", "\"Precompiled\", \"precompiled_charsmap\": \"A-\"", FORMAT, "not base64"},
    {"\"NFC\"", "\"Precompiled\", \"precompiled_charsmap\": \"AAA=\"", FORMAT, "damaged"},
    {"\"NFC\"", "\"Precompiled\", \"precompiled_charsmap\": \"/////w==\"", FORMAT, "damaged"},
    {"\"NFC\"", "\"NFC\", \"new_key\": 1", UNSUPPORTED, "'new_key'"},
    {"\"q+\"", "\"(?<name>q)\"", UNSUPPORTED, "a group other than"},
    {"\"Isolated\"", "\"Sideways\"", UNSUPPORTED, "'Sideways'"},
    {"\"Digits\"", "\"UnicodeScript\"", UNSUPPORTED, "pre_tokenizer 'UnicodeScript'"},
    {"\"Digits\"", "\"Digits\", \"new_key\": 1", UNSUPPORTED, "'new_key'"},
    {"{\"type\": \"Digits\"}", "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"last\"}",
     UNSUPPORTED, "prepend_scheme 'last'"},
    {"{\"type\": \"Digits\"}", "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\"}",
     UNSUPPORTED, "prepend_scheme 'first'"},
    {"\"TemplateProcessing\"", "\"Processing\"", UNSUPPORTED, "post_processor 'Processing'"},
    {"{\"Sequence\": {\"id\": \"A\"}}", "{\"Sequence\": {\"id\": \"B\"}}", UNSUPPORTED, "'single'"},
    {"{\"Sequence\": {\"id\": \"A\"}}", "{\"SpecialToken\": {\"id\": \"<s>\"}}", UNSUPPORTED, "0 times"},
    {"\"ByteFallback\"", "\"WordPiece\"", UNSUPPORTED, "decoder 'WordPiece'"},
    {"\"ByteFallback\"", "\"CTC\"", UNSUPPORTED, "decoder 'CTC'"},
    {"\"normalized\": false", "\"sometimes\": false", UNSUPPORTED, "'sometimes'"},
    {"\"content\": \"[X]\"", "\"content\": \" \"", UNSUPPORTED, "empty after normalization"},

    /* malformed */
    {"\"version\"", "version", FORMAT, "not JSON"},
    {"\"a\": 1", "\"a\": 1, \"a\": 7", FORMAT, "not JSON"},
    {"\"a\": 1", "\"\xFF\": 1", FORMAT, "not JSON"},
    {"\"a\": 1", "\"a\": -1", FORMAT, "id -1"},
    {"\"a\": 1", "\"a\": 1000000000", FORMAT, "id 1000000000"},
    {"\"a\": 1", "\"a\": 4294967297", FORMAT, "id 4294967297"},
    {"\"a\": 1", "\"a\": 99999999999999999999", FORMAT, "not JSON"},
    {"\"a\": 1", "\"a\": 1.5", FORMAT, "'a' should be an integer"},
    {"\"a\": 1", "\"a\": \"1\"", FORMAT, "'a' should be an integer"},
    {"\"a\": 1", "\"a\": 2", FORMAT, "same id 2"},
    {"\"a b\"", "\"a z\"", FORMAT, "requires the token 'z'"},
    {"\"a b\"", "\"b a\"", FORMAT, "requires the token 'ba'"},
    {"\"a b\"", "\"ab\"", FORMAT, "merge 0"},
    {"\"a b\"", "\"a b a\"", FORMAT, "merge 0"},
    {"\"a b\"", "\"a b\", \"\"", FORMAT, "merge 1"},
    {"\"a b\"", "[\"a\"]", FORMAT, "merge 0"},
    {"\"a b\"", "[\"a\", \"b\", \"a\"]", FORMAT, "merge 0"},
    {"\"a b\"", "[\"a\", 1]", FORMAT, "merge 0"},
    {"\"a b\"", "7", FORMAT, "merge 0"},
    {"[\"a b\"]", "{}", FORMAT, "'merges' should be a list"},
    {"[\"a b\"]", "null", FORMAT, "'merges' should be a list"},
    {"\"fuse_unk\": true", "\"fuse_unk\": 1", FORMAT, "'fuse_unk'"},
    {"\"unk_token\": \"u\"", "\"unk_token\": 4", FORMAT, "'unk_token'"},
    {"\"model\": {", "\"model\": [], \"x\": {", UNSUPPORTED, "'x'"},
    {"\"BPE\"", "7", FORMAT, "'type'"},
    {"\"id\": 0, ", "", FORMAT, "'<s>' has id -1"},
    {"\"id\": 0", "\"id\": 3", FORMAT, "'<s>' has id 3"},
    {"\"id\": 6", "\"id\": 9", FORMAT, "its place in the vocabulary is 6"},
    {"\"id\": 6", "\"id\": 4", FORMAT, "its place in the vocabulary is 6"},
    {"\"id\": 6, \"content\": \"[X]\"", "\"id\": 0, \"content\": \"<s>\"", FORMAT, "twice"},
    {"\"content\": \"<s>\"", "\"content\": 5", FORMAT, "'content'"},
    {"\"rstrip\": true", "\"rstrip\": \"yes\"", FORMAT, "'rstrip'"},
    {"\"NFC\"", "null", FORMAT, "no 'type'"},
    {"{\"type\": \"NFC\"}", "\"NFC\"", FORMAT, "entry 0"},
    {"\"normalizers\"", "\"normalizer\"", UNSUPPORTED, "'normalizer'"},
    {"{\"Regex\": \"q+\"}", "{\"Regex\": 1}", FORMAT, "'pattern'"},
    {"{\"Regex\": \"q+\"}", "\"q\"", FORMAT, "'pattern'"},
    {"{\"Regex\": \"q+\"}", "{\"Regex\": \"q\", \"String\": \"q\"}", FORMAT, "'pattern'"},
    {"\"content\": \"a\"", "\"content\": null", FORMAT, "'content'"},
    {"\"invert\": false", "\"invert\": 0", FORMAT, "'invert'"},
    {"{\"type\": \"Digits\"}", "{\"type\": \"Metaspace\", \"replacement\": \"__\"}", FORMAT, "one character"},
    {"{\"type\": \"Digits\"}",
     "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"always\", \"add_prefix_space\": false}",
     FORMAT, "contradicts"},
    {"{\"ids\": [0]}", "{\"ids\": [77]}", FORMAT, "an id without a token"},
    {"{\"ids\": [0]}", "{\"ids\": [\"0\"]}", FORMAT, "an id without a token"},
    {"{\"ids\": [0]}", "{}", FORMAT, "'special_tokens' lacks"},
    {"\"stop\": 1", "\"stop\": -1", FORMAT, "'stop'"},
    {"\"stop\": 1", "\"stop\": 1.5", FORMAT, "'stop'"},
    {"\"content\": \" \", \"start\"", "\"content\": \"\", \"start\"", FORMAT, "one character"},
};

/* GOOD with the first `part` replaced by `instead`; release with free(). */
static char *changed(const char *part, const char *instead) {
    text_buffer text = {0};
    char *out;
    const char *at = strstr(GOOD, part);
    assert_non_null(at);
    OK(text_printf(&text, "%.*s%s%s", (int)(at - GOOD), GOOD, instead, at + strlen(part)));
    OK(text_take(&text, &out));
    return out;
}

static void test_the_good_one(void **state) {
    (void)state;
    lckv_tokenizer *t;
    OK(open_json(GOOD, strlen(GOOD), &t));
    assert_tokens(t, "ab <s>  b", "<s>|u|ab|u|<s>|u|b");
    lckv_tokenizer_free(t);
}

static void test_each_error(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        char *text = changed(BAD[i].part, BAD[i].instead);
        lckv_tokenizer *t;
        int status = open_json(text, strlen(text), &t);
        if (status != BAD[i].status || t || !strstr(lckv_last_error(), BAD[i].says))
            fail_msg("%s for %s: status %d, expected %d and '%s': %s", BAD[i].instead, BAD[i].part, status,
                     BAD[i].status, BAD[i].says, lckv_last_error());
        if (!strstr(lckv_last_error(), "tokenizer.json")) fail_msg("the file is not named: %s", lckv_last_error());
        free(text);
    }
}

/* ---- other files */

static void test_bad_config(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"[]", "should be a JSON object"},
        {"{", "not JSON"},
        {"{\"bos_token\": 1}", "'bos_token'"},
        {"{\"eos_token\": {\"id\": 1}}", "'eos_token'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lckv_tokenizer *t;
        assert_int_equal(open_with_config(GOOD, bad[i][0], &t), LCKV_ERROR_FORMAT);
        assert_null(t);
        assert_non_null(strstr(lckv_last_error(), "tokenizer_config.json"));
        assert_non_null(strstr(lckv_last_error(), bad[i][1]));
    }
    static const char without[] = "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}}";
    lckv_tokenizer *t;
    assert_int_equal(open_with_config(without, "{\"add_bos_token\": true}", &t), LCKV_ERROR_FORMAT);
    assert_non_null(strstr(lckv_last_error(), "'add_bos_token'"));
}

static void expect_absent(const char *file, int status, const char *says) {
    char folder[] = "/tmp/lckv_text_XXXXXX", path[80];
    lckv_tokenizer *t;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/%s", folder, file ? file : "");
    if (file) OK(file_replace(path, "x", 1));
    assert_int_equal(lckv_tokenizer_open(folder, &t), status);
    assert_null(t);
    assert_non_null(strstr(lckv_last_error(), folder));
    assert_non_null(strstr(lckv_last_error(), says));
    if (file) unlink(path);
    rmdir(folder);
}

static void test_no_tokenizer_json(void **state) {
    (void)state;
    lckv_tokenizer *t;
    expect_absent(NULL, LCKV_ERROR_FILE, "no tokenizer.json");
    expect_absent("tokenizer.model", LCKV_ERROR_UNSUPPORTED, "save_pretrained");
    expect_absent("vocab.json", LCKV_ERROR_UNSUPPORTED, "save_pretrained");
    expect_absent("tokenizer.json.gz", LCKV_ERROR_UNSUPPORTED, "unpack");
    assert_int_equal(lckv_tokenizer_open("/nowhere/at/all", &t), LCKV_ERROR_FILE);
}

/* ---- damage */

static void use_and_free(lckv_tokenizer *t) {
    static const char text[] = "a b<s> ab12\n\xC3\xA9 q[X]";
    int32_t *ids;
    size_t count, bytes;
    char *decoded;
    if (!t) return;
    if (lckv_tokenizer_encode(t, text, strlen(text), true, &ids, &count) >= 0) {
        OK(lckv_tokenizer_decode(t, ids, count, false, &decoded, &bytes));
        lckv_free(decoded);
        lckv_free(ids);
    }
    lckv_tokenizer_free(t);
}

static void test_cut_short(void **state) {
    (void)state;
    for (size_t bytes = 0; bytes < strlen(GOOD); bytes++) {
        lckv_tokenizer *t;
        assert_int_equal(open_json(GOOD, bytes, &t), LCKV_ERROR_FORMAT);
        assert_null(t);
    }
}

/* Changes a few bytes, mostly to characters of JSON syntax: the file is rejected, or it opens and works. */
static void test_random_damage(void **state) {
    (void)state;
    static const char likely[] = "\"\\{}[]:,0123456789eabstruflN <>xAq+(?)|*.-";
    for (uint64_t round = 0; round < 4000; round++) {
        char text[sizeof GOOD];
        lckv_tokenizer *t;
        memcpy(text, GOOD, sizeof GOOD);
        int changes = 1 + (int)(rng_uniform(5, round, 0) * 3);
        for (int i = 1; i <= changes; i++) {
            uint32_t random[4];
            rng_block(5, round, (uint64_t)i, random);
            char fresh = random[1] % 8 ? likely[random[2] % (sizeof likely - 1)] : (char)random[2];
            text[random[0] % (sizeof GOOD - 1)] = fresh;
        }
        open_json(text, sizeof GOOD - 1, &t);
        use_and_free(t);
    }
}

/* Changes values: well-formed JSON that is wrong otherwise. */
static void test_values_of_other_types(void **state) {
    (void)state;
    static const char *const values[] = {"null",        "true", "-1", "1e300", "\"\"",
                                         "\"\\u0000\"", "[]",   "{}", "[[]]",  "[null]"};
    for (const char *at = GOOD; (at = strchr(at, ':')); at++) {
        size_t length = strcspn(at + 1, ",}]");
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            text_buffer text = {0};
            lckv_tokenizer *t;
            OK(text_printf(&text, "%.*s %s%s", (int)(at + 1 - GOOD), GOOD, values[i], at + 1 + length));
            open_json(text.data, text.length, &t);
            use_and_free(t);
            text_free(&text);
        }
    }
}

static void test_deep_nesting(void **state) {
    (void)state;
    enum { DEPTH = 5000 };
    text_buffer text = {0};
    lckv_tokenizer *t;
    OK(text_printf(&text, "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"normalizer\": "));
    for (int i = 0; i < DEPTH; i++) OK(text_printf(&text, "{\"type\": \"Sequence\", \"normalizers\": ["));
    for (int i = 0; i < DEPTH; i++) OK(text_printf(&text, "]}"));
    OK(text_printf(&text, "}"));
    assert_int_equal(open_json(text.data, text.length, &t), LCKV_ERROR_FORMAT);
    text_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_good_one),
        cmocka_unit_test(test_each_error),
        cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_no_tokenizer_json),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_random_damage),
        cmocka_unit_test(test_values_of_other_types),
        cmocka_unit_test(test_deep_nesting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
