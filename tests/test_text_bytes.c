/* Any bytes can be encoded and decoded: invalid UTF-8, random bytes and ids, decoding id by id. */
#include "text_fixture.h"

#include "text/unicode/byte_alphabet.h"

static uint64_t stream; /* index of the next random number */

static int draw(int below) {
    return (int)(rng_uniform(11, stream++, 0) * below);
}

/* ---- UTF-8 */

#define BAD "\xEF\xBF\xBD"

static void test_ill_formed_parts_are_replaced(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *replaced; /* like Python's bytes.decode(errors="replace") */
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", BAD BAD BAD BAD BAD BAD BAD BAD "A"}, /* Unicode 15, table 3-8 */
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", BAD BAD BAD BAD BAD BAD BAD BAD "A"}, /* 3-9: surrogates */
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", BAD BAD BAD BAD BAD "A" BAD BAD "B"}, /* 3-10 */
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", BAD BAD BAD BAD "A"},                 /* 3-11: truncated */
        {"a\xE2\x82", "a" BAD},
        {"\xF0\x9F\x99\x82\xF0\x9F\x99", "\xF0\x9F\x99\x82" BAD},
        {"\xF4\x8F\xBF\xBF\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF\xEF\xBF\xBF"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_buffer out = {0};
        size_t used;
        OK(utf8_append_replacing(&out, cases[i].bytes, strlen(cases[i].bytes), false, &used));
        assert_int_equal(used, strlen(cases[i].bytes));
        assert_text("replaced", out.data, out.length, cases[i].replaced);
        text_free(&out);
    }
}

/* If the input is split, an incomplete character waits for the rest: the result is the same. */
static void test_replacing_in_two_parts(void **state) {
    (void)state;
    for (int round = 0; round < 2000; round++) {
        static const char some[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82\x80\xFF\xED";
        char bytes[12];
        text_buffer whole = {0}, parts = {0};
        size_t used, cut = (size_t)draw(sizeof bytes + 1);
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = some[draw(sizeof some - 1)];
        OK(utf8_append_replacing(&whole, bytes, sizeof bytes, false, &used));
        OK(utf8_append_replacing(&parts, bytes, cut, true, &used));
        assert_true(used <= cut && cut - used < 4);
        assert_true(utf8_valid(parts.data, parts.length));
        OK(utf8_append_replacing(&parts, bytes + used, sizeof bytes - used, false, &used));
        assert_int_equal(whole.length, parts.length);
        assert_memory_equal(whole.data, parts.data, whole.length);
        text_free(&whole);
        text_free(&parts);
    }
}

static void test_code_points_there_and_back(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
        char text[5] = {0};
        uint32_t read;
        if (c >= 0xD800 && c < 0xE000) continue;
        size_t bytes = utf8_write(c, text);
        assert_true(utf8_valid(text, bytes));
        assert_int_equal(utf8_next(text, &read), bytes);
        assert_int_equal(read, c);
        assert_int_equal(utf8_last(text, bytes), 0);
    }
}

/* ---- the byte alphabet */

static void test_byte_alphabet(void **state) {
    (void)state;
    char all[256];
    text_buffer written = {0}, read = {0};
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    OK(byte_alphabet_write(&written, all, 256));
    OK(byte_alphabet_read(&read, written.data, written.length));
    assert_int_equal(read.length, 256);
    assert_memory_equal(read.data, all, 256);
    text_free(&written);
    OK(byte_alphabet_write(&written, " a\n\x7F\xA0\xAD\xFF", 7));
    assert_text("known ones", written.data, written.length,
                "\xC4\xA0"
                "a\xC4\x8A\xC4\xA1\xC5\x82\xC5\x83\xC3\xBF");
    text_free(&written);
    text_free(&read);
}

/* ---- tokenizers over all bytes */

/* All characters of the byte alphabet and some merges. */
static lckv_tokenizer *open_byte_level(void) {
    text_buffer model = {0}, character = {0};
    lckv_tokenizer *t;
    OK(text_printf(&model, "\"vocab\": {"));
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        character.length = 0;
        OK(byte_alphabet_write(&character, &byte, 1));
        bool quoted = byte == '"' || byte == '\\';
        OK(text_printf(&model, "\"%s%s\": %d, ", quoted ? "\\" : "", character.data, i));
    }
    OK(text_printf(&model, "\"\xC3\x83\xC2\xA9\": 256, \"ab\": 257, \"\xC4\xA0"
                           "ab\": 258}, \"merges\": "
                           "[\"\xC3\x83 \xC2\xA9\", \"a b\", \"\xC4\xA0 ab\"]"));
    OK(open_parts(&(tokenizer_parts){.pre_tokenizer = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}",
                                     .decoder = "{\"type\": \"ByteLevel\"}",
                                     .added_tokens = "[{\"id\": 259, \"content\": \"<end>\", \"special\": true}]",
                                     .model = model.data},
                  &t));
    text_free(&model);
    text_free(&character);
    return t;
}

