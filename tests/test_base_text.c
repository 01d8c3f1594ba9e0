/* Text buffers, JSON errors with positions, error messages, and the log. */
#include "base/log.h"
#include "base/text/json.h"
#include "base/text/text_buffer.h"
#include "base/text/utf8.h"

/* A function that fails. It is here because cmocka, below, defines its own fail(). */
static int fails_with(const char *sentence) {
    REQUIRE(!sentence, LCKV_ERROR_FORMAT, "%s", sentence);
    return LCKV_OK;
}

static int forwards(const char *sentence) {
    TRY(fails_with(sentence));
    return LCKV_OK;
}

#include "expect.h"

#include <pthread.h>

static void buffers_grow(void **state) {
    (void)state;
    text_buffer b = {0};
    char *text;
    OK(text_take(&b, &text));
    assert_string_equal(text, "");
    free(text);
    for (int i = 0; i < 1000; i++) OK(text_printf(&b, "%d,", i));
    OK(text_append(&b, "a\0b", 3));
    OK(text_append(&b, NULL, 0));
    assert_int_equal(b.length, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    assert_memory_equal(b.data + b.length - 3, "a\0b", 4); /* including the NUL */
    OK(text_take(&b, &text));
    assert_int_equal(strncmp(text, "0,1,2,", 6), 0);
    assert_null(b.data);
    free(text);
    text_free(&b);
}

static void buffers_refuse_what_cannot_be(void **state) {
    (void)state;
    text_buffer b = {0};
    OK(text_append(&b, "kept", 4));
    FAILS(text_append(&b, "", SIZE_MAX - 2), LCKV_ERROR_MEMORY, "no memory");
    FAILS(text_append(&b, "", SIZE_MAX / 2 + 100), LCKV_ERROR_MEMORY, "no memory");
    assert_string_equal(b.data, "kept");
    text_free(&b);
}

static int parse(const char *text, json_t **out) {
    return json_parse(text, strlen(text), "some.json", out);
}

static void json_errors_say_where(void **state) {
    (void)state;
    json_t *tree;
    FAILS(parse("{\"a\": 1,\n \"b\" 2}", &tree), LCKV_ERROR_FORMAT, "some.json: line 2");
    assert_null(tree);
    FAILS(parse("", &tree), LCKV_ERROR_FORMAT, "not JSON");
    FAILS(parse("{\"a\": 1, \"a\": 2}", &tree), LCKV_ERROR_FORMAT, "duplicate");
    FAILS(parse("\"\xff\"", &tree), LCKV_ERROR_FORMAT, "not JSON");
    FAILS(parse("99999999999999999999", &tree), LCKV_ERROR_FORMAT, "not JSON");
    FAILS(parse("1e999", &tree), LCKV_ERROR_FORMAT, "not JSON");
    FAILS(parse("[1] [2]", &tree), LCKV_ERROR_FORMAT, "some.json");
    FAILS(json_read_file("/nonexistent/x.json", &tree), LCKV_ERROR_FILE, "/nonexistent/x.json");
    char deep[10001];
    memset(deep, '[', 10000);
    deep[10000] = 0;
    FAILS(parse(deep, &tree), LCKV_ERROR_FORMAT, "nested more than");
}

static void json_may_follow_a_byte_order_mark(void **state) {
    (void)state;
    json_t *tree;
    OK(parse("\xef\xbb\xbf[1]", &tree));
    assert_int_equal(json_array_size(tree), 1);
    json_decref(tree);
    FAILS(parse("\xef\xbb\xbf", &tree), LCKV_ERROR_FORMAT, "not JSON");
    FAILS(parse("[\xef\xbb\xbf]", &tree), LCKV_ERROR_FORMAT, "not JSON");
}

static void json_text_is_always_utf8(void **state) {
    (void)state;
    const char *const cases[][2] = {{"", ""}, {"a\xc3\xa4", "a\xc3\xa4"}, {"caf\xe9", "caf\xef\xbf\xbd"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *text = json_text_or_null(cases[i][0]);
        assert_string_equal(json_string_value(text), cases[i][1]);
        json_decref(text);
    }
    assert_true(json_is_null(json_text_or_null(NULL)));
}

static void json_getters(void **state) {
    (void)state;
    json_t *t;
    int64_t i;
    double d;
    bool b;
    const char *s;
    OK(parse("{\"i\": -7, \"d\": 0.5, \"b\": true, \"s\": \"x\", \"n\": null, \"z\": \"a\\u0000b\"}", &t));
    OK(json_get_int(t, "f", "i", 3, &i));
    assert_int_equal(i, -7);
    OK(json_get_int(t, "f", "n", 3, &i));
    assert_int_equal(i, 3);
    OK(json_get_int(t, "f", "absent", 4, &i));
    assert_int_equal(i, 4);
    OK(json_get_number(t, "f", "i", 0, &d));
    assert_true(d == -7);
    OK(json_get_number(t, "f", "d", 0, &d));
    assert_true(d == 0.5);
    OK(json_get_bool(t, "f", "b", false, &b));
    assert_true(b);
    OK(json_get_string(t, "f", "s", NULL, &s));
    assert_string_equal(s, "x");
    OK(json_get_string(t, "f", "n", NULL, &s));
    assert_null(s);
    FAILS(json_get_int(t, "f", "d", 0, &i), LCKV_ERROR_FORMAT, "f: 'd' should be a whole number, found 0.5");
    FAILS(json_get_number(t, "f", "s", 0, &d), LCKV_ERROR_FORMAT, "f: 's' should be a number, found \"x\"");
    FAILS(json_get_bool(t, "f", "i", false, &b), LCKV_ERROR_FORMAT, "f: 'i' should be true or false, found -7");
    FAILS(json_get_string(t, "f", "b", NULL, &s), LCKV_ERROR_FORMAT, "f: 'b' should be a string, found true");
    FAILS(json_get_string(t, "f", "z", NULL, &s), LCKV_ERROR_FORMAT, "f: 'z' should be a string without NUL");
    json_decref(t);
}

static void json_writes(void **state) {
    (void)state;
    json_t *t;
    char *text;
    OK(parse("{\"b\": [1, 2.5], \"a\": \"\\u00e4\"}", &t));
    OK(json_format(t, 0, &text));
    assert_string_equal(text, "{\"b\": [1, 2.5], \"a\": \"\xc3\xa4\"}"); /* keys in order */
    free(text);
    json_decref(t);
}

/* ---- nesting */

static json_t *nested(const char *open, const char *inside, const char *close, int levels, int *status) {
    text_buffer text = {0};
    json_t *t = NULL;
    for (int i = 0; i < levels; i++) OK(text_printf(&text, "%s", open));
    OK(text_printf(&text, "%s", inside));
    for (int i = 0; i < levels; i++) OK(text_printf(&text, "%s", close));
    *status = json_parse(text.data, text.length, "deep.json", &t);
    text_free(&text);
    return t;
}

static void *parse_deep(void *unused) {
    static const char *const CASES[][3] = {
        {"[", "1", "]"}, {"{\"a\":", "1", "}"}, {"[{\"a]\\\"[\":[", "\"[[[\"", "]}]"}, {" [\n", "", "]"}};
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        int status, each = i == 2 ? 3 : 1;
        char *text;
        json_t *t = nested(CASES[i][0], CASES[i][1], CASES[i][2], LCKV_JSON_LEVELS / each, &status);
        OK(status);
        OK(json_format(t, 2, &text)); /* and back, at the same depth */
        json_t *copy = json_deep_copy(t);
        assert_true(json_equal(t, copy));
        json_decref(t);
        json_decref(copy);
        free(text);
        for (int levels = LCKV_JSON_LEVELS / each + 1; levels < 3000; levels += 1399) {
            assert_null(nested(CASES[i][0], CASES[i][1], CASES[i][2], levels, &status));
            FAILS(status, LCKV_ERROR_FORMAT, "deep.json: JSON nested more than 128 levels deep");
        }
    }
    assert_null(nested("[", "", "", 1000000, &(int){0})); /* never closed */
    return NULL;
}

/* On a stack as small as that of musl's threads. */
static void deep_json_is_refused_on_a_small_stack(void **state) {
    (void)state;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 128 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attributes, parse_deep, NULL), 0);
    pthread_join(thread, NULL);
    OK(lckv_check_json("]]]]\"[[[", 8)); /* invalid JSON is rejected by the parser */
    OK(lckv_check_json(NULL, 0));
}

