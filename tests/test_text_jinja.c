/* The language of chat templates: the output of each construct, from Jinja itself (jinja_cases.json); the cases of
 * published templates; errors, limits, and randomly damaged templates, which may fail but never crash. */
#include "text/jinja/jinja.h"
#include "text_fixture.h"

/* 2024-07-26 13:05:09, a Friday. */
static const struct tm CLOCK = {
    .tm_year = 124, .tm_mon = 6, .tm_mday = 26, .tm_hour = 13, .tm_min = 5, .tm_sec = 9, .tm_wday = 5, .tm_yday = 207};

static int render(const char *source, size_t bytes, const json_t *variables, bool spans, jinja_text *out) {
    jinja_template *t;
    *out = (jinja_text){0};
    int status = jinja_compile(source, bytes, "test", &t);
    if (status < 0) return status;
    status = jinja_render(t, variables, &CLOCK, spans, out);
    jinja_free(t);
    return status;
}

static void assert_error_of(const char *source, const char *expected) {
    const char *found = lckv_last_error();
    size_t length = strlen(found), end = strlen(expected);
    if (strncmp(found, "test: line ", 11) != 0) fail_msg("'%s': the error '%s' names no line", source, found);
    if (length < end || strcmp(found + length - end, expected) != 0)
        fail_msg("'%s': error '%s', expected '%s'", source, found, expected);
}

static void assert_spans(const char *source, const jinja_text *text, const json_t *spans) {
    if (text->span_count != json_array_size(spans))
        fail_msg("'%s': %zu spans, expected %zu", source, text->span_count, json_array_size(spans));
    for (size_t i = 0; i < text->span_count; i++)
        assert_text(source, text->text + text->spans[i].first, text->spans[i].end - text->spans[i].first,
                    json_string_value(json_array_get(spans, i)));
}

static void check_case(const json_t *variables, const json_t *item) {
    const json_t *source = json_object_get(item, "template"), *error = json_object_get(item, "error");
    const char *name = json_string_value(source);
    jinja_text text;
    int status = render(name, json_string_length(source), variables, json_object_get(item, "spans"), &text);
    if (error) {
        if (status >= 0) fail_msg("'%s' gave '%s', expected an error", name, text.text);
        assert_error_of(name, json_string_value(error));
    } else {
        const json_t *expected = json_object_get(item, "text");
        if (status < 0) fail_msg("'%s': %s", name, lckv_last_error());
        if (text.bytes != json_string_length(expected) ||
            memcmp(text.text, json_string_value(expected), text.bytes) != 0)
            fail_msg("'%s' gave '%s', expected '%s'", name, text.text, json_string_value(expected));
        if (json_object_get(item, "spans")) assert_spans(name, &text, json_object_get(item, "spans"));
    }
    jinja_text_free(&text);
}

static json_t *read_cases(void) {
    json_t *file;
    OK(json_read_file(SOURCE_DIR "/tests/jinja_cases.json", &file));
    return file;
}

static void renders_as_jinja(void **state) {
    (void)state;
    json_t *file = read_cases();
    const json_t *cases = json_object_get(file, "cases");
    assert_true(json_array_size(cases) > 700);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_object_get(file, "variables"), json_array_get(cases, i));
    json_decref(file);
}

/* ---- published templates */

static void check_published(const json_t *model, const json_t *item) {
    const json_t *source = json_object_get(model, "template");
    const char *name = json_string_value(json_object_get(model, "name"));
    const char *expected = json_string_value(json_object_get(item, "expected"));
    json_t *variables = json_pack("{s:O, s:O, s:O, s:O, s:n, s:n}", "messages", json_object_get(item, "messages"),
                                  "add_generation_prompt", json_object_get(item, "add_generation_prompt"), "bos_token",
                                  json_object_get(model, "bos_token"), "eos_token", json_object_get(model, "eos_token"),
                                  "tools", "documents");
    jinja_text text;
    assert_non_null(variables);
    int status = render(json_string_value(source), json_string_length(source), variables, false, &text);
    if (expected) {
        if (status < 0) fail_msg("%s: %s", name, lckv_last_error());
        assert_text(name, text.text, text.bytes, expected);
    } else {
        assert_int_equal(status, LCKV_ERROR_ARGUMENT);
        assert_error_of(name, json_string_value(json_object_get(item, "error")));
    }
    jinja_text_free(&text);
    json_decref(variables);
}

