/* Effects of the files beside a tokenizer.json: added tokens, tokens around a text, a space before it.
 *
 * The expected ids were computed with transformers 4.57.6 (tokenizers 0.22.2) and 5.24.0 (tokenizers 0.23.3) for the
 * same folders. */
#include "text_fixture.h"

/* The versions that give the expected ids. If they differ, 4.57 decides; IN_5_24: 4.57 does not open the folder. */
typedef enum versions { BOTH, IN_4_57, IN_5_24 } versions;

typedef enum kind { SP, BL } kind; /* SentencePiece style, with a normalizer; byte-level, with a pre-tokenizer */

static const char ADDED[] =
    "[{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 1, \"content\": \"<s>\", \"special\": true}, "
    "{\"id\": 2, \"content\": \"</s>\", \"special\": true}]";
static const char POST[] =
    "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, "
    "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", "
    "\"ids\": [1], \"tokens\": [\"<s>\"]}}}";
static const char NORMALIZER[] =
    "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}, {\"type\": "
    "\"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}";
static const char PRE_TOKENIZER[] =
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}";
static const char SP_DECODER[] =
    "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, "
    "\"content\": \" \"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}";
static const char SP_MODEL[] =
    "{\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": "
    "2, \"\xE2\x96\x81\": 3, \"a\": 4, \"b\": 5, \"c\": 6, \"\xE2\x96\x81"
    "a\": 7, \"ab\": 8, \"<\": 9, \">\": 10}, \"merges\": [\"\xE2\x96\x81 a\", \"a b\"]}";
static const char BL_MODEL[] = "{\"type\": \"BPE\", \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"\xC4\xA0\": "
                               "3, \"a\": 4, \"b\": 5, \"c\": "
                               "6, \"\xC4\xA0"
                               "a\": 7, \"ab\": 8, \"<\": 9, \">\": 10}, \"merges\": [\"\xC4\xA0 a\", \"a b\"]}";

typedef struct folder_case {
    versions versions;
    kind kind;
    const char *part; /* the normalizer (SP) or pre-tokenizer (BL), NULL: as above */
    bool has_post_processor;
    const char *config, *map, *added; /* NULL: absent */
    const char *text, *ids;
} folder_case;

