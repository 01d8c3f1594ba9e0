/* The text that a token adds: the joined bytes of tokens are the decoded text. */
#define _GNU_SOURCE /* memmem */
#include "text_fixture.h"

static void append_token(lckv_tokenizer *t, int32_t id, text_buffer *joined, bool *begun) {
    char *bytes;
    size_t count;
    if (lckv_tokenizer_is_special(t, id)) return;
    OK(lckv_tokenizer_token_bytes(t, id, !*begun, &bytes, &count));
    assert_int_equal(bytes[count], 0);
    OK(text_append(joined, bytes, count));
    *begun = true;
    lckv_free(bytes);
}

/* Byte tokens that form invalid UTF-8 decode to one U+FFFD per byte, so that only the joined bytes can be compared. */
static void check_ids(lckv_tokenizer *t, const int32_t *ids, size_t count) {
    text_buffer joined = {0};
    char *text;
    size_t bytes;
    bool begun = false;
    OK(lckv_tokenizer_decode(t, ids, count, true, &text, &bytes));
    for (size_t i = 0; i < count; i++) append_token(t, ids[i], &joined, &begun);
    if (utf8_valid(joined.data, joined.length) &&
        (joined.length != bytes || (bytes && memcmp(joined.data, text, bytes))))
        fail_msg("joined '%.*s', decoded '%s'", (int)joined.length, joined.data, text);
    if (!utf8_valid(joined.data, joined.length))
        assert_non_null(memmem(text, bytes, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT)));
    text_free(&joined);
    lckv_free(text);
}

static void check_text(lckv_tokenizer *t, const char *text, size_t bytes) {
    int32_t *ids;
    size_t count;
    for (int special = 0; special < 2; special++) {
        OK(lckv_tokenizer_encode(t, text, bytes, special, &ids, &count));
        check_ids(t, ids, count);
        lckv_free(ids);
    }
}

static void check_shared(const char *name) {
    lckv_tokenizer *t = open_shared(name);
    char path[1024], *file, *line, *rest;
    size_t bytes, lines = 0;
    snprintf(path, sizeof path, "%s/data/tokenizers/%s/expected.jsonl", SHARED_DIR, name);
    OK(file_read(path, &file, &bytes));
    for (line = strtok_r(file, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), lines++) {
        json_t *row = json_of(line);
        const json_t *text = json_object_get(row, "text");
        check_text(t, json_string_value(text), json_string_length(text));
        json_decref(row);
    }
    assert_true(lines > 20);
    for (uint64_t i = 0; i < 2000; i++) { /* random ids, which no text encodes to */
        int32_t ids[6];
        for (uint64_t k = 0; k < 6; k++) do
                ids[k] = (int32_t)(rng_uniform(3, i, k) * lckv_tokenizer_vocab_size(t));
            while (!lckv_tokenizer_id_to_token(t, ids[k]));
        check_ids(t, ids, 6);
    }
    free(file);
    lckv_tokenizer_free(t);
}

static void llama2(void **state) {
    (void)state;
    check_shared("llama2");
}
static void llama3(void **state) {
    (void)state;
    check_shared("llama3");
}
static void gpt2(void **state) {
    (void)state;
    check_shared("gpt2");
}
static void stories512(void **state) {
    (void)state;
    check_shared("stories512");
}

static void expect_bytes(lckv_tokenizer *t, int32_t id, bool at_start, const char *expected, size_t length) {
    char *bytes;
    size_t count;
    OK(lckv_tokenizer_token_bytes(t, id, at_start, &bytes, &count));
    assert_int_equal(count, length);
    assert_memory_equal(bytes, expected, length);
    lckv_free(bytes);
}

static void spaces_and_parts(void **state) {
    (void)state;
    static const char MODEL[] = "\"vocab\": {\"<unk>\": 0, \"\u2581the\": 1, \"\u00e9\": 2, \"<0xE4>\": 3, "
                                "\"<0x61>\": 4, \"<0x00>\": 5}, \"merges\": [], \"unk_token\": \"<unk>\", "
                                "\"byte_fallback\": true",
                      DECODER[] = "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
                                  "{\"String\": \"\u2581\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, "
                                  "{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "
                                  "\"stop\": 0}]}";
    lckv_tokenizer *t;
    char *bytes;
    size_t count;
    OK(open_parts(&(tokenizer_parts){.model = MODEL, .decoder = DECODER}, &t));
    expect_bytes(t, 1, false, " the", 4);
    expect_bytes(t, 1, true, "the", 3);
    expect_bytes(t, 2, false, "\xC3\xA9", 2);
    expect_bytes(t, 3, false, "\xE4", 1);
    expect_bytes(t, 4, false, "a", 1);
    expect_bytes(t, 5, false, "\0", 1);
    assert_int_equal(lckv_tokenizer_token_bytes(t, 5000, false, &bytes, &count), LCKV_ERROR_ARGUMENT);
    assert_null(bytes);
    lckv_tokenizer_free(t);
}

/* Without a decoder, tokens are joined by spaces; Metaspace removes the first one. */
static void other_decoders(void **state) {
    (void)state;
    static const char MODEL[] = "\"vocab\": {\"a\": 0, \"\u2581b\": 1}, \"merges\": []";
    lckv_tokenizer *t;
    OK(open_parts(&(tokenizer_parts){.model = MODEL}, &t));
    expect_bytes(t, 0, false, " a", 2);
    expect_bytes(t, 0, true, "a", 1);
    lckv_tokenizer_free(t);
    OK(open_parts(
        &(tokenizer_parts){.model = MODEL, .decoder = "{\"type\": \"Metaspace\", \"replacement\": \"\u2581\"}"}, &t));
    expect_bytes(t, 1, false, " b", 2);
    expect_bytes(t, 1, true, "b", 1);
    lckv_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama2),     cmocka_unit_test(llama3),           cmocka_unit_test(gpt2),
        cmocka_unit_test(stories512), cmocka_unit_test(spaces_and_parts), cmocka_unit_test(other_decoders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
