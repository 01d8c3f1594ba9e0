/* Encoding, decoding and reading files take linear time for any tokenizer file: doubles adversarial texts and counts
 * steps. test_text_limits.c has the limits. */
#include "gguf/gguf_write.h"
#include "text/subword/pair_table.h"

#include "text_fixture.h"

#include "linear.h"
#include "tokenizer_pieces.h"

enum { SIZE = 20000 };

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define LLAMA3                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                             \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

#define UNIGRAM_MODEL                                                                                                  \
    "\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", -1], [\"b\", -1.5], [\"ab\", -2], [\"<0x7A>\", -9], "          \
    "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac\", -3]]"
#define STEP(type) "{\"type\": \"" type "\"}"

/* `before`, then `unit` repeated, then `behind`. */
typedef struct encode_case {
    const char *name;
    tokenizer_parts parts;
    const char *before, *unit, *behind;
} encode_case;

static const encode_case ENCODE[] = {
    {"a word", {.model = BYTES_MODEL}, "", "ab", ""},
    {"one letter", {.model = BYTES_MODEL}, "", "a", ""},
    {"unknown characters", {.model = BYTES_MODEL ", \"unk_token\": \"x\", \"fuse_unk\": true"}, "", "z\xC3\xA9", ""},
    {"byte fallback", {.model = "\"vocab\": {\"<0x7A>\": 0}, \"merges\": [], \"byte_fallback\": true"}, "", "zy", ""},
    {"ignore_merges", {.model = BYTES_MODEL ", \"ignore_merges\": true"}, "", "aab", ""},
    {"NFC", {.normalizer = "{\"type\": \"NFC\"}", .model = BYTES_MODEL}, "a", "\xCC\x81\xCC\xA3", ""},
    {"NFD", {.normalizer = "{\"type\": \"NFD\"}", .model = BYTES_MODEL}, "a", "\xCC\xA3\xCC\x81\xCC\x9B", ""},
    {"NFKC", {.normalizer = "{\"type\": \"NFKC\"}", .model = BYTES_MODEL}, "", "\xEF\xB7\xBA\xCC\x81\xCC\xA3", ""},
    {"NFKD", {.normalizer = "{\"type\": \"NFKD\"}", .model = BYTES_MODEL}, "", "a\xCC\x81\xCC\xA3", ""},
    {"Hangul", {.normalizer = "{\"type\": \"NFC\"}", .model = BYTES_MODEL}, "", "\xE1\x84\x80\xE1\x85\xA1", ""},
    {"Lowercase", {.normalizer = "{\"type\": \"Lowercase\"}", .model = BYTES_MODEL}, "", "A\xC4\xB0", ""},
    {"Strip",
     {.normalizer = "{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}", .model = BYTES_MODEL},
     "",
     " \xC2\xA0",
     "a"},
    {"Prepend", {.normalizer = "{\"type\": \"Prepend\", \"prepend\": \"x\"}", .model = BYTES_MODEL}, "", "ab ", ""},
    {"Replace a string",
     {.normalizer = "{\"type\": \"Replace\", \"pattern\": {\"String\": \"aaaaaaaaaaaab\"}, \"content\": \"x\"}",
      .model = BYTES_MODEL},
     "",
     "aaaaaaaaaaaa",
     "b"},
    {"Replace the empty string",
     {.normalizer = "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"x\"}",
      .model = BYTES_MODEL},
     "",
     "ab",
     ""},
    {"Replace by an expression",
     {.normalizer = "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a+$|\\\\s{2,}\"}, \"content\": \" \"}",
      .model = BYTES_MODEL},
     "",
     "  ab",
     ""},
    {"GPT-2, letters", {.pre_tokenizer = SPLIT(GPT2, "Isolated"), .model = BYTES_MODEL}, "", "a", ""},
    {"GPT-2, spaces", {.pre_tokenizer = SPLIT(GPT2, "Isolated"), .model = BYTES_MODEL}, "", " ", "x"},
    {"GPT-2, words", {.pre_tokenizer = SPLIT(GPT2, "MergedWithNext"), .model = BYTES_MODEL}, "", "ab 's1 ", "x"},
    {"Llama 3, spaces", {.pre_tokenizer = SPLIT(LLAMA3, "Isolated"), .model = BYTES_MODEL}, "", " ", "x"},
    {"Llama 3, signs", {.pre_tokenizer = SPLIT(LLAMA3, "Removed"), .model = BYTES_MODEL}, "", "!?", "x"},
    {"Llama 3, lines", {.pre_tokenizer = SPLIT(LLAMA3, "Contiguous"), .model = BYTES_MODEL}, "", " \n", "x"},
    {"Llama 3, digits", {.pre_tokenizer = SPLIT(LLAMA3, "MergedWithPrevious"), .model = BYTES_MODEL}, "", "12", "x"},
    {"no match", {.pre_tokenizer = SPLIT("[0-9]+", "Isolated"), .model = BYTES_MODEL}, "", "ab", ""},
    {"an empty match", {.pre_tokenizer = SPLIT("", "Isolated"), .model = BYTES_MODEL}, "", "ab", ""},
    {"a match that may be empty", {.pre_tokenizer = SPLIT("x*", "Removed"), .model = BYTES_MODEL}, "", "xa", ""},
    {"look around", {.pre_tokenizer = SPLIT("(?<=a)(?=b)", "Isolated"), .model = BYTES_MODEL}, "", "ab", ""},
    {"ByteLevel",
     {.pre_tokenizer = "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}", .model = BYTES_MODEL},
     "",
     "\xE6\xBC\xA2 ",
     ""},
    {"Digits",
     {.pre_tokenizer = "{\"type\": \"Digits\", \"individual_digits\": true}", .model = BYTES_MODEL},
     "",
     "1",
     ""},
    {"Metaspace",
     {.pre_tokenizer = "{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\"}", .model = BYTES_MODEL},
     "",
     " a",
     ""},
    {"added tokens with one beginning",
     {.added_tokens = "[" ADDED("9", "aaaaaaaaaaaaaaaab", "") ", " ADDED("10", "aaaaaaaaac", "") "]",
      .model = BYTES_MODEL},
     "",
     "a",
     ""},
    {"added tokens of white space",
     {.added_tokens = "[" ADDED("9", "\\n", ", \"rstrip\": true, \"special\": true") ", " ADDED(
          "10", "\\t", ", \"lstrip\": true, \"special\": true") "]",
      .model = BYTES_MODEL},
     "",
     " \n\t",
     ""},
    {"added tokens, refused inside of words",
     {.added_tokens = "[" ADDED("2", "ab", ", \"single_word\": true") "]", .model = BYTES_MODEL},
     "",
     "ab",
     ""},
    {"an added token and white space before it",
     {.added_tokens = "[" ADDED("9", "z", ", \"lstrip\": true, \"special\": true") "]", .model = BYTES_MODEL},
     "",
     " ",
     "z"},
    {"Unigram, words", {.type = "Unigram", .model = UNIGRAM_MODEL}, "", "ab", ""},
    {"Unigram, a long token that never ends", {.type = "Unigram", .model = UNIGRAM_MODEL}, "", "a", ""},
    {"Unigram, unknown characters", {.type = "Unigram", .model = UNIGRAM_MODEL}, "", "z\xC3\xA9", ""},
    {"Unigram, byte fallback", {.type = "Unigram", .model = UNIGRAM_MODEL ", \"byte_fallback\": true"}, "", "z", ""},
    {"Precompiled", {.normalizer = GROWING_TABLE, .model = BYTES_MODEL}, "", "ab", ""},
    {"Precompiled, one long cluster", {.normalizer = GROWING_TABLE, .model = BYTES_MODEL}, "b", "\xCC\x81", ""},
    {"StripAccents", {.normalizer = STEP("StripAccents"), .model = BYTES_MODEL}, "a", "\xCC\x81", ""},
    {"Nmt", {.normalizer = STEP("Nmt"), .model = BYTES_MODEL}, "", "\x01\xE2\x80\x8B", ""},
    {"BertNormalizer", {.normalizer = STEP("BertNormalizer"), .model = BYTES_MODEL}, "A", "\xCC\x81\xCC\xA3", ""},
    {"BertNormalizer, Han", {.normalizer = STEP("BertNormalizer"), .model = BYTES_MODEL}, "", "\xE6\xBC\xA2", ""},
    {"BertPreTokenizer", {.pre_tokenizer = STEP("BertPreTokenizer"), .model = BYTES_MODEL}, "", "a.,  b", ""},
    {"Whitespace", {.pre_tokenizer = STEP("Whitespace"), .model = BYTES_MODEL}, "", "a!! ", ""},
    {"Strip, all of it",
     {.normalizer = "{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}", .model = BYTES_MODEL},
     "a",
     " ",
     ""},
};

static char *make_text(const encode_case *c, size_t size, size_t *bytes) {
    text_buffer text = {0};
    char *out;
    OK(text_append(&text, c->before, strlen(c->before)));
    while (text.length < size) OK(text_append(&text, c->unit, strlen(c->unit)));
    OK(text_append(&text, c->behind, strlen(c->behind)));
    *bytes = text.length;
    OK(text_take(&text, &out));
    return out;
}

static lckv_tokenizer *tokenizer; /* of the current case */

static void encode_text_of(const void *user, size_t size) {
    int32_t *ids;
    size_t count, bytes;
    uint64_t before = work_steps;
    char *text = make_text(user, size, &bytes);
    work_steps = before;
    OK(lckv_tokenizer_encode(tokenizer, text, bytes, false, &ids, &count));
    lckv_free(ids);
    free(text);
}

static void encoding_is_linear(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ENCODE / sizeof *ENCODE; i++) {
        OK(open_parts(&ENCODE[i].parts, &tokenizer));
        expect_linear(ENCODE[i].name, encode_text_of, &ENCODE[i], SIZE);
        lckv_tokenizer_free(tokenizer);
    }
}

