/* Four real tokenizers, encoding and decoding, against results of the tokenizers library (expected.jsonl) and against
 * the vectors of another implementation (vectors/ggml-vocab-*). */
#include "text_fixture.h"

/* ---- expected.jsonl: {text, ids, plain, decoded} */

static void assert_ids(const char *what, const int32_t *ids, size_t count, const json_t *expected) {
    if (count != json_array_size(expected))
        fail_msg("'%s': %zu ids, expected %zu", what, count, json_array_size(expected));
    for (size_t i = 0; i < count; i++)
        if (ids[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("'%s': id %zu is %d, expected %lld", what, i, ids[i],
                     (long long)json_integer_value(json_array_get(expected, i)));
}

static void check_encoding(lckv_tokenizer *t, const json_t *row, bool special) {
    const json_t *text = json_object_get(row, "text");
    int32_t *ids;
    size_t count;
    OK(lckv_tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, &count));
    assert_ids(json_string_value(text), ids, count, json_object_get(row, special ? "ids" : "plain"));
    lckv_free(ids);
}

/* Id by id: whole characters each time, and finally `expected`. */
static void check_stream(lckv_tokenizer *t, const int32_t *ids, size_t count, const json_t *expected) {
    lckv_decode_stream *stream;
    text_buffer whole = {0};
    const char *text;
    size_t bytes;
    OK(lckv_decode_stream_open(t, true, &stream));
    for (size_t i = 0; i <= count; i++) {
        if (i < count)
            OK(lckv_decode_stream_push(stream, ids[i], &text, &bytes));
        else
            OK(lckv_decode_stream_finish(stream, &text, &bytes));
        assert_true(utf8_valid(text, bytes));
        assert_int_equal(text[bytes], 0);
        OK(text_append(&whole, text, bytes));
    }
    assert_int_equal(whole.length, json_string_length(expected));
    if (whole.length) assert_memory_equal(whole.data, json_string_value(expected), whole.length);
    text_free(&whole);
    lckv_decode_stream_free(stream);
}

static void check_decoding(lckv_tokenizer *t, const json_t *row) {
    const json_t *list = json_object_get(row, "ids"), *decoded = json_object_get(row, "decoded");
    size_t count = json_array_size(list), bytes;
    int32_t *ids = malloc(count * sizeof *ids + 1);
    char *text;
    assert_non_null(ids);
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    OK(lckv_tokenizer_decode(t, ids, count, true, &text, &bytes));
    assert_int_equal(bytes, json_string_length(decoded));
    assert_memory_equal(text, json_string_value(decoded), bytes + 1);
    check_stream(t, ids, count, decoded);
    lckv_free(text);
    free(ids);
}

static void check_known(lckv_tokenizer *t, const char *name) {
    char path[1024], *text, *next;
    size_t bytes, rows = 0;
    snprintf(path, sizeof path, "%s/data/tokenizers/%s/expected.jsonl", SHARED_DIR, name);
    OK(file_read(path, &text, &bytes));
    for (char *line = text; *line; line = next, rows++) {
        json_t *row;
        next = line + strcspn(line, "\n");
        OK(json_parse(line, (size_t)(next - line), path, &row));
        check_encoding(t, row, true);
        check_encoding(t, row, false);
        check_decoding(t, row);
        json_decref(row);
        next += *next == '\n';
    }
    assert_true(rows > 100);
    free(text);
}

/* ---- vectors: texts separated by lines, and a line of ids for each */

static void check_vector(lckv_tokenizer *t, const char *text, size_t bytes, const char *line) {
    int32_t *ids;
    size_t count, found = 0;
    OK(lckv_tokenizer_encode(t, text, bytes, false, &ids, &count));
    for (char *end; *line && *line != '\n'; line = end, found++) {
        long expected = strtol(line, &end, 10);
        if (end == line) break;
        if (found >= count || ids[found] != expected)
            fail_msg("'%.*s': id %zu is %d, expected %ld", (int)bytes, text, found, found < count ? ids[found] : -1,
                     expected);
    }
    if (found != count) fail_msg("'%.*s': %zu ids, expected %zu", (int)bytes, text, count, found);
    lckv_free(ids);
}

static void check_vectors(lckv_tokenizer *t, const char *vectors) {
    static const char between[] = "\n__ggml_vocab_test__\n";
    char path[1024], *texts, *ids;
    size_t bytes, checked = 0;
    snprintf(path, sizeof path, "%s/data/tokenizers/vectors/ggml-vocab-%s.gguf.inp", SHARED_DIR, vectors);
    OK(file_read(path, &texts, &bytes));
    snprintf(path, sizeof path, "%s/data/tokenizers/vectors/ggml-vocab-%s.gguf.out", SHARED_DIR, vectors);
    OK(file_read(path, &ids, &bytes));
    const char *line = ids;
    for (char *text = texts, *end; (end = strstr(text, between)); text = end + strlen(between), checked++) {
        check_vector(t, text, (size_t)(end - text), line);
        line += strcspn(line, "\n") + 1;
    }
    assert_true(checked > 40);
    free(texts);
    free(ids);
}

/* ---- the four tokenizers */

static void test_gpt2(void **state) {
    (void)state;
    lckv_tokenizer *t = open_shared("gpt2");
    check_known(t, "gpt2");
    check_vectors(t, "gpt-2");
    lckv_tokenizer_free(t);
}

static void test_llama2(void **state) {
    (void)state;
    lckv_tokenizer *t = open_shared("llama2");
    check_known(t, "llama2");
    check_vectors(t, "llama-spm");
    lckv_tokenizer_free(t);
}

static void test_llama3(void **state) {
    (void)state;
    lckv_tokenizer *t = open_shared("llama3");
    check_known(t, "llama3");
    check_vectors(t, "llama-bpe");
    lckv_tokenizer_free(t);
}

static void test_stories512(void **state) {
    (void)state;
    lckv_tokenizer *t = open_shared("stories512");
    check_known(t, "stories512");
    lckv_tokenizer_free(t);
}

/* ---- other functions */

static void test_questions(void **state) {
    (void)state;
    lckv_tokenizer *t = open_shared("stories512");
    assert_int_equal(lckv_tokenizer_vocab_size(t), 512);
    assert_int_equal(lckv_tokenizer_bos_id(t), 1);
    assert_int_equal(lckv_tokenizer_eos_id(t), 2);
    assert_int_equal(lckv_tokenizer_token_to_id(t, "</s>"), 2);
    assert_int_equal(lckv_tokenizer_token_to_id(t, "no such token"), -1);
    assert_string_equal(lckv_tokenizer_id_to_token(t, 13), "<0x0A>");
    assert_null(lckv_tokenizer_id_to_token(t, 512));
    assert_null(lckv_tokenizer_id_to_token(t, -1));
    assert_true(lckv_tokenizer_is_special(t, 1));
    assert_false(lckv_tokenizer_is_special(t, 13));
    assert_false(lckv_tokenizer_is_special(t, 512));
    lckv_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),       cmocka_unit_test(test_llama2),    cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_stories512), cmocka_unit_test(test_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
