/* Added tokens with their flags, the tokens that a post-processor adds to a text, and the settings of
 * tokenizer_config.json.
 *
 * The expected tokens were computed with the tokenizers library, version 0.20.3. */
#include "text_fixture.h"

static const char MODEL[] =
    "\"unk_token\": \"<unk>\", \"vocab\": "
    "{\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"<0xC3>\": 3, \"<0xA9>\": 4, \"a\": 5, \"b\": 6, \"c\": 7, \"ab\": 8, "
    "\"bc\": 9, \"abc\": 10, \" \": 11, \"\xE2\x96\x81\": 12, \"\xE2\x96\x81"
    "a\": 13, \"aa\": 14, \"aaaa\": 15, \"ca\": 16, \"d\": 17, \"cab\": 18, \" a\": 19, \"X<\": 20, \"<\": 21}"
    ", \"merges\": "
    "[[\"a\", \"b\"], [\"b\", \"c\"], [\"ab\", \"c\"], [\"a\", \"a\"], [\"aa\", \"aa\"], [\"\xE2\x96\x81\", \"a\"], "
    "[\"c\", \"a\"], [\"ca\", \"b\"], [\" \", \"a\"]]";

static const struct {
    const char *added_tokens, *normalizer, *text, *tokens;
} ADDED[] = {
    {"[{\"id\": 1, \"content\": \"<s>\", \"normalized\": false, \"special\": true}]", NULL, "a<s>b <s>",
     "a|<s>|b| |<s>"},
    {"[{\"id\": 1, \"content\": \"<s>\", \"normalized\": false, \"special\": true}]", NULL, "<s><s", "<s>|<|<unk>"},
    {"[{\"id\": 22, \"content\": \"[X]\", \"lstrip\": true, \"normalized\": false}]", NULL, "a \t [X] b", "a|[X]| |b"},
    {"[{\"id\": 22, \"content\": \"[X]\", \"rstrip\": true, \"normalized\": false}]", NULL, "a [X] \n b", "a| |[X]|b"},
    {"[{\"id\": 22, \"content\": \"[X]\", \"lstrip\": true, \"rstrip\": true, \"normalized\": false}]", NULL,
     " [X]  [X] a", "[X]|[X]|a"},
    {"[{\"id\": 17, \"content\": \"d\", \"single_word\": true, \"normalized\": false}]", NULL,
     "d ad d-d d\xC3\xA9 \xC3\xA9 d_", "d| a|d| |d|<unk>|d| |d|<unk>| |<unk>| |d|<unk>"},
    {"[{\"id\": 17, \"content\": \"d\", \"normalized\": false}]", NULL, "adb", "a|d|b"},
    {"[{\"id\": 10, \"content\": \"abc\", \"normalized\": false}, {\"id\": 8, \"content\": \"ab\", \"normalized\": "
     "false}]",
     NULL, "abcab abab", "abc|ab| |ab|ab"},
    {"[{\"id\": 22, \"content\": \"a b\", \"normalized\": false}, {\"id\": 23, \"content\": \"a b c\", \"normalized\": "
     "false}]",
     NULL, "a b c a b d", "a b c| |a b| |d"},
    {"[{\"id\": 22, \"content\": \"DAY\", \"normalized\": true}]", "{\"type\": \"Lowercase\"}", "a day DAY dAyb",
     "a| |DAY| |DAY| |DAY|b"},
    {"[{\"id\": 22, \"content\": \"DAY\", \"normalized\": false}]", "{\"type\": \"Lowercase\"}", "a day DAY",
     "a| |d|a|<unk>| |DAY"},
    {"[{\"id\": 2, \"content\": \"</s>\", \"normalized\": true}]",
     "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}, {\"type\": "
     "\"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}",
     "a</s>b </s>a",
     "\xE2\x96\x81"
     "a|<|<unk>|<unk>|<unk>|b|</s>|a"},
    {"[{\"id\": 2, \"content\": \"</s>\", \"normalized\": false}]",
     "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}, {\"type\": "
     "\"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}",
     "a</s>b </s>a",
     "\xE2\x96\x81"
     "a|</s>|\xE2\x96\x81|b|\xE2\x96\x81|</s>|\xE2\x96\x81"
     "a"},
    {"[{\"id\": 22, \"content\": \"b \", \"rstrip\": true, \"normalized\": true}]",
     "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}, {\"type\": "
     "\"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}",
     "ab  a",
     "\xE2\x96\x81|ab|\xE2\x96\x81|\xE2\x96\x81"
     "a"},
    {"[{\"id\": 8, \"content\": \"ab\", \"normalized\": true, \"special\": true}, {\"id\": 1, \"content\": \"<s>\", "
     "\"normalized\": false}]",
     "{\"type\": \"Lowercase\"}", "<s>AB<S>", "<s>|ab|<|<unk>|<unk>"},
    {"[{\"id\": 22, \"content\": \"\xC3\xA9\", \"single_word\": true, \"normalized\": false}]", NULL,
     "\xC3\xA9 a\xC3\xA9 \xC3\xA9"
     "a \xC3\xA9\xC2\xB2",
     "\xC3\xA9| a|<unk>| |<unk>|a| |\xC3\xA9|<unk>"},
    {"[{\"id\": 22, \"content\": \"  \", \"rstrip\": true, \"normalized\": false}, {\"id\": 11, \"content\": \" \", "
     "\"lstrip\": true, \"normalized\": false}]",
     NULL, "a    b a", "a|  |  |b| |a"},
};