/* ---- ids to text */

typedef struct decode_case {
    const char *name, *decoder;
    int32_t ids[3]; /* repeated */
} decode_case;

#define STRIP "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1000000000, \"stop\": 1000000000}"
#define SEQUENCE(steps) "{\"type\": \"Sequence\", \"decoders\": [" steps "]}"

static const char DECODE_MODEL[] =
    "\"vocab\": {\"\": 0, \"a\": 1, \" \": 2, \"<0xE6>\": 3, \"<0x41>\": 4, \"\xC3\xA6\": 5, "
    "\"\xE2\x96\x81\": 6}, \"merges\": []";

static const decode_case DECODE[] = {
    {"joined", NULL, {0, 1, 2}},
    {"byte tokens, invalid", "{\"type\": \"ByteFallback\"}", {3, 4, 3}},
    {"byte tokens, then text", SEQUENCE("{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}"), {4, 4, 1}},
    {"bytes that are no UTF-8", "{\"type\": \"ByteLevel\"}", {5, 5, 5}},
    {"spaces that the end may take", SEQUENCE("{\"type\": \"Fuse\"}, " STRIP), {2, 2, 2}},
    {"spaces inside", SEQUENCE("{\"type\": \"Fuse\"}, " STRIP), {2, 2, 1}},
    {"replaced as a whole", SEQUENCE("{\"type\": \"Fuse\"}, " REPLACE("aa", "a")), {1, 1, 1}},
    {"replaced one by one", SEQUENCE(REPLACE("a", "xx") ", " REPLACE("x", "yy")), {1, 1, 1}},
    {"the empty string replaced", SEQUENCE("{\"type\": \"Fuse\"}, " REPLACE("", "b")), {1, 2, 0}},
    {"Metaspace", "{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\"}", {6, 6, 1}},
};