/* A token per byte, and some letters, as in Llama 2. */
static lckv_tokenizer *open_byte_fallback(void) {
    text_buffer model = {0};
    lckv_tokenizer *t;
    OK(text_printf(&model, "\"byte_fallback\": true, \"fuse_unk\": true, \"vocab\": {"));
    for (int i = 0; i < 256; i++) OK(text_printf(&model, "\"<0x%02X>\": %d, ", i, i));
    OK(text_printf(&model, "\"\xE2\x96\x81\": 256, \"a\": 257, \"b\": 258, \"\xE2\x96\x81"
                           "a\": 259, \"\xC3\xA9\": 260}, "
                           "\"merges\": [\"\xE2\x96\x81 a\"]"));
    OK(open_parts(
        &(tokenizer_parts){
            .normalizer =
                "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}, "
                "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}",
            .decoder = "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": "
                       "\"\xE2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, "
                       "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}",
            .model = model.data},
        &t));
    text_free(&model);
    return t;
}

/* Bytes that often form characters: letters, spaces, and parts of multi-byte characters. */
static size_t random_bytes(char *out, size_t capacity) {
    static const char *const parts[] = {"a", "b", " ", "\n", "\xC3\xA9", "\xF0\x9F\x99\x82", "<end>", "\xE2\x96\x81"};
    size_t bytes = 0, wanted = (size_t)draw((int)capacity);
    while (bytes < wanted) {
        const char *part = parts[draw(8)];
        if (draw(3) == 0) {
            out[bytes++] = (char)draw(256);
        } else {
            memcpy(out + bytes, part, strlen(part));
            bytes += strlen(part);
        }
    }
    return bytes;
}

/* The text of `ids` is valid UTF-8, and decoding id by id gives the same. */
static char *decode_both_ways(lckv_tokenizer *t, const int32_t *ids, size_t count, size_t *bytes) {
    lckv_decode_stream *s;
    char *whole;
    const char *text;
    size_t at = 0, more;
    OK(lckv_tokenizer_decode(t, ids, count, false, &whole, bytes));
    assert_true(utf8_valid(whole, *bytes));
    OK(lckv_decode_stream_open(t, false, &s));
    for (size_t i = 0; i <= count; i++) {
        OK(i < count ? lckv_decode_stream_push(s, ids[i], &text, &more) : lckv_decode_stream_finish(s, &text, &more));
        assert_true(utf8_valid(text, more));
        assert_true(at + more <= *bytes && !memcmp(whole + at, text, more));
        at += more;
    }
    assert_int_equal(at, *bytes);
    lckv_decode_stream_free(s);
    return whole;
}

static void encode_and_decode(lckv_tokenizer *t) {
    for (int round = 0; round < 3000; round++) {
        char given[300];
        text_buffer expected = {0};
        int32_t *ids;
        size_t bytes = random_bytes(given, 200), count, used, decoded;
        OK(lckv_tokenizer_encode(t, given, bytes, true, &ids, &count));
        char *text = decode_both_ways(t, ids, count, &decoded);
        OK(utf8_append_replacing(&expected, given, bytes, false, &used));
        assert_int_equal(decoded, expected.length);
        if (decoded) assert_memory_equal(text, expected.data, decoded);
        text_free(&expected);
        lckv_free(text);
        lckv_free(ids);
    }
}

static void decode_random_ids(lckv_tokenizer *t) {
    for (int round = 0; round < 2000; round++) {
        int32_t ids[40];
        size_t count = (size_t)draw(40), bytes;
        for (size_t i = 0; i < count; i++) ids[i] = draw(lckv_tokenizer_vocab_size(t));
        lckv_free(decode_both_ways(t, ids, count, &bytes));
    }
}

static void test_byte_level(void **state) {
    (void)state;
    lckv_tokenizer *t = open_byte_level();
    encode_and_decode(t);
    decode_random_ids(t);
    lckv_tokenizer_free(t);
}

