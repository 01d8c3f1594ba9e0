/* Tokenizers in GGUF files: real ones are written and read again, and give the ids of the tokenizers library
 * (expected.jsonl) and of llama.cpp (vectors/ggml-vocab-*). */
#include "gguf/gguf.h"
#include "io/convert.h"
#include "io/gguf/gguf_vocabulary.h"
#include "text_fixture.h"

#include "small_tokenizer.h"

/* Writes a GGUF file without tensors. The config has two more rows than the tokenizer has tokens. */
static int write_vocabulary(const folder *f, const char *tokenizer) {
    gguf_keys keys = {0};
    new_file file;
    lckv_tokenizer *t;
    model_config c = {.name = (char *)(uintptr_t) "test", .bos_token_id = 1, .pad_token_id = -1};
    OK(lckv_tokenizer_open(tokenizer, &t));
    c.vocab_size = lckv_tokenizer_vocab_size(t) + 2;
    lckv_tokenizer_free(t);
    int status = gguf_put_tokenizer(&keys, tokenizer, &c);
    if (status >= 0) {
        OK(file_begin(in(f, "vocabulary.gguf"), &file));
        OK(gguf_write(&file, &keys, NULL, 0, NULL, NULL));
        OK(file_commit(&file));
    }
    gguf_keys_free(&keys);
    return status;
}

static lckv_tokenizer *read_vocabulary(const folder *f) {
    lckv_tokenizer *t;
    OK(lckv_tokenizer_open(in(f, "vocabulary.gguf"), &t));
    return t;
}

/* ---------------------------------------------------------------- real tokenizers */

static void copy_shared(const folder *f, const char *name) {
    char command[2048];
    snprintf(command, sizeof command,
             "d='%s/data/tokenizers/%s'; cd '%s' && [ -d \"$d\" ] && cp \"$d\"/*.json* . && chmod u+w * && "
             "{ [ ! -f tokenizer.json.gz ] || gunzip tokenizer.json.gz; }",
             SHARED_DIR, name, f->path);
    if (system(command) != 0) SKIP("no %s/data/tokenizers/%s", SHARED_DIR, name);
}