static void decode_ids_of(const void *user, size_t size) {
    const decode_case *c = user;
    lckv_decode_stream *stream;
    const char *text;
    size_t bytes;
    OK(lckv_decode_stream_open(tokenizer, false, &stream));
    for (size_t i = 0; i < size; i++) OK(lckv_decode_stream_push(stream, c->ids[i % 3], &text, &bytes));
    OK(lckv_decode_stream_finish(stream, &text, &bytes));
    lckv_decode_stream_free(stream);
}

static void decoding_is_linear(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof DECODE / sizeof *DECODE; i++) {
        OK(open_parts(&(tokenizer_parts){.decoder = DECODE[i].decoder, .model = DECODE_MODEL}, &tokenizer));
        expect_linear(DECODE[i].name, decode_ids_of, &DECODE[i], SIZE);
        lckv_tokenizer_free(tokenizer);
    }
}

/* ---- reading files */

typedef enum file_part { ADDED_TOKENS, MERGES, STRINGS } file_part;

static void read_file_of(const void *user, size_t size) {
    file_part part = *(const file_part *)user;
    text_buffer text = {0};
    lckv_tokenizer *t;
    size_t count = size / 16;
    uint64_t before = work_steps;
    OK(text_printf(&text, "{\"added_tokens\": ["));
    for (size_t i = 0; part == ADDED_TOKENS && i < count; i++)
        OK(text_printf(&text, "%s{\"id\": %zu, \"content\": \"<%zu>\"}", i ? "," : "", i + 1, i));
    OK(text_printf(&text, "], \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0"));
    for (size_t i = 1; part == MERGES && i < count; i++)
        OK(text_printf(&text, ", \"%zu\": %zu, \"a%zu\": %zu", i, 2 * i, i, 2 * i + 1));
    OK(text_printf(&text, "}, \"merges\": ["));
    for (size_t i = 1; part == MERGES && i < count; i++) OK(text_printf(&text, "%s\"a %zu\"", i > 1 ? ", " : "", i));
    OK(text_printf(&text, "]"));
    for (size_t i = 0; part == STRINGS && i < size; i++)
        OK(text_append(&text, i ? "\\\"" : ", \"unk_token\": \"", i ? 2 : 16));
    OK(text_printf(&text, part == STRINGS ? "\"}}" : "}}"));
    work_steps = before;
    OK(open_json(text.data, text.length, &t));
    lckv_tokenizer_free(t);
    text_free(&text);
}