static void test_added_tokens(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ADDED / sizeof *ADDED; i++) {
        lckv_tokenizer *t;
        OK(open_parts(&(tokenizer_parts){.added_tokens = ADDED[i].added_tokens,
                                         .normalizer = ADDED[i].normalizer,
                                         .model = MODEL},
                      &t));
        assert_tokens(t, ADDED[i].text, ADDED[i].tokens);
        lckv_tokenizer_free(t);
    }
}

static const struct {
    const char *post_processor, *text, *tokens;
} POST[] = {
    {"{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, "
     "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"end\", \"type_id\": 0}}], "
     "\"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], "
     "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}, \"end\": {\"id\": \"end\", "
     "\"ids\": [2, 17], \"tokens\": [\"</s>\", \"d\"]}}}",
     "ab", "<s>|ab|</s>|d"},
    {"{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
     "\"trim_offsets\": false, \"use_regex\": true}, {\"type\": \"TemplateProcessing\", \"single\": "
     "[{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
     "{\"SpecialToken\": {\"id\": \"end\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": "
     "0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": "
     "[1], \"tokens\": [\"<s>\"]}, \"end\": {\"id\": \"end\", \"ids\": [2, 17], \"tokens\": [\"</s>\", \"d\"]}}}]}",
     "ab", "<s>|ab|</s>|d"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": false, \"use_regex\": true}", "ab", "ab"},
    {"{\"type\": \"BertProcessing\", \"sep\": [\"</s>\", 2], \"cls\": [\"<s>\", 1]}", "ab", "<s>|ab|</s>"},
    {"{\"type\": \"RobertaProcessing\", \"sep\": [\"</s>\", 2], \"cls\": [\"<s>\", 1], \"trim_offsets\": true, "
     "\"add_prefix_space\": false}",
     "ab", "<s>|ab|</s>"},
};

static void test_post_processors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof POST / sizeof *POST; i++) {
        lckv_tokenizer *t;
        int32_t *ids;
        size_t count;
        OK(open_parts(&(tokenizer_parts){.post_processor = POST[i].post_processor, .model = MODEL}, &t));
        assert_tokens(t, POST[i].text, POST[i].tokens);
        OK(lckv_tokenizer_encode(t, POST[i].text, strlen(POST[i].text), false, &ids, &count));
        assert_int_equal(count, 1);
        assert_string_equal(lckv_tokenizer_id_to_token(t, ids[0]), "ab");
        lckv_free(ids);
        lckv_tokenizer_free(t);
    }
}

/* ---- added tokens after the model's */

static void test_added_tokens_enlarge_the_vocabulary(void **state) {
    (void)state;
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count, bytes;
    char *text;
    OK(open_parts(&(tokenizer_parts){.added_tokens = "[{\"id\": 22, \"content\": \"[X]\", \"special\": true}, "
                                                     "{\"id\": 23, \"content\": \"[Y]\", \"special\": false}]",
                                     .decoder = "{\"type\": \"Fuse\"}",
                                     .model = MODEL},
                  &t));
    assert_int_equal(lckv_tokenizer_vocab_size(t), 24);
    assert_int_equal(lckv_tokenizer_token_to_id(t, "[Y]"), 23);
    assert_true(lckv_tokenizer_is_special(t, 22));
    assert_false(lckv_tokenizer_is_special(t, 23));
    OK(lckv_tokenizer_encode(t, "a[X]b[Y]", 8, true, &ids, &count));
    assert_int_equal(count, 4);
    OK(lckv_tokenizer_decode(t, ids, count, true, &text, &bytes));
    assert_text("special ones left out", text, bytes, "ab[Y]");
    lckv_free(text);
    OK(lckv_tokenizer_decode(t, ids, count, false, &text, &bytes));
    assert_text("all", text, bytes, "a[X]b[Y]");
    lckv_free(text);
    lckv_free(ids);
    lckv_tokenizer_free(t);
}

/* ---- tokenizer_config.json */

static lckv_tokenizer *open_surrounded(const char *surrounding, const char *config) {
    text_buffer text = {0};
    lckv_tokenizer *t;
    OK(text_printf(&text, "{\"post_processor\": %s, \"model\": {\"type\": \"BPE\", %s}}", surrounding, MODEL));
    OK(open_with_config(text.data, config, &t));
    text_free(&text);
    return t;
}

static void test_config_names_bos_and_eos(void **state) {
    (void)state;
    lckv_tokenizer *t =
        open_surrounded("null", "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\", "
                                "\"lstrip\": false}, \"model_max_length\": 1000000000000000019884624838656}");
    assert_int_equal(lckv_tokenizer_bos_id(t), 1);
    assert_int_equal(lckv_tokenizer_eos_id(t), 2);
    assert_tokens(t, "ab", "ab");
    lckv_tokenizer_free(t);
    t = open_surrounded("null", "{\"bos_token\": null, \"eos_token\": \"not there\"}");
    assert_int_equal(lckv_tokenizer_bos_id(t), -1);
    assert_int_equal(lckv_tokenizer_eos_id(t), -1);
    lckv_tokenizer_free(t);
}

static void test_config_adds_bos_where_the_tokenizer_leaves_it_open(void **state) {
    (void)state;
    static const char config[] =
        "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_bos_token\": true, \"add_eos_token\": true}";
    lckv_tokenizer *t = open_surrounded("null", config);
    assert_tokens(t, "ab", "<s>|ab|</s>");
    lckv_tokenizer_free(t);
    t = open_surrounded("{\"type\": \"ByteLevel\"}", config); /* it disables additions */
    assert_tokens(t, "ab", "ab");
    lckv_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_post_processors),
        cmocka_unit_test(test_added_tokens_enlarge_the_vocabulary),
        cmocka_unit_test(test_config_names_bos_and_eos),
        cmocka_unit_test(test_config_adds_bos_where_the_tokenizer_leaves_it_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