static void expect_ids(lckv_tokenizer *t, const json_t *row, bool special) {
    const json_t *text = json_object_get(row, "text"), *expected = json_object_get(row, special ? "ids" : "plain");
    int32_t *ids;
    size_t count;
    OK(lckv_tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, &count));
    assert_int_equal(count, json_array_size(expected));
    for (size_t i = 0; i < count; i++)
        if (ids[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("'%s': id %zu is %d", json_string_value(text), i, ids[i]);
    lckv_free(ids);
}

static void expect_text(lckv_tokenizer *t, const json_t *row) {
    const json_t *list = json_object_get(row, "ids"), *expected = json_object_get(row, "decoded");
    size_t count = json_array_size(list), bytes;
    int32_t *ids = calloc(count + 1, sizeof *ids);
    char *text;
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    OK(lckv_tokenizer_decode(t, ids, count, true, &text, &bytes));
    assert_int_equal(bytes, json_string_length(expected));
    assert_memory_equal(text, json_string_value(expected), bytes);
    lckv_free(text);
    free(ids);
}

static void expect_known(lckv_tokenizer *t, const folder *f) {
    size_t bytes, rows = 0;
    char path[1024], *text;
    snprintf(path, sizeof path, "%s/expected.jsonl", f->path);
    OK(file_read(path, &text, &bytes));
    for (char *line = text, *end; *line; line = end + 1, rows++) {
        end = line + strcspn(line, "\n");
        *end = 0;
        json_t *row = json_of(line);
        expect_ids(t, row, true);
        expect_ids(t, row, false);
        if (json_is_string(json_object_get(row, "decoded"))) expect_text(t, row);
        json_decref(row);
    }
    assert_true(rows > 100);
    free(text);
}

/* Texts between lines, and a line of ids for each. */
static void expect_vectors(lckv_tokenizer *t, const char *name) {
    static const char between[] = "\n__ggml_vocab_test__\n";
    char path[1024], *texts, *lines;
    size_t bytes, checked = 0;
    snprintf(path, sizeof path, "%s/data/tokenizers/vectors/ggml-vocab-%s.gguf.inp", SHARED_DIR, name);
    OK(file_read(path, &texts, &bytes));
    snprintf(path, sizeof path, "%s/data/tokenizers/vectors/ggml-vocab-%s.gguf.out", SHARED_DIR, name);
    OK(file_read(path, &lines, &bytes));
    char *line = lines;
    for (char *text = texts, *end; (end = strstr(text, between)); text = end + strlen(between), checked++) {
        int32_t *ids;
        size_t count;
        OK(lckv_tokenizer_encode(t, text, (size_t)(end - text), false, &ids, &count));
        for (size_t i = 0; i < count; i++) assert_int_equal(ids[i], strtol(line, &line, 10));
        assert_int_equal(*line + strspn(line, " "), '\n');
        line++;
        lckv_free(ids);
    }
    assert_true(checked > 40);
    free(texts);
    free(lines);
}

static void check_real(const folder *f, const char *name, const char *vectors) {
    copy_shared(f, name);
    OK(write_vocabulary(f, f->path));
    lckv_tokenizer *t = read_vocabulary(f);
    expect_known(t, f);
    if (vectors) expect_vectors(t, vectors);
    lckv_tokenizer_free(t);
}

static void gpt2(void **state) {
    check_real(*state, "gpt2", "gpt-2");
}

static void llama2(void **state) {
    check_real(*state, "llama2", "llama-spm");
}

static void llama3(void **state) {
    check_real(*state, "llama3", "llama-bpe");
}

static void stories512(void **state) {
    check_real(*state, "stories512", NULL);
}

/* ---------------------------------------------------------------- pre-tokenizers */

/* A byte-level tokenizer.json of single characters with this pre-tokenizer. */
static void put_bytes_tokenizer(const folder *f, const char *before, const char *pre, const char *more) {
    text_buffer b = {0};
    OK(text_printf(
        &b,
        "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":4,\"content\":\"<e>\",\"special\":true,"
        "\"normalized\":false,\"single_word\":false,\"lstrip\":false,\"rstrip\":false},{\"id\":5,"
        "\"content\":\"<u>\",\"special\":false,\"normalized\":false,\"single_word\":false,"
        "\"lstrip\":false,\"rstrip\":false}],\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":null,"
        "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
        "\"model\":{\"type\":\"BPE\",%s\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\u0120\":3},"
        "\"merges\":[\"a b\"]}}",
        before, pre, more));
    put(in(f, "tokenizer.json"), b.data, b.length);
    text_free(&b);
    put_text(in(f, "tokenizer_config.json"),
             "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"eos_token\":\"<e>\",\"chat_template\":\"{{ 'x' }}\"}");
}

static gguf_text pre_of(const folder *f, gguf_file *file) {
    gguf_text pre;
    OK(gguf_open(in(f, "vocabulary.gguf"), file));
    OK(gguf_get_string(file, "tokenizer.ggml.pre", &pre));
    return pre;
}

#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":%s}"
#define SPLIT "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define WORDS(digits)                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" digits                             \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static void pre_tokenizers_have_names(void **state) {
    static const struct {
        const char *name, *normalizer, *steps, *expression, *regex, *more;
    } cases[] = {
        {"gpt-2", "null", NULL, NULL, "true", ""},
        {"smollm", "null", "{\"type\":\"Digits\",\"individual_digits\":true}", NULL, "true", ""},
        {"llama-bpe", "null", SPLIT, WORDS("{1,3}"), "false", "\"ignore_merges\":true,"},
        {"smaug-bpe", "null", SPLIT, WORDS("{1,3}"), "false", ""},
        {"qwen2", "{\"type\":\"NFC\"}", SPLIT, WORDS(""), "false", ""},
    };
    const folder *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char first[1024], bytes[256], pre[2048];
        gguf_file file;
        snprintf(bytes, sizeof bytes, BYTES, cases[i].regex);
        if (cases[i].steps) snprintf(first, sizeof first, SPLIT, cases[i].expression ? cases[i].expression : "");
        if (cases[i].steps && !cases[i].expression) snprintf(first, sizeof first, "%s", cases[i].steps);
        snprintf(pre, sizeof pre, "{\"type\":\"Sequence\",\"pretokenizers\":[%s,%s]}", first, bytes);
        put_bytes_tokenizer(f, cases[i].normalizer, cases[i].steps ? pre : bytes, cases[i].more);
        OK(write_vocabulary(f, f->path));
        gguf_text name = pre_of(f, &file);
        if (!gguf_text_is(name, cases[i].name))
            fail_msg("'%s' became '%.*s'", cases[i].name, (int)name.bytes, name.data);
        gguf_close(&file);
        lckv_tokenizer *t = read_vocabulary(f);
        assert_tokens(t, "ab a<e>b<u>", "ab|\u0120|a|<e>|b|<u>");
        assert_true(lckv_tokenizer_is_special(t, 4) && !lckv_tokenizer_is_special(t, 5));
        assert_int_equal(lckv_tokenizer_eos_id(t), 4);
        lckv_tokenizer_free(t);
    }
}