static void ill_formed_text_is_found(void **state) {
    (void)state;
    OK(lckv_check_utf8(NULL, 0));
    OK(lckv_check_utf8("a\n\0caf\xc3\xa9", 8));
    FAILS(lckv_check_utf8("\xff", 1), LCKV_ERROR_FORMAT, "line 1, byte 1 is not valid UTF-8");
    FAILS(lckv_check_utf8("a\n\ncaf\xe9\n\xff", 9), LCKV_ERROR_FORMAT, "line 3, byte 4 is not valid UTF-8");
    FAILS(lckv_check_utf8("caf\xc3\xa9", 4), LCKV_ERROR_FORMAT, "line 1, byte 4"); /* an incomplete character */
}

static void *fail_elsewhere(void *unused) {
    (void)unused;
    fail_within(LCKV_ERROR_FILE, "elsewhere");
    return NULL;
}

static void the_sentence_is_the_threads(void **state) {
    (void)state;
    assert_int_equal(forwards(NULL), LCKV_OK);
    FAILS(forwards("the sentence"), LCKV_ERROR_FORMAT, "the sentence");
    FAILS(forwards(lckv_last_error()), LCKV_ERROR_FORMAT,
          "the sentence"); /* an argument that is part of the old message */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(lckv_last_error(), "the sentence");
    assert_int_equal(fail_within(LCKV_ERROR_FILE, "file %d", 3), LCKV_ERROR_FILE);
    assert_string_equal(lckv_last_error(), "file 3: the sentence");
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    FAILS(forwards(longest), LCKV_ERROR_FORMAT, "xxxx");
    FAILS(fail_within(LCKV_ERROR_FORMAT, "%s", longest), LCKV_ERROR_FORMAT, ": xxx");
}