static void renders_published_templates(void **state) {
    (void)state;
    const char *path = SHARED_DIR "/data/chat/chat_templates.json";
    json_t *models;
    if (!file_exists(path)) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    OK(json_read_file(path, &models));
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *model = json_array_get(models, i), *cases = json_object_get(model, "cases");
        assert_true(json_array_size(cases) > 0);
        for (size_t k = 0; k < json_array_size(cases); k++) check_published(model, json_array_get(cases, k));
    }
    json_decref(models);
}

/* ---- errors */

static void assert_fails(const char *source, int code, const char *expected) {
    json_t *variables = json_object();
    jinja_text text;
    int status = render(source, strlen(source), variables, true, &text);
    if (status != code) fail_msg("'%.60s' gave %d (%s), expected %d", source, status, lckv_last_error(), code);
    if (!strstr(lckv_last_error(), expected)) fail_msg("'%.60s': %s", source, lckv_last_error());
    jinja_text_free(&text);
    json_decref(variables);
}

static void errors_name_line_and_construct(void **state) {
    (void)state;
    assert_fails("a\n{% include 'x' %}", LCKV_ERROR_UNSUPPORTED, "test: line 2: the statement {% include %}");
    assert_fails("\n\n{{ 1|urlize }}", LCKV_ERROR_UNSUPPORTED, "test: line 3: the filter 'urlize' is not supported");
    assert_fails("{{ 1|zork }}", LCKV_ERROR_UNSUPPORTED, "test: line 1: No filter named 'zork'.");
    assert_fails("{{ lipsum() }}", LCKV_ERROR_UNSUPPORTED, "test: line 1: the function 'lipsum' is not supported");
    assert_fails("{{ 1 is zork }}", LCKV_ERROR_UNSUPPORTED, "test: line 1: No test named 'zork'.");
    assert_fails("{% if true %}\n", LCKV_ERROR_FORMAT, "{% endif %} is missing");
    assert_fails("{% for x in [] %}{% endif %}", LCKV_ERROR_FORMAT, "unexpected {% endif %}");
    assert_fails("{{ raise_exception('no ' ~ 1) }}", LCKV_ERROR_ARGUMENT, "test: line 1: no 1");
    assert_fails("{% macro f() %}\n{{ q.r }}{% endmacro %}\n{{ f() }}", LCKV_ERROR_FORMAT, "line 2: 'q' is undefined");
    assert_fails("{% macro f() %}{% generation %}a{% endgeneration %}{% endmacro %}{{ f() }}", LCKV_ERROR_UNSUPPORTED,
                 "{% generation %}");
    assert_fails("\xFF", LCKV_ERROR_FORMAT, "not UTF-8");
}

static void repeat(text_buffer *to, const char *part, int times) {
    for (int i = 0; i < times; i++) OK(text_append(to, part, strlen(part)));
}

/* {{ OPEN OPEN ... INNER CLOSE CLOSE ... }} */
static void assert_nesting_fails(const char *open, const char *inner, const char *close) {
    text_buffer source = {0};
    repeat(&source, "{{ ", 1);
    repeat(&source, open, 20000);
    repeat(&source, inner, 1);
    repeat(&source, close, 20000);
    repeat(&source, " }}", 1);
    assert_fails(source.data, LCKV_ERROR_UNSUPPORTED, "nested more than");
    text_free(&source);
}