static const folder_case FOLDERS[] = {
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"11\": {\"content\": \"<b>\", \"lstrip\": false, \"normalized\": false, \"rstrip\": "
     "false, \"single_word\": false, \"special\": true}}}",
     NULL, NULL, "a<b>a", "1 7 11 7"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"12\": {\"content\": \"cc\", \"lstrip\": false, \"normalized\": true, \"rstrip\": "
     "false, \"single_word\": false, \"special\": false}, \"11\": {\"content\": \"<b>\", \"lstrip\": false, "
     "\"normalized\": false, \"rstrip\": false, \"single_word\": false, \"special\": true}}}",
     NULL, NULL, "ccc<b>", "1 12 6 11"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"11\": {\"content\": \"<b>\", \"lstrip\": true, \"normalized\": false, \"rstrip\": "
     "true, \"single_word\": false, \"special\": true}}}",
     NULL, NULL, "a <b> a", "1 7 11 7"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"2\": {\"content\": \"</s>\", \"lstrip\": true, \"normalized\": false, \"rstrip\": "
     "true, \"single_word\": false, \"special\": true}}}",
     NULL, NULL, "a </s> a", "1 7 2 7"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"8\": {\"content\": \"ab\", \"lstrip\": false, \"normalized\": false, \"rstrip\": "
     "false, \"single_word\": true, \"special\": false}}}",
     NULL, NULL, "ab cab", "1 8 3 3 6 8"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\"}", NULL,
     "{\"<b>\": 11, \"cc\": 12}", "<b> a cc", "1 11 7 12"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\"}", NULL,
     "{\"<b>\": 12, \"c\": 11}", "<b> c<s><b>", "1 11 6 1 11"},
    {IN_4_57, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\"}",
     "{\"additional_special_tokens\": [\"<b>\", {\"content\": \"cc\", \"lstrip\": true, \"normalized\": false, "
     "\"rstrip\": false, \"single_word\": false, \"special\": true}], \"pad_token\": \"<c>\"}",
     NULL, "a<b> cc<c>", "1 7 12 13 11"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"additional_special_tokens\": [\"<b>\"]}",
     NULL, NULL, "a<b>", "1 7 11"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"unk_token\": \"<c>\"}",
     NULL, NULL, "a<c>", "1 7 11"},
    {BOTH, SP, NULL, true, "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}",
     "{\"bos_token\": \"<b>\", \"eos_token\": {\"content\": \"<c>\", \"lstrip\": false, \"normalized\": false, "
     "\"rstrip\": true, \"single_word\": false, \"special\": true}}",
     NULL, "<b>a<c> a", "1 11 7 12 7"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"11\": {\"content\": \"<b>\", \"lstrip\": false, \"normalized\": false, \"rstrip\": "
     "false, \"single_word\": false, \"special\": true}}}",
     "{\"eos_token\": \"<c>\", \"additional_special_tokens\": [\"cc\"]}", "{\"cc\": 12}", "a<b>cc<c>",
     "1 7 11 3 6 6 9 6 10"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"added_tokens_decoder\": {\"11\": {\"content\": \"<b>\", \"lstrip\": false, \"normalized\": false, \"rstrip\": "
     "false, \"single_word\": false, \"special\": false}}, \"pad_token\": \"<b>\"}",
     NULL, NULL, "a<b>", "1 7 11"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"extra_special_tokens\": {\"image_token\": \"<b>\"}}",
     NULL, NULL, "a<b>", "1 7 11"},
    {IN_5_24, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"extra_special_tokens\": [\"<b>\"]}",
     NULL, NULL, "a<b>", "1 7 11"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"split_special_tokens\": true, \"added_tokens_decoder\": {\"11\": {\"content\": \"<b>\", \"lstrip\": false, "
     "\"normalized\": false, \"rstrip\": false, \"single_word\": false, \"special\": true}, \"12\": {\"content\": "
     "\"cc\", \"lstrip\": false, \"normalized\": false, \"rstrip\": false, \"single_word\": false, \"special\": "
     "false}}}",
     NULL, NULL, "a<b>cc", "1 7 9 5 10 12"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"b\", \"tokenizer_class\": \"PreTrainedTokenizerFast\"}", NULL, NULL,
     "abab", "1 7 5 7 5"},
    {IN_5_24, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"NoSuchTokenizer\", "
     "\"added_tokens_decoder\": {\"11\": {\"content\": \"<b>\", \"lstrip\": false, \"normalized\": false, \"rstrip\": "
     "false, \"single_word\": false, \"special\": true}}}",
     NULL, NULL, "a<b>", "1 7 11"},
    {BOTH, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"add_bos_token\": true, \"add_eos_token\": true}",
     NULL, NULL, "ab", "7 5"},
    {BOTH, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"add_bos_token\": false}",
     NULL, NULL, "ab", "1 7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GPT2Tokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_bos_token\": true}",
     NULL, NULL, "ab", "7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"Qwen2Tokenizer\", \"unk_token\": "
     "\"<unk>\", \"pad_token\": \"</s>\", \"add_bos_token\": true}",
     NULL, NULL, "ab", "7 5"},
    {IN_5_24, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"TokenizersBackend\", \"add_bos_token\": "
     "true}",
     NULL, NULL, "ab", "7 5"},
    {IN_5_24, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"NoSuchTokenizer\", \"add_bos_token\": "
     "true}",
     NULL, NULL, "ab", "7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\"}", NULL, NULL, "ab",
     "1 7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizerFast\", "
     "\"add_bos_token\": false, \"add_eos_token\": true}",
     NULL, NULL, "ab", "7 5 2"},
    {IN_4_57, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"add_bos_token\": "
     "false}",
     NULL, NULL, "ab", "7 5"},
    {IN_4_57, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"add_eos_token\": "
     "true}",
     NULL, NULL, "ab", "1 7 5 2"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GemmaTokenizer\", \"unk_token\": "
     "\"<unk>\", \"pad_token\": \"</s>\"}",
     NULL, NULL, "ab", "1 7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"CohereTokenizer\", \"unk_token\": "
     "\"<unk>\"}",
     NULL, NULL, "ab", "1 7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"CohereTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_bos_token\": null}",
     NULL, NULL, "ab", "7 5"},
    {IN_4_57, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GPTNeoXTokenizerFast\", \"unk_token\": "
     "\"<unk>\"}",
     NULL, NULL, "ab", "7 5"},
    {IN_4_57, SP, NULL, false,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GPTNeoXTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_bos_token\": true}",
     NULL, NULL, "ab", "1 7 5"},
    {IN_5_24, SP, NULL, false,
     "{\"bos_token\": null, \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\"}", NULL, NULL, "ab",
     "7 5"},
    {IN_4_57, SP, NULL, false, "{\"tokenizer_class\": \"LlamaTokenizer\"}", NULL, NULL, "ab</s>", "1 7 5 2"},
    {IN_4_57, BL, NULL, false, "{\"tokenizer_class\": \"GemmaTokenizer\"}", NULL, NULL, "ab<pad>", "11 8 13"},
    {BOTH, BL, NULL, false, "{\"tokenizer_class\": \"GPT2Tokenizer\"}", NULL, NULL, "ab<|endoftext|>", "8 11"},
    {BOTH, BL, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GPT2Tokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": true}",
     NULL, NULL, "a<s>a a", "1 7 1 7 7"},
    {BOTH, BL, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GPT2Tokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": false}",
     NULL, NULL, "a<s>a a", "1 4 1 4 7"},
    {IN_4_57, BL, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"add_prefix_space\": true}",
     NULL, NULL, "a a", "1 7 7"},
    {IN_5_24, BL, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"TokenizersBackend\", "
     "\"add_prefix_space\": true}",
     NULL, NULL, "a a", "1 4 7"},
    {BOTH, BL, "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}",
     true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"GPT2Tokenizer\", \"unk_token\": "
     "\"<unk>\"}",
     NULL, NULL, "a a", "1 4 7"},
    {BOTH, BL,
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": true}, {\"type\": "
     "\"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}]}",
     true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"CohereTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": true}",
     NULL, NULL, "a a", "1 7 7"},
    {BOTH, BL,
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": true}, {\"type\": "
     "\"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}]}",
     true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
     "\"add_prefix_space\": true}",
     NULL, NULL, "a a", "1 4 7"},
    {IN_5_24, BL, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"add_prefix_space\": "
     "true}",
     NULL, NULL, "a a", "1 4 7"},
    {IN_5_24, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": false}",
     NULL, NULL, "ab ab", "1 8 7 5"},
    {IN_5_24, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": true, \"legacy\": false}",
     NULL, NULL, "ab<s>ab", "1 7 5 1 8"},
    {IN_5_24, SP, NULL, true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": true}",
     NULL, NULL, "ab ab", "1 7 5 7 5"},
    {IN_5_24, SP, "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}", true,
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"tokenizer_class\": \"LlamaTokenizer\", \"unk_token\": "
     "\"<unk>\", \"add_prefix_space\": true}",
     NULL, NULL, "ab ab", "1 7 5 7 5"},
};