static void reading_is_linear(void **state) {
    (void)state;
    for (file_part part = ADDED_TOKENS; part <= STRINGS; part++)
        expect_linear("tokenizer.json", read_file_of, &part, 4 * SIZE);
}

/* A SentencePiece vocabulary of tokens of eight digits, of which none is the sum of two others, and as many other
 * keys. */
static void put_gguf(gguf_keys *k, size_t count) {
    char text[32];
    OK(gguf_put_string(k, "tokenizer.ggml.model", "llama"));
    OK(gguf_begin_array(k, "tokenizer.ggml.tokens", GGUF_STRING, count));
    for (size_t i = 0; i < count; i++) OK(gguf_add_string(k, text, (size_t)snprintf(text, sizeof text, "%08zu", i)));
    OK(gguf_begin_array(k, "tokenizer.ggml.scores", GGUF_FLOAT32, count));
    for (size_t i = 0; i < count; i++) OK(gguf_add_float(k, -(float)i));
    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "general.%zu", i);
        OK(gguf_put_uint(k, text, 1));
    }
}

static void read_gguf_of(const void *user, size_t size) {
    const char *path = user;
    gguf_keys keys = {0};
    new_file file;
    lckv_tokenizer *t;
    uint64_t before = work_steps;
    put_gguf(&keys, size / 16);
    OK(file_begin(path, &file));
    OK(gguf_write(&file, &keys, NULL, 0, NULL, NULL));
    OK(file_commit(&file));
    gguf_keys_free(&keys);
    work_steps = before;
    OK(lckv_tokenizer_open(path, &t));
    lckv_tokenizer_free(t);
}

