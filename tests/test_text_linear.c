/* Encoding and decoding take linear time and bounded memory for any tokenizer file: doubles adversarial texts and
 * counts steps. Normal forms are compared with those of utf8proc, which takes quadratic time. */
#include "gguf/gguf_write.h"
#include "text/subword/pair_table.h"
#include "text/unicode/unicode_form.h"

#include "text_fixture.h"

#include "linear.h"

#include <pthread.h>
#include <utf8proc.h>

enum { SIZE = 20000 };

#define BYTES_MODEL                                                                                                    \
    "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"aa\": 3, \"aaaa\": 4, \"abab\": 5, \" \": 6, \"\xE2\x96\x81\": 7, "  \
    "\"x\": 8}, "                                                                                                      \
    "\"merges\": [\"a b\", \"a a\", \"aa aa\", \"ab ab\"]"
#define SPLIT(expression, behavior)                                                                                    \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" expression "\"}, \"behavior\": \"" behavior                    \
    "\", \"invert\": false}"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define LLAMA3                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                             \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define ADDED(id, content, more) "{\"id\": " id ", \"content\": \"" content "\"" more "}"

#define UNIGRAM_MODEL                                                                                                  \
    "\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", -1], [\"b\", -1.5], [\"ab\", -2], [\"<0x7A>\", -9], "          \
    "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac\", -3]]"
/* SentencePiece's table that maps "a" to 16 times "a". */
#define GROWING_TABLE                                                                                                  \
    "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"DAAAAACAAQBhDQAAAAAAAGFhYWFhYWFhYWFhYWFhYWEA\"}"
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
#define REPLACE(from, to) "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" from "\"}, \"content\": \"" to "\"}"
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

/* ---- limits */

/* The result for this tokenizer.json: LCKV_OK, or an error. */
static void expect_limit(const tokenizer_parts *parts, const char *text, size_t bytes, const char *part) {
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    uint64_t before = work_steps;
    OK(open_parts(parts, &t));
    int status = lckv_tokenizer_encode(t, text, bytes, true, &ids, &count);
    if (status != LCKV_ERROR_UNSUPPORTED || !strstr(lckv_last_error(), part))
        fail_msg("status %d, '%s', expected '%s'", status, lckv_last_error(), part);
    assert_true(work_steps - before < 300000000 + 1000 * bytes);
    lckv_tokenizer_free(t);
}

/* `step` ten times in a sequence with this list name; release with free(). */
static char *ten_times(const char *list, const char *step) {
    text_buffer text = {0};
    char *out;
    OK(text_printf(&text, "{\"type\": \"Sequence\", \"%s\": [", list));
    for (int i = 0; i < 10; i++) OK(text_printf(&text, "%s%s", i ? ", " : "", step));
    OK(text_printf(&text, "]}"));
    OK(text_take(&text, &out));
    return out;
}

static void growth_is_limited(void **state) {
    (void)state;
    static const char GROW[] =
        "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}, \"content\": \"aaaaaaaaaaaaaaaa\"}";
    static const char EVERYWHERE[] =
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"aaaaaaaaaaaaaaaa\"}";
    char *grow = ten_times("normalizers", GROW), *everywhere = ten_times("normalizers", EVERYWHERE);
    char *decode = ten_times("decoders", GROW), *table = ten_times("normalizers", GROWING_TABLE), *text;
    lckv_tokenizer *t;
    size_t bytes;
    expect_limit(&(tokenizer_parts){.normalizer = grow, .model = BYTES_MODEL}, "a", 1,
                 "a text of 1 byte: a text grew beyond its limit of 104864");
    expect_limit(&(tokenizer_parts){.normalizer = table, .model = BYTES_MODEL}, "a", 1, "grew beyond its limit");
    expect_limit(&(tokenizer_parts){.normalizer = everywhere, .model = BYTES_MODEL}, "b", 1, "grew beyond its limit");
    /* in parts, each of which is below the limit */
    char many[4000];
    for (int i = 0; i < 4000; i++) many[i] = i % 2 ? 'z' : 'b';
    text_buffer prepend = {0};
    OK(text_printf(&prepend, "{\"type\": \"Prepend\", \"prepend\": \"%01000d\"}", 7));
    expect_limit(&(tokenizer_parts){.added_tokens = "[" ADDED("9", "z", ", \"special\": true") "]",
                                    .normalizer = prepend.data,
                                    .model = BYTES_MODEL},
                 many, sizeof many, "grew beyond its limit");
    OK(open_parts(&(tokenizer_parts){.decoder = decode, .model = BYTES_MODEL}, &t));
    assert_int_equal(lckv_tokenizer_decode(t, (const int32_t[]){0}, 1, false, &text, &bytes), LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "grew beyond its limit"));
    lckv_tokenizer_free(t);
    text_free(&prepend);
    free(grow);
    free(everywhere);
    free(table);
    free(decode);
}