/* A temporary folder of such files. */
static const char *const FILES[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                    "added_tokens.json", "config.json"};

static void write_file(const char *folder, const char *name, const char *text) {
    char path[64];
    if (!text) return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(file_replace(path, text, strlen(text)));
}

static void remove_folder(const char *folder) {
    char path[64];
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, FILES[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void tokenizer_json(const folder_case *c, text_buffer *out) {
    const char *before = c->part ? c->part : NORMALIZER, *cut = c->part ? c->part : PRE_TOKENIZER;
    OK(text_printf(out,
                   "{\"version\": \"1.0\", \"added_tokens\": %s, \"normalizer\": %s, \"pre_tokenizer\": %s, "
                   "\"post_processor\": %s, \"decoder\": %s, \"model\": %s}",
                   ADDED, c->kind == SP ? before : "null", c->kind == BL ? cut : "null",
                   c->has_post_processor ? POST : "null", c->kind == SP ? SP_DECODER : "{\"type\": \"ByteLevel\"}",
                   c->kind == SP ? SP_MODEL : BL_MODEL));
}

static int open_case(const folder_case *c, const char *model, lckv_tokenizer **out) {
    char folder[] = "/tmp/lckv_text_XXXXXX";
    text_buffer text = {0};
    assert_non_null(mkdtemp(folder));
    tokenizer_json(c, &text);
    write_file(folder, "tokenizer.json", text.data);
    write_file(folder, "tokenizer_config.json", c->config);
    write_file(folder, "special_tokens_map.json", c->map);
    write_file(folder, "added_tokens.json", c->added);
    write_file(folder, "config.json", model);
    int status = lckv_tokenizer_open(folder, out);
    remove_folder(folder);
    text_free(&text);
    return status;
}

static void assert_ids(lckv_tokenizer *t, const char *what, const char *text, const char *expected) {
    text_buffer found = {0};
    int32_t *ids;
    size_t count;
    OK(lckv_tokenizer_encode(t, text, strlen(text), true, &ids, &count));
    for (size_t i = 0; i < count; i++) OK(text_printf(&found, "%s%d", i ? " " : "", (int)ids[i]));
    assert_text(what, found.data, found.length, expected);
    lckv_free(ids);
    text_free(&found);
}

static void test_folders_as_transformers_opens_them(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        lckv_tokenizer *t;
        OK(open_case(&FOLDERS[i], NULL, &t));
        assert_ids(t, FOLDERS[i].config, FOLDERS[i].text, FOLDERS[i].ids);
        lckv_tokenizer_free(t);
    }
}

/* ---- class of the tokenizer if tokenizer_config.json does not name it */

static void test_the_class_comes_from_config_json(void **state) {
    (void)state;
    static const char *const models[][2] = {
        {"{\"model_type\": \"llama\"}", "1 7 5"},
        {"{\"model_type\": \"lckv-llama\"}", "7 5"},
        {"{\"tokenizer_class\": \"LlamaTokenizer\", \"model_type\": \"x\"}", "1 7 5"},
        {"{\"tokenizer_class\": null, \"model_type\": \"gpt2\"}", "7 5"},
        {"not JSON", "7 5"}};
    static const folder_case c = {BOTH, SP, NULL, false, "{\"bos_token\": \"<s>\"}", NULL, NULL, NULL, NULL};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        lckv_tokenizer *t;
        OK(open_case(&c, models[i][0], &t));
        assert_ids(t, models[i][0], "ab", models[i][1]);
        lckv_tokenizer_free(t);
    }
}