static void hostile_templates_end(void **state) {
    (void)state;
    assert_nesting_fails("(", "1", ")");
    assert_nesting_fails("[", "1", "]");
    assert_nesting_fails("{1:", "1", "}");
    assert_nesting_fails("a(", "1", ")");
    assert_nesting_fails("a[", "1", "]");
    assert_nesting_fails("not ", "1", "");
    assert_nesting_fails("- ", "1", "");
    assert_nesting_fails("1 if 1 else ", "1", "");
    assert_nesting_fails("1 }}{% if 1 %}{{ ", "1", "");
    assert_fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", LCKV_ERROR_FORMAT, "levels deep");
    assert_fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", LCKV_ERROR_MEMORY,
                 "requires more than");
    assert_fails("{% set s = 'x' * 60000000 %}{% for a in range(99) %}{{ 'y' in s }}{% endfor %}", LCKV_ERROR_FORMAT,
                 "exceeds");
    assert_fails("{{ range(100001) }}", LCKV_ERROR_FORMAT, "Range too big");
    assert_fails("{{ range(-9223372036854775807, 9223372036854775807) }}", LCKV_ERROR_FORMAT, "Range too big");
    assert_fails("{{ 'x' * 99999999999 }}", LCKV_ERROR_FORMAT, "the text exceeds");
    assert_fails("{{ 'x'.ljust(99999999999) }}", LCKV_ERROR_FORMAT, "the text exceeds");
    assert_fails("{{ '%99999d' % 1 }}", LCKV_ERROR_UNSUPPORTED, "the width of a format exceeds");
    assert_fails("{% set n = namespace(a=[]) %}{% for i in range(9999) %}{% set n.a = [n.a] %}{% endfor %}{{ n.a }}",
                 LCKV_ERROR_FORMAT, "levels deep");
    assert_fails("{% set n = namespace() %}{% set n.n = n %}{{ n }}", LCKV_ERROR_FORMAT, "levels deep");
    assert_fails("{% set n = namespace(s='abcdefgh') %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}",
                 LCKV_ERROR_FORMAT, "the text exceeds");
    assert_fails("{% set n = namespace(a=[1]) %}{% for i in range(40) %}{% set n.a = n.a + n.a %}{% endfor %}",
                 LCKV_ERROR_MEMORY, "requires more than");
}

static void assert_renders(const char *source, const char *expected) {
    json_t *none = json_object();
    jinja_text text;
    if (render(source, strlen(source), none, false, &text) < 0) fail_msg("'%s': %s", source, lckv_last_error());
    assert_string_equal(text.text, expected);
    jinja_text_free(&text);
    json_decref(none);
}

/* As Python's methods of strings and dicts. */
static void methods_are_pythons(void **state) {
    (void)state;
    assert_renders("{{ 'abcab'.rindex('ab') }} {{ '\u00e9a\u00e9'.rindex('\u00e9') }}", "3 2");
    assert_fails("{{ 'abc'.rindex('x') }}", LCKV_ERROR_FORMAT, "substring not found");
    assert_renders("{{ '12'.isdecimal() }} {{ '\u0663'.isdecimal() }} {{ '\u00b2'.isdecimal() }} {{ ''.isdecimal() }}",
                   "True True False False");
    assert_renders("{% set d = {'a': [1]} %}{{ d.copy() == d }} {{ d.copy() }}", "True {'a': [1]}");
}

static void filters_that_are_not_supported_say_so(void **state) {
    static const char *const NAMES[] = {"pprint", "random", "striptags", "urlize", "wordwrap"};
    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char source[64], expected[64];
        snprintf(source, sizeof source, "{{ 'a'|%s }}", NAMES[i]);
        snprintf(expected, sizeof expected, "the filter '%s' is not supported", NAMES[i]);
        assert_fails(source, LCKV_ERROR_UNSUPPORTED, expected);
    }
}

/* Little text, much work: strings read character by character, and keys, names and parts of strings compared again and
 * again. Each must reach the limit of steps, and no other one. */
#define BIG "{% set b = 'a' * 4000000 %}"
#define REPEATED "{% for i in range(99999) %}"
#define ENDLESS(source) assert_fails(source, LCKV_ERROR_FORMAT, "exceeds 20000000 steps")

static void long_strings_count(void **state) {
    (void)state;
    ENDLESS("{% set n = namespace(s=\"'\" ~ '\"') %}{% for i in range(60) %}{% set n.s = [n.s] ~ '' %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if [b]|tojson == '' %}{% endif %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if b|title == '' %}{% endif %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if b.splitlines() == '' %}{% endif %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if b.isalpha() %}{% endif %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if b|wordcount == 0 %}{% endif %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if b < b %}{% endif %}{% endfor %}");
    ENDLESS(BIG REPEATED "{% if b == b ~ '' %}{% endif %}{% endfor %}");
}

