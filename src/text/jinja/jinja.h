/* The part of Jinja that published chat templates use, with the settings of transformers' apply_chat_template(): an
 * immutable sandbox with trim_blocks, lstrip_blocks, loop controls, {% generation %}, tojson, raise_exception and
 * strftime_now. Anything else is an error that names the line and the construct. Templates are not trusted, and have
 * limits (machine.h).
 *
 * The lexer and the parser convert a template to a tree (ast.h) once. A machine runs the tree for each conversation.
 * Files and special tokens are in text/chat. Multiple templates, autoescaping and async are not supported. */
#ifndef TEXT_JINJA_JINJA_H
#define TEXT_JINJA_JINJA_H

#include "base/text/json.h"

#include <time.h>

typedef struct jinja_template jinja_template;

/* `name` is quoted in errors, with the line. LCKV_ERROR_FORMAT: a syntax error in the template; LCKV_ERROR_UNSUPPORTED:
 * a statement that is not supported. */
int jinja_compile(const char *source, size_t bytes, const char *name, jinja_template **out);
void jinja_free(jinja_template *t);
bool jinja_marks_answers(const jinja_template *t); /* the template has a {% generation %} */

typedef struct jinja_span {
    size_t first, end; /* byte offsets in the text */
} jinja_span;

typedef struct jinja_text {
    char *text; /* NUL-terminated */
    size_t bytes;
    jinja_span *spans; /* the text of {% generation %} blocks, in order */
    size_t span_count;
} jinja_text;

/* `variables`: an object. now: NULL uses the current time, in local time. Several threads can render a template at the
 * same time. LCKV_ERROR_ARGUMENT: the template called raise_exception(), whose text ends the message.
 * LCKV_ERROR_UNSUPPORTED: an unsupported filter or test, or, with `spans`, a {% generation %} inside of a macro or set
 * block. */
int jinja_render(const jinja_template *t, const json_t *variables, const struct tm *now, bool spans, jinja_text *out);
void jinja_text_free(jinja_text *text);

#endif
