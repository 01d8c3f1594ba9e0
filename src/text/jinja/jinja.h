/* The part of Jinja that published chat templates use, as transformers' apply_chat_template runs it: an immutable
 * sandbox with trim_blocks, lstrip_blocks, loop controls, {% generation %}, tojson, raise_exception and strftime_now.
 * Anything else is an error that names line and construct; templates are not trusted, and have limits (machine.h).
 *
 * lexer and parser make a tree (ast.h) of a template once; a machine runs it for each conversation. Leaves out: files
 * and special tokens (text/chat_template.h), and of Jinja whatever reaches beyond one template, autoescaping, async. */
#ifndef TEXT_JINJA_JINJA_H
#define TEXT_JINJA_JINJA_H

#include "base/json.h"

#include <time.h>

typedef struct jinja_template jinja_template;

/* `name` is quoted in errors, with the line. LCKV_ERROR_FORMAT: a mistake in the template; LCKV_ERROR_UNSUPPORTED: a
 * statement that is not supported. */
int jinja_compile(const char *source, size_t bytes, const char *name, jinja_template **out);
void jinja_free(jinja_template *t);
bool jinja_marks_answers(const jinja_template *t); /* it has a {% generation %} */

typedef struct jinja_span {
    size_t first, end; /* bytes of the text */
} jinja_span;

typedef struct jinja_text {
    char *text; /* NUL behind */
    size_t bytes;
    jinja_span *spans; /* what {% generation %} blocks rendered, in order */
    size_t span_count;
} jinja_text;

/* `variables`: an object. now NULL: the clock, in local time. One template can be rendered by several threads at once.
 * LCKV_ERROR_ARGUMENT: the template called raise_exception(), whose words end the message. LCKV_ERROR_UNSUPPORTED: a
 * filter or test that is not supported, or with `spans` a {% generation %} inside of a macro or set block. */
int jinja_render(const jinja_template *t, const json_t *variables, const struct tm *now, bool spans, jinja_text *out);
void jinja_text_free(jinja_text *text);

#endif