static void chat_template_and_special_tokens(void **state) {
    const folder *f = *state;
    lckv_chat_template *chat;
    char bytes[256];
    snprintf(bytes, sizeof bytes, BYTES, "true");
    put_bytes_tokenizer(f, "null", bytes, "");
    OK(write_vocabulary(f, f->path));
    OK(lckv_chat_template_open(in(f, "vocabulary.gguf"), NULL, &chat));
    assert_string_equal(lckv_chat_template_source(chat), "{{ 'x' }}");
    lckv_chat_template_free(chat);
}

/* ---------------------------------------------------------------- SentencePiece */

/* Tokens that no merge makes stay tokens; BOS and unused ids return. */
static void pieces_with_scores(void **state) {
    const folder *f = *state;
    lckv_tokenizer *a = small_tokenizer(f), *b;
    put_text(in(f, "tokenizer_config.json"), "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"tokenizer_class\":"
                                             "\"PreTrainedTokenizerFast\"}");
    OK(write_vocabulary(f, f->path));
    b = read_vocabulary(f);
    static const char *const texts[] = {"a b", " stop. é\n", "<s>a</s>", ""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *tokens = tokens_of(a, texts[i], strlen(texts[i]));
        assert_tokens(b, texts[i], tokens);
        free(tokens);
    }
    assert_int_equal(lckv_tokenizer_vocab_size(b), SMALL_VOCAB + 2);
    assert_int_equal(lckv_tokenizer_bos_id(b), 1);
    lckv_tokenizer_free(a);
    lckv_tokenizer_free(b);
}

static void replace_text(const folder *f, const char *from, const char *to) {
    size_t length;
    char *text;
    text_buffer out = {0};
    OK(file_read(in(f, "tokenizer.json"), &text, &length));
    const char *at = strstr(text, from);
    assert_non_null(at);
    OK(text_printf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)));
    put(in(f, "tokenizer.json"), out.data, out.length);
    text_free(&out);
    free(text);
}

static void what_llama_cpp_cannot_express_is_named(void **state) {
    static const struct {
        const char *from, *to, *error;
    } cases[] = {
        {"\"▁ a\",\"▁ b\"", "\"▁ b\"", "merges that do not follow from scores"},
        {"\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"Whitespace\"}",
         "this normalizer and this pre-tokenizer"},
        {"{\"type\":\"Prepend\",\"prepend\":\"▁\"}", "{\"type\":\"NFKC\"}", "this normalizer and this pre-tokenizer"},
        {"{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\"",
         "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\"",
         "other tokens than BOS and EOS around a text"},
    };
    const folder *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        small_tokenizer_write(f);
        put_text(in(f, "tokenizer_config.json"),
                 "{\"bos_token\":\"<s>\",\"tokenizer_class\":\"PreTrainedTokenizerFast\"}");
        replace_text(f, cases[i].from, cases[i].to);
        FAILS(write_vocabulary(f, f->path), LCKV_ERROR_UNSUPPORTED, cases[i].error);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(gpt2),
        IN_FOLDER(llama2),
        IN_FOLDER(llama3),
        IN_FOLDER(stories512),
        IN_FOLDER(pre_tokenizers_have_names),
        IN_FOLDER(chat_template_and_special_tokens),
        IN_FOLDER(pieces_with_scores),
        IN_FOLDER(what_llama_cpp_cannot_express_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
