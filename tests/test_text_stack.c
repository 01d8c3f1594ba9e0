/* Deep JSON, deep templates and deep values on a thread with a stack as small as that of musl's threads: rendered or
 * rejected, never a stack overflow. */
#include "base/text/text_buffer.h"
#include "text/jinja/jinja.h"

#include "expect.h"

#include <pthread.h>

#ifdef SANITIZED
enum { STACK_BYTES = 4 << 20 }; /* frames of sanitized builds are several times as large */
#else
enum { STACK_BYTES = 128 << 10 };
#endif

typedef struct deep_case {
    const char *before, *open, *inner, *close, *behind; /* `open` and `close` 90 times, or too often */
    const char *error;                                  /* NULL: renders */
} deep_case;

#define DEEPER(more)                                                                                                   \
    "{% set n = namespace(a=[], b=[]) %}{% for i in range(5000) %}{% set n.a = [n.a] %}{% set n.b = [n.b] %}"          \
    "{% endfor %}" more

static const deep_case CASES[] = {
    {"{{ ", "(", "1", ")", " }}", "nested more than"},
    {"{{ ", "[", "1", "]", " }}", "nested more than"},
    {"", "{% if 1 %}", "x", "{% endif %}", "", NULL},
    {"", "{% for i in [1] %}", "x", "{% endfor %}", "", NULL},
    {DEEPER("{{ n.a }}"), "", "", "", "", "levels deep"},
    {DEEPER("{{ n.a|tojson }}"), "", "", "", "", "levels deep"},
    {DEEPER("{{ n.a == n.b }}"), "", "", "", "", "levels deep"},
    {DEEPER("{{ n.a < n.b }}"), "", "", "", "", "levels deep"},
    {"{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "", "", "", "", "levels deep"},
    {"{% macro f(n) %}{% call(x) g(n) %}{{ f(n + 1) }}{% endcall %}{% endmacro %}{% macro g(n) %}{% for i in [1] %}"
     "{{ caller(i)|upper ~ ((((1 + n) * 2)|string)) }}{% endfor %}{% endmacro %}{{ f(0) }}",
     "", "", "", "", "levels deep"},
    {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "", "", "", "", "levels deep"},
    {"{{ deep|tojson }}{{ deep }}{{ deep == deep }}", "", "", "", "", NULL},
};

static void repeat(text_buffer *to, const char *part, int times) {
    for (int i = 0; i < times; i++) OK(text_append(to, part, strlen(part)));
}

/* {"deep": [[...]]}, with the maximum depth of JSON. */
static json_t *make_variables(void) {
    text_buffer text = {0};
    json_t *variables;
    OK(text_printf(&text, "{\"deep\": "));
    repeat(&text, "[", LCKV_JSON_LEVELS - 1);
    repeat(&text, "]", LCKV_JSON_LEVELS - 1);
    OK(text_printf(&text, "}"));
    OK(json_parse(text.data, text.length, "variables", &variables));
    text_free(&text);
    return variables;
}

static void run_case(const deep_case *c, const json_t *variables) {
    text_buffer source = {0};
    jinja_template *t = NULL;
    jinja_text text = {0};
    repeat(&source, c->before, 1);
    repeat(&source, c->open, c->error ? 5000 : 90);
    repeat(&source, c->inner, 1);
    repeat(&source, c->close, c->error ? 5000 : 90);
    repeat(&source, c->behind, 1);
    int status = jinja_compile(source.data, source.length, "deep", &t);
    if (status >= 0) status = jinja_render(t, variables, NULL, false, &text);
    if ((status < 0) != (c->error != NULL)) fail_msg("status %d: %s", status, lckv_last_error());
    if (c->error && !strstr(lckv_last_error(), c->error)) fail_msg("%s", lckv_last_error());
    jinja_text_free(&text);
    jinja_free(t);
    text_free(&source);
}

static void *run_all(void *unused) {
    (void)unused;
    json_t *variables = make_variables();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) run_case(&CASES[i], variables);
    json_decref(variables);
    return NULL;
}

static void depth_fits_a_small_stack(void **state) {
    (void)state;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, run_all, NULL), 0);
    pthread_join(thread, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(depth_fits_a_small_stack)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