/* Searches for the end of the spaces from each of them: an error if that is too much work, and soon. */
static void expressions_have_a_limit_on_work(void **state) {
    (void)state;
    enum { SPACES = 200000 };
    char *text = malloc(SPACES + 1);
    lckv_tokenizer *t;
    int32_t *ids;
    size_t count;
    memset(text, ' ', SPACES);
    text[SPACES] = 'x';
    expect_limit(&(tokenizer_parts){.pre_tokenizer = SPLIT("\\\\s+$", "Isolated"), .model = BYTES_MODEL}, text,
                 SPACES + 1, "a regular expression exceeded the limits");
    OK(open_parts(&(tokenizer_parts){.pre_tokenizer = SPLIT("\\\\s+$", "Isolated"), .model = BYTES_MODEL}, &t));
    for (int i = 0; i < 2; i++) { /* each text has its own limit */
        OK(lckv_tokenizer_encode(t, text + SPACES - 9000, 9001, false, &ids, &count));
        assert_int_equal(count, 9001);
        lckv_free(ids);
        OK(lckv_tokenizer_encode(t, text, SPACES, false, &ids,
                                 &count)); /* at the end of the text they match immediately */
        lckv_free(ids);
    }
    lckv_tokenizer_free(t);
    free(text);
}

static void long_parts_of_files_are_refused(void **state) {
    (void)state;
    lckv_tokenizer *t;
    text_buffer text = {0};
    OK(text_printf(&text, "[{\"id\": 9, \"content\": \"%01001d\"}]", 1));
    assert_int_equal(open_parts(&(tokenizer_parts){.added_tokens = text.data, .model = BYTES_MODEL}, &t),
                     LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "limit of 1000 bytes"));
    text.length = 0;
    OK(text_printf(&text, "{\"type\": \"Sequence\", \"normalizers\": ["));
    for (int i = 0; i < 1001; i++) OK(text_printf(&text, "%s{\"type\": \"NFC\"}", i ? "," : ""));
    OK(text_printf(&text, "]}"));
    assert_int_equal(open_parts(&(tokenizer_parts){.normalizer = text.data, .model = BYTES_MODEL}, &t),
                     LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "at most 1000 normalizers"));
    text.length = 0;
    OK(text_printf(&text, "{\"type\": \"TemplateProcessing\", \"single\": ["));
    for (int i = 0; i < 600; i++) OK(text_printf(&text, "{\"SpecialToken\": {\"id\": \"s\"}}, "));
    OK(text_printf(&text, "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"s\": {\"ids\": [0, 1]}}}"));
    assert_int_equal(open_parts(&(tokenizer_parts){.post_processor = text.data, .model = BYTES_MODEL}, &t),
                     LCKV_ERROR_UNSUPPORTED);
    assert_non_null(strstr(lckv_last_error(), "more than 1000 ids"));
    text_free(&text);
}