/* A message is truncated between characters, and invalid UTF-8 becomes U+FFFD, so that JSON can contain every message.
 */
static void the_sentence_is_utf8(void **state) {
    (void)state;
    static const char *const CHARACTERS[] = {"\xc3\xa4", "\xe6\x97\xa5", "\xf0\x9f\x98\x80"};
    for (int c = 0; c < 3; c++) {
        for (int shift = 0; shift < 5; shift++) {
            text_buffer b = {0};
            OK(text_append(&b, "xxxx", (size_t)shift));
            for (int i = 0; i < 1000; i++) OK(text_append(&b, CHARACTERS[c], strlen(CHARACTERS[c])));
            for (int depth = 0; depth < 3; depth++) {
                if (depth)
                    fail_within(LCKV_ERROR_FORMAT, "%s", b.data);
                else
                    fail_message("%s", b.data);
                json_t *string = json_string(lckv_last_error()); /* NULL if it is invalid UTF-8 */
                assert_non_null(string);
                assert_null(strstr(lckv_last_error(), "\xef\xbf\xbd"));
                assert_true(strlen(lckv_last_error()) > 900);
                json_decref(string);
            }
            text_free(&b);
        }
    }
    static const char *const WRONG[] = {"a\xff",     "a\xc0\x80", "a\xed\xa0\x80", "a\xf4\x90\x80\x80",
                                        "a\xe6\x97", "a\x80"};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        fail_message("'%s' b", WRONG[i]);
        assert_string_equal(strrchr(lckv_last_error(), '\''), "' b");
        assert_memory_equal(lckv_last_error(), "'a\xef\xbf\xbd", 5);
    }
}

static char logged[64];

/* Unicode's property White_Space. */
static void white_space_is_unicodes(void **state) {
    static const uint32_t RANGES[][2] = {{0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                         {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                         {0x205F, 0x205F}, {0x3000, 0x3000}};
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        bool expected = false;
        for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) expected |= c >= RANGES[i][0] && c <= RANGES[i][1];
        if (utf8_is_white_space(c) != expected) fail_msg("U+%04X", (unsigned)c);
    }
}

static void keep(void *user, lckv_log_level level, const char *message) {
    snprintf(logged, sizeof logged, "%s %d %s", (const char *)user, (int)level, message);
}

static void log_filters_by_level(void **state) {
    (void)state;
    log_message(LCKV_LOG_WARNING, "to nobody");
    lckv_set_log(keep, (void *)(uintptr_t) "me", LCKV_LOG_INFO);
    log_message(LCKV_LOG_INFO, "number %d", 5);
    assert_string_equal(logged, "me 1 number 5");
    log_message(LCKV_LOG_DEBUG, "too fine");
    assert_string_equal(logged, "me 1 number 5");
    lckv_set_log(NULL, NULL, LCKV_LOG_DEBUG);
    log_message(LCKV_LOG_WARNING, "to nobody");
    assert_string_equal(logged, "me 1 number 5");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_grow),
        cmocka_unit_test(buffers_refuse_what_cannot_be),
        cmocka_unit_test(json_errors_say_where),
        cmocka_unit_test(json_may_follow_a_byte_order_mark),
        cmocka_unit_test(json_text_is_always_utf8),
        cmocka_unit_test(json_getters),
        cmocka_unit_test(json_writes),
        cmocka_unit_test(the_sentence_is_the_threads),
        cmocka_unit_test(the_sentence_is_utf8),
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(log_filters_by_level),
        cmocka_unit_test(deep_json_is_refused_on_a_small_stack),
        cmocka_unit_test(ill_formed_text_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