static void reading_gguf_is_linear(void **state) {
    (void)state;
    char path[] = "/tmp/lckv_gguf_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    expect_linear("GGUF", read_gguf_of, path, 4 * SIZE);
    unlink(path);
}

/* Tokens of a Unigram model with a common prefix, up to the maximum length. */
static void read_unigram_of(const void *user, size_t size) {
    text_buffer text = {0};
    lckv_tokenizer *t;
    uint64_t before = work_steps;
    (void)user;
    OK(text_printf(&text, "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"u\", 0]"));
    for (size_t i = 0; i < size / 256; i++) OK(text_printf(&text, ", [\"%0256zu\", -1]", i));
    OK(text_printf(&text, "]}}"));
    work_steps = before;
    OK(open_json(text.data, text.length, &t));
    lckv_tokenizer_free(t);
    text_free(&text);
}

/* Tokens from the other files of a folder. */
static void read_config_of(const void *user, size_t size) {
    text_buffer config = {0};
    lckv_tokenizer *t;
    const char *list = user;
    uint64_t before = work_steps;
    bool numbered = !strcmp(list, "added_tokens_decoder");
    OK(text_printf(&config, "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"%s\": %c", list,
                   numbered ? '{' : '['));
    for (size_t i = 0; i < size / 16; i++)
        OK(numbered ? text_printf(&config, "%s\"%zu\": {\"content\": \"<%zu>\"}", i ? "," : "", i + 1, i)
                    : text_printf(&config, "%s\"<%zu>\"", i ? "," : "", i));
    OK(text_printf(&config, "%c}", numbered ? '}' : ']'));
    work_steps = before;
    OK(open_with_config("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}", config.data, &t));
    lckv_tokenizer_free(t);
    text_free(&config);
}

static void reading_tokens_of_a_folder_is_linear(void **state) {
    (void)state;
    expect_linear("added_tokens_decoder", read_config_of, "added_tokens_decoder", 4 * SIZE);
    expect_linear("additional_special_tokens", read_config_of, "additional_special_tokens", 4 * SIZE);
}

static void reading_unigram_is_linear(void **state) {
    (void)state;
    expect_linear("a Unigram model", read_unigram_of, NULL, 16 * SIZE);
}

/* For any random factor of a table: consecutive keys, such as merges with one left side, are spread over the table */
static void pairs_in_a_row_do_not_crowd(void **state) {
    (void)state;
    enum { TABLES = 300, PAIRS = 4000, MAX_STEPS = 10 };
    for (uint32_t i = 0; i < TABLES; i++) {
        pair_table t = {0};
        uint64_t before = work_steps;
        for (uint32_t k = 0; k < PAIRS; k++)
            OK(pair_table_put(&t, i % 2 ? pair_of(i, 2 * k) : pair_of(k, 2 * k + i), k));
        for (uint32_t k = 0; k < PAIRS; k++)
            assert_non_null(pair_table_find(&t, i % 2 ? pair_of(i, 2 * k) : pair_of(k, 2 * k + i)));
        if (work_steps - before > MAX_STEPS * PAIRS)
            fail_msg("%d pairs took %llu steps", PAIRS, (unsigned long long)(work_steps - before));
        pair_table_free(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_is_linear),          cmocka_unit_test(decoding_is_linear),
        cmocka_unit_test(reading_is_linear),           cmocka_unit_test(reading_gguf_is_linear),
        cmocka_unit_test(reading_unigram_is_linear),   cmocka_unit_test(reading_tokens_of_a_folder_is_linear),
        cmocka_unit_test(pairs_in_a_row_do_not_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