/* Empty strings wherever a file may have one: each file is accepted or rejected, and text is encoded and decoded. */
static void empty_strings_do_not_hang(void **state) {
    (void)state;
    static const char *const FILES[] = {
        "{\"model\":{\"type\":\"BPE\",\"\":0,\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"\":0,\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"model\":{\"type\":\"\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[[\"\",\"a\"],[\"a\",\"\"],[\"\",\"\"]]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[\" a\",\"a \",\" \"]}}",
        "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"\",\"vocab\":{\"\":0,\"a\":1},\"merges\":[[\"\",\"a\"],[\"\","
        "\"\"]]}}",
        "{\"added_tokens\":[{\"id\":1,\"content\":\"\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}"
        "}",
        "{\"added_tokens\":[{\"id\":1,\"content\":\"\",\"\":0}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},"
        "\"merges\":[]}}",
    };
    static const tokenizer_parts PARTS[] = {
        {.normalizer = "{\"type\":\"\"}", .model = BYTES_MODEL},
        {.normalizer = "{\"type\":\"NFC\",\"\":1}", .model = BYTES_MODEL},
        {.normalizer = "{\"type\":\"Prepend\",\"prepend\":\"\"}", .model = BYTES_MODEL},
        {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", .model = BYTES_MODEL},
        {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\"},\"content\":\"ab\"}", .model = BYTES_MODEL},
        {.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"\":\"\"},\"content\":\"ab\"}", .model = BYTES_MODEL},
        {.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[]}", .model = BYTES_MODEL},
        {.pre_tokenizer = SPLIT("", "Removed"), .model = BYTES_MODEL},
        {.pre_tokenizer = SPLIT("", "Contiguous"), .model = BYTES_MODEL},
        {.pre_tokenizer = SPLIT("(?:)*", "MergedWithNext"), .model = BYTES_MODEL},
        {.pre_tokenizer = SPLIT("(?:a*)*", "MergedWithPrevious"), .model = BYTES_MODEL},
        {.pre_tokenizer = SPLIT("\\\\b|$|^", "Isolated"), .model = BYTES_MODEL},
        {.pre_tokenizer =
             "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\",\"invert\":true}",
         .model = BYTES_MODEL},
        {.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"\"}", .model = BYTES_MODEL},
        {.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"\"}", .model = BYTES_MODEL},
        {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}}",
         .model = BYTES_MODEL},
        {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"\"}},{"
                           "\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"\":{\"ids\":[]}}}",
         .model = BYTES_MODEL},
        {.decoder = REPLACE("", ""), .model = BYTES_MODEL},
        {.decoder = REPLACE("", "ab"), .model = BYTES_MODEL},
        {.decoder = "{\"type\":\"Strip\",\"content\":\"\",\"start\":1,\"stop\":1}", .model = BYTES_MODEL},
        {.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"\"}", .model = BYTES_MODEL},
        {.decoder = "{\"type\":\"Sequence\",\"decoders\":[]}", .model = BYTES_MODEL},
        {.decoder = "{\"type\":\"\"}", .model = BYTES_MODEL},
    };
    enum { FILE_COUNT = sizeof FILES / sizeof *FILES, PART_COUNT = sizeof PARTS / sizeof *PARTS };
    alarm(60);
    for (size_t i = 0; i < FILE_COUNT + PART_COUNT; i++) {
        lckv_tokenizer *t;
        int status =
            i < FILE_COUNT ? open_json(FILES[i], strlen(FILES[i]), &t) : open_parts(&PARTS[i - FILE_COUNT], &t);
        assert_true(status >= 0 || *lckv_last_error());
        for (int k = 0; status >= 0 && k < 2; k++) {
            int32_t *ids;
            size_t count, bytes;
            char *text;
            OK(lckv_tokenizer_encode(t, "aab  ab", k ? 7 : 0, true, &ids, &count));
            OK(lckv_tokenizer_decode(t, ids, count, false, &text, &bytes));
            lckv_free(ids);
            lckv_free(text);
        }
        if (status >= 0) lckv_tokenizer_free(t);
    }
    alarm(0);
}

/* ---- normal forms */

static void normal_forms_are_the_references(void **state) {
    (void)state;
    static const uint32_t ALPHABET[] = {'a',     'e',    ' ',    0x301,  0x323,  0x31B,  0x345,    0x304,  0xE9,
                                        0x1E69,  0x1100, 0x1161, 0x11A8, 0xAC00, 0xFDFA, 0xFB01,   0x2126, 0x1D160,
                                        0x1D15F, 0x958,  0x344,  0x5D0,  0x5B0,  0x5BC,  0x0F71,   0x0F72, 0x0F73,
                                        0x9C7,   0x9BE,  0x9D7,  0x1F00, 0x3B1,  0x342,  0x10FFFF, 0xFEFF, 0x200D,
                                        0x1F600, 0x327,  0x338,  0x3099, 0x30AB};
    static const utf8proc_option_t OPTIONS[] = {
        UTF8PROC_STABLE | UTF8PROC_COMPOSE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    for (uint64_t i = 0; i < 20000; i++) {
        char text[200];
        uint32_t word[4];
        size_t bytes = 0;
        rng_block(1, i, 0, word);
        unicode_form form = word[0] % 4;
        int count = 1 + (int)(word[1] % 40), letters = 3 + (int)(word[2] % 38);
        for (int k = 0; k < count; k++) {
            rng_block(2, i, (uint64_t)k, word);
            uint32_t c = ALPHABET[word[0] % (uint32_t)letters];
            if (word[1] % 8 == 0) c = word[2] % 0x110000;
            if (c >= 0xD800 && c < 0xE000) c = 0x301;
            bytes += utf8_write(c, text + bytes);
        }
        utf8proc_uint8_t *expected;
        text_buffer found = {0};
        utf8proc_ssize_t length =
            utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &expected, OPTIONS[form]);
        assert_true(length >= 0);
        OK(unicode_form_append(form, text, bytes, &found));
        assert_int_equal(found.length, length);
        assert_memory_equal(found.data, expected, (size_t)length);
        free(expected);
        text_free(&found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_is_linear),
        cmocka_unit_test(decoding_is_linear),
        cmocka_unit_test(reading_is_linear),
        cmocka_unit_test(reading_gguf_is_linear),
        cmocka_unit_test(reading_unigram_is_linear),
        cmocka_unit_test(reading_tokens_of_a_folder_is_linear),
        cmocka_unit_test(pairs_in_a_row_do_not_crowd),
        cmocka_unit_test(growth_is_limited),
        cmocka_unit_test(expressions_have_a_limit_on_work),
        cmocka_unit_test(long_parts_of_files_are_refused),
        cmocka_unit_test(empty_strings_do_not_hang),
        cmocka_unit_test(normal_forms_are_the_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