static void test_bos_and_eos_of_the_class_and_of_older_files(void **state) {
    (void)state;
    static const folder_case c = {
        BOTH, SP,   NULL, false, "{\"tokenizer_class\": \"LlamaTokenizer\"}", "{\"eos_token\": {\"content\": \"a\"}}",
        NULL, NULL, NULL};
    lckv_tokenizer *t;
    OK(open_case(&c, NULL, &t));
    assert_int_equal(lckv_tokenizer_bos_id(t), 1);
    assert_int_equal(lckv_tokenizer_eos_id(t), 4);
    assert_true(lckv_tokenizer_is_special(t, 4));
    lckv_tokenizer_free(t);
}

/* ---- tokens that a class adds */

/* Special tokens in the text, <unk> (0) aside. */
static int count_special(lckv_tokenizer *t, const char *text) {
    int32_t *ids;
    size_t count;
    int special = 0;
    OK(lckv_tokenizer_encode(t, text, strlen(text), true, &ids, &count));
    for (size_t i = 0; i < count; i++) special += ids[i] && lckv_tokenizer_is_special(t, ids[i]);
    lckv_free(ids);
    return special;
}

static void test_classes_add_their_tokens(void **state) {
    (void)state;
    static const struct {
        const char *config, *token;
        bool added;
    } cases[] = {
        {"{\"tokenizer_class\": \"T5Tokenizer\"}", "<extra_id_99>", true},
        {"{\"tokenizer_class\": \"T5Tokenizer\"}", "<extra_id_100>", false},
        {"{\"tokenizer_class\": \"T5TokenizerFast\", \"extra_ids\": 5}", "<extra_id_4>", true},
        {"{\"tokenizer_class\": \"T5TokenizerFast\", \"extra_ids\": 5}", "<extra_id_5>", false},
        {"{\"tokenizer_class\": \"MT5Tokenizer\", \"additional_special_tokens\": [\"<extra_id_7>\"]}", "<extra_id_7>",
         true},
        {"{\"tokenizer_class\": \"MT5Tokenizer\", \"additional_special_tokens\": [\"<extra_id_7>\"]}", "<extra_id_0>",
         false},
        {"{\"tokenizer_class\": \"XGLMTokenizer\"}", "<madeupword6>", true},
        {"{\"tokenizer_class\": \"XGLMTokenizer\"}", "<madeupword7>", false},
        {"{\"tokenizer_class\": \"CodeLlamaTokenizer\"}", "\xE2\x96\x81<MID>", true},
        {"{\"tokenizer_class\": \"CodeLlamaTokenizer\", \"middle_token\": null}", "\xE2\x96\x81<MID>", false},
        {"{\"tokenizer_class\": \"CodeLlamaTokenizer\", \"middle_token\": \"<M>\"}", "<M>", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        folder_case c = {BOTH, SP, NULL, false, cases[i].config, NULL, NULL, NULL, NULL};
        lckv_tokenizer *t;
        char text[64];
        OK(open_case(&c, NULL, &t));
        snprintf(text, sizeof text, "b%sb", cases[i].token);
        int more = count_special(t, text) - count_special(t, "b");
        if (more != cases[i].added) fail_msg("%s: %d special tokens in '%s'", cases[i].config, more, text);
        lckv_tokenizer_free(t);
    }
}

/* ---- errors */

static void test_folders_that_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *config, *map, *added, *message;
    } refused[] = {
        {"{\"tokenizer_class\": \"BertTokenizerFast\"}", NULL, NULL, "'BertTokenizerFast' changes tokenizer.json"},
        {"{\"tokenizer_class\": \"XLNetTokenizer\"}", NULL, NULL, "'XLNetTokenizer' changes tokenizer.json"},
        {"{\"tokenizer_class\": \"AlbertTokenizer\"}", NULL, NULL, "'AlbertTokenizer' changes tokenizer.json"},
        {"{\"tokenizer_class\": \"OurTokenizer\", \"auto_map\": {\"AutoTokenizer\": [null, \"our.OurTokenizer\"]}}",
         NULL, NULL, "Python code of this folder"},
        {"{\"tokenizer_class\": \"LlamaTokenizer\", \"add_prefix_space\": \"yes\"}", NULL, NULL, "'add_prefix_space'"},
        {"{\"added_tokens_decoder\": []}", NULL, NULL, "'added_tokens_decoder' should be an object"},
        {"{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}", NULL, NULL, "'x' in 'added_tokens_decoder'"},
        {"{\"added_tokens_decoder\": {\"3\": {\"content\": 4}}}", NULL, NULL, "'added_tokens_decoder' should be a"},
        {"{\"added_tokens_decoder\": {\"3\": 4}}", NULL, NULL, "should be an object"},
        {"{\"bos_token\": 1}", NULL, NULL, "'bos_token' should be a string"},
        {"{\"tokenizer_class\": \"T5Tokenizer\", \"extra_ids\": -1}", NULL, NULL, "'extra_ids' should be 0 to 10000"},
        {"{\"tokenizer_class\": \"CodeLlamaTokenizer\", \"eot_token\": 1}", NULL, NULL,
         "'eot_token' should be a string"},
        {"{\"additional_special_tokens\": [1]}", NULL, NULL, "'additional_special_tokens' should be a string"},
        {"[]", NULL, NULL, "should be a JSON object"},
        {"{}", "[]", NULL, "special_tokens_map.json: should be a JSON object"},
        {"{}", NULL, "{\"a\": \"b\"}", "the id of 'a' should be a number"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        folder_case c = {BOTH, SP, NULL, true, refused[i].config, refused[i].map, refused[i].added, NULL, NULL};
        lckv_tokenizer *t;
        int status = open_case(&c, NULL, &t);
        if (status >= 0 || t || !strstr(lckv_last_error(), refused[i].message))
            fail_msg("%s: status %d, '%s' is not in: %s", refused[i].config, status, refused[i].message,
                     lckv_last_error());
    }
}

/* ---- shared folders */

static void test_shared_folders(void **state) {
    (void)state;
    static const char *const shared[][3] = {
        {"tok_atd", "<|im_start|>user", "1 512 318 419 285"},
        {"tok_stnpPreTrainedTokenizerFast", "a cat", "261 280 294"},
        {"tok_unigram",
         "\xE2\x96\x81"
         "ab",
         "1 2"},
    };
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        char path[1024];
        lckv_tokenizer *t;
        snprintf(path, sizeof path, "%s/faults/%s", SHARED_DIR, shared[i][0]);
        if (!folder_exists(path)) {
            print_message("skipped: no %s\n", path);
            skip();
        }
        OK(lckv_tokenizer_open(path, &t));
        assert_ids(t, shared[i][0], shared[i][1], shared[i][2]);
        lckv_tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders_as_transformers_opens_them),
        cmocka_unit_test(test_the_class_comes_from_config_json),
        cmocka_unit_test(test_bos_and_eos_of_the_class_and_of_older_files),
        cmocka_unit_test(test_folders_that_are_refused_by_name),
        cmocka_unit_test(test_classes_add_their_tokens),
        cmocka_unit_test(test_shared_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