static void searches_count(void **state) {
    (void)state;
    ENDLESS(BIG "{{ b.rfind('a' * 2000000 ~ 'b') }}");
    ENDLESS(BIG "{{ b.strip(b) }}");
    ENDLESS(BIG "{{ b.startswith((b[1:] ~ 'b',) * 9999) }}");
    ENDLESS(BIG REPEATED "{% if b.removesuffix(b) %}{% endif %}{% endfor %}");
    ENDLESS(BIG "{% set d = {b: 1} %}" REPEATED "{% if d[b] %}{% endif %}{% endfor %}");
    ENDLESS(BIG "{% set d = {b: 1} %}" REPEATED "{% if b in d %}{% endif %}{% endfor %}");
    ENDLESS(BIG "{% set d = {(b, 1): 1} %}" REPEATED "{% if d.get((b, 2)) %}{% endif %}{% endfor %}");
    ENDLESS(
        "{% set n = namespace(t=(1,)) %}{% for i in range(7) %}{% set n.t = (n.t,) * 200 %}{% endfor %}{{ {}[n.t] }}");
}

/* Names that are searched from the start: of a namespace, of arguments and of parameters. */
static void names_count(void **state) {
    (void)state;
    text_buffer source = {0};
    for (int i = 0; i < 20000; i++) {
        char name[60];
        snprintf(name, sizeof name, i ? ", x%d=1" : "{%% set n = namespace(x%d=1", i);
        repeat(&source, name, 1);
    }
    repeat(&source, ") %}" REPEATED "{% if n.y %}{% endif %}{% endfor %}", 1);
    ENDLESS(source.data);
    text_free(&source);
}

/* ---- random damage */

static size_t random_below(uint64_t counter, size_t count) {
    return (size_t)(rng_uniform(7, 1, counter) * (double)count);
}

/* A template with some bytes changed, removed, or inserted from another one. */
static void mutate(text_buffer *t, const json_t *cases, uint64_t seed) {
    static const char bits[] = "{}%#()[]|.,:'\"-+~*/<>= \n\\0aeif";
    size_t changes = 1 + random_below(seed, 4);
    for (size_t i = 0; i < changes && t->length; i++) {
        uint64_t counter = seed + 10 * (i + 1);
        size_t at = random_below(counter, t->length), kind = random_below(counter + 1, 3);
        if (kind == 0) t->data[at] = bits[random_below(counter + 2, sizeof bits - 1)];
        if (kind == 1) {
            size_t cut = 1 + random_below(counter + 2, t->length - at);
            cut = cut > 8 ? 8 : cut;
            memmove(t->data + at, t->data + at + cut, t->length - at - cut);
            t->length -= cut;
        }
        if (kind == 2) {
            const json_t *other = json_array_get(cases, random_below(counter + 2, json_array_size(cases)));
            const json_t *source = json_object_get(other, "template");
            size_t bytes = json_string_length(source), from = random_below(counter + 3, bytes + 1);
            OK(text_append(t, json_string_value(source) + from, bytes - from));
        }
    }
}

static void broken_templates_only_fail(void **state) {
    (void)state;
    json_t *file = read_cases();
    const json_t *cases = json_object_get(file, "cases"), *variables = json_object_get(file, "variables");
    size_t failed = 0, rounds = 6000;
    for (uint64_t i = 0; i < rounds; i++) {
        const json_t *source = json_object_get(json_array_get(cases, i % json_array_size(cases)), "template");
        text_buffer t = {0};
        jinja_text text;
        OK(text_append(&t, json_string_value(source), json_string_length(source)));
        mutate(&t, cases, i * 100);
        if (render(t.data, t.length, variables, false, &text) < 0) failed++;
        jinja_text_free(&text);
        text_free(&t);
    }
    assert_in_range(failed, rounds / 10, rounds - rounds / 10); /* some of each, or nothing was tested */
    json_decref(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_jinja),
        cmocka_unit_test(renders_published_templates),
        cmocka_unit_test(errors_name_line_and_construct),
        cmocka_unit_test(hostile_templates_end),
        cmocka_unit_test(long_strings_count),
        cmocka_unit_test(searches_count),
        cmocka_unit_test(names_count),
        cmocka_unit_test(methods_are_pythons),
        cmocka_unit_test(filters_that_are_not_supported_say_so),
        cmocka_unit_test(broken_templates_only_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
