/* Templates and renderings, see jinja.h. */
#include "text/jinja/jinja.h"

#include "base/text/utf8.h"
#include "text/jinja/run.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE = 1 << 22 }; /* bytes */

struct jinja_template {
    arena arena;
    char *name;
    node *body;
    bool marks_answers;
};

static int compile(jinja_template *t, const char *source, size_t bytes, const char *name) {
    t->arena.limit = MAX_MEMORY;
    t->name = strdup(name);
    REQUIRE(t->name, LCKV_ERROR_MEMORY, "no memory for a template");
    REQUIRE(bytes <= MAX_TEMPLATE, LCKV_ERROR_UNSUPPORTED, "%s: the template exceeds %d bytes", name, MAX_TEMPLATE);
    REQUIRE(utf8_valid(source, bytes), LCKV_ERROR_FORMAT, "%s: the template is not UTF-8", name);
    return template_parse(&t->arena, source, bytes, t->name, &t->body, &t->marks_answers);
}

int jinja_compile(const char *source, size_t bytes, const char *name, jinja_template **out) {
    *out = NULL;
    jinja_template *t = calloc(1, sizeof *t);
    REQUIRE(t, LCKV_ERROR_MEMORY, "no memory for a template");
    int status = compile(t, source, bytes, name);
    if (status < 0)
        jinja_free(t);
    else
        *out = t;
    return status;
}

bool jinja_marks_answers(const jinja_template *t) {
    return t->marks_answers;
}

void jinja_free(jinja_template *t) {
    if (!t) return;
    arena_free(&t->arena);
    free(t->name);
    free(t);
}

static int define_variables(machine *m, const json_t *variables) {
    const char *name;
    json_t *member;
    TRY(scope_open(m, NULL));
    json_object_foreach((json_t *)(uintptr_t)variables, name, member) {
        value v;
        char *copy;
        size_t bytes = strlen(name);
        TAKE(copy, &m->arena, bytes + 1);
        memcpy(copy, name, bytes);
        TRY(value_from_json(&m->arena, member, &v));
        TRY(scope_set(m, copy, bytes, v));
    }
    return scope_open(m, m->scope); /* names that the template defines */
}

static int run(machine *m, const jinja_template *t, const json_t *variables, bool spans) {
    m->text = &m->root;
    TRY(define_variables(m, variables));
    TRY(execute(m, t->body));
    if (spans && m->nested_generation)
        return RAISE_CODE(m, LCKV_ERROR_UNSUPPORTED,
                          "{%% generation %%} inside of a macro, set or filter block is not supported: its position in "
                          "the text is unknown");
    return LCKV_OK;
}

static int hand_out(const machine *m, jinja_text *out) {
    out->text = malloc(m->root.length + 1);
    out->spans = malloc((m->span_count + 1) * sizeof *out->spans);
    REQUIRE(out->text && out->spans, LCKV_ERROR_MEMORY, "no memory for a rendered text");
    if (m->root.length) memcpy(out->text, m->root.data, m->root.length);
    out->text[m->root.length] = 0;
    out->bytes = m->root.length;
    for (size_t i = 0; i < m->span_count; i++) out->spans[i] = (jinja_span){m->spans[i].first, m->spans[i].end};
    out->span_count = m->span_count;
    return LCKV_OK;
}

int jinja_render(const jinja_template *t, const json_t *variables, const struct tm *now, bool spans, jinja_text *out) {
    machine m = {.arena = {.limit = MAX_MEMORY}, .name = t->name, .now = now, .line = 1};
    *out = (jinja_text){0};
    int status = run(&m, t, variables, spans);
    if (status >= 0) status = hand_out(&m, out);
    if (status < 0) jinja_text_free(out);
    arena_free(&m.arena);
    return status;
}

void jinja_text_free(jinja_text *text) {
    free(text->text);
    free(text->spans);
    *text = (jinja_text){0};
}