/* (A U+2581 in a text would be decoded as a space.) */
static void test_byte_fallback(void **state) {
    (void)state;
    lckv_tokenizer *t = open_byte_fallback();
    int32_t *ids;
    size_t count, bytes;
    decode_random_ids(t);
    for (int byte = 0; byte < 256; byte++) {
        char given[] = {'a', (char)byte, ' ', 'b'};
        text_buffer expected = {0};
        OK(lckv_tokenizer_encode(t, given, sizeof given, true, &ids, &count));
        char *text = decode_both_ways(t, ids, count, &bytes);
        OK(utf8_append_replacing(&expected, given, sizeof given, false, &count));
        assert_int_equal(bytes, expected.length);
        assert_memory_equal(text, expected.data, bytes);
        text_free(&expected);
        lckv_free(text);
        lckv_free(ids);
    }
    lckv_tokenizer_free(t);
}

/* ---- streams */

static void push_all(lckv_decode_stream *s, const char *tokens, const char *expected) {
    const char *text;
    size_t bytes;
    for (; *tokens; tokens += 2) { /* two hexadecimal digits: the id of a byte */
        OK(lckv_decode_stream_push(s, (int32_t)strtol((char[]){tokens[0], tokens[1], 0}, NULL, 16), &text, &bytes));
        assert_int_equal(strlen(text), bytes);
    }
    assert_text("the last id's text", text, bytes, expected);
}

static void test_streams_wait_for_whole_characters(void **state) {
    (void)state;
    const char *text;
    size_t bytes;
    lckv_tokenizer *t = open_byte_level();
    lckv_decode_stream *s;
    OK(lckv_decode_stream_open(t, true, &s));
    push_all(s, "61", "a");
    push_all(s, "F09F99", "");
    push_all(s, "82", "\xF0\x9F\x99\x82");
    push_all(s, "C361", BAD "a");
    push_all(s, "E282", "");
    OK(lckv_decode_stream_push(s, 259, &text, &bytes)); /* special: skipped, and the incomplete character still waits */
    assert_int_equal(bytes, 0);
    push_all(s, "AC", "\xE2\x82\xAC");
    push_all(s, "E2", "");
    OK(lckv_decode_stream_finish(s, &text, &bytes));
    assert_text("at the end", text, bytes, BAD);
    push_all(s, "62", "b"); /* a new text */
    lckv_decode_stream_free(s);
    lckv_tokenizer_free(t);
}

static void test_ids_without_a_token(void **state) {
    (void)state;
    static const int32_t wrong[] = {260, -1, INT32_MAX, INT32_MIN};
    lckv_tokenizer *t = open_byte_level();
    lckv_decode_stream *s;
    OK(lckv_decode_stream_open(t, true, &s));
    for (size_t i = 0; i < 4; i++) {
        char *text, id[16];
        const char *part;
        size_t bytes;
        snprintf(id, sizeof id, "id %d;", wrong[i]);
        assert_int_equal(lckv_tokenizer_decode(t, (int32_t[]){97, wrong[i]}, 2, true, &text, &bytes),
                         LCKV_ERROR_ARGUMENT);
        assert_null(text);
        assert_non_null(strstr(lckv_last_error(), id));
        assert_int_equal(lckv_decode_stream_push(s, wrong[i], &part, &bytes), LCKV_ERROR_ARGUMENT);
        assert_null(part);
    }
    lckv_decode_stream_free(s);
    lckv_tokenizer_free(t);
}

static void test_nothing(void **state) {
    (void)state;
    lckv_tokenizer *t = open_byte_level();
    int32_t *ids;
    size_t count, bytes;
    char *text;
    OK(lckv_tokenizer_encode(t, NULL, 0, true, &ids, &count));
    assert_int_equal(count, 0);
    lckv_free(ids);
    OK(lckv_tokenizer_decode(t, NULL, 0, true, &text, &bytes));
    assert_int_equal(bytes, 0);
    assert_string_equal(text, "");
    lckv_free(text);
    lckv_tokenizer_free(t);
    lckv_tokenizer_free(NULL);
    lckv_decode_stream_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ill_formed_parts_are_replaced),
        cmocka_unit_test(test_replacing_in_two_parts),
        cmocka_unit_test(test_code_points_there_and_back),
        cmocka_unit_test(test_byte_alphabet),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_byte_fallback),
        cmocka_unit_test(test_streams_wait_for_whole_characters),
        cmocka_unit_test(test_ids_without_a_token),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
