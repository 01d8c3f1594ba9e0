/* Templates of task descriptions: text in which {{expression}} is replaced by a part of a document (a JSON object).
 *
 * An expression is a field, optionally a part of it, optionally followed by filters:
 *
 *     {{question}}   {{choices[0]}}   {{choices.text}}   {{subject|replace('_', ' ')}}   {{text|after_last(' ')|trim}}
 *
 * A filter applies to each item of a list:
 *     trim, ltrim                   remove white space at both ends; at the start (Python's strip, lstrip)
 *     capitalize                    first letter in upper case, the others in lower case
 *     replace('a', 'b')             replace every a by b
 *     without('[', ']')             remove both marks and what is between them on one line
 *     before('x'), before_last('x') the text before the first, the last x; empty if there is none
 *     after('x'), after_last('x')   the text after the first, the last x; everything if there is none
 *
 * This is the part of Jinja that the harness's tasks need; conditions and loops are not supported. */
#ifndef EVAL_TASK_TEMPLATE_H
#define EVAL_TASK_TEMPLATE_H

#include "base/text/json.h"
#include "base/text/text_buffer.h"

/* Evaluates an expression (without the braces). The caller owns the reference *out. */
int task_template_value(const char *expression, const json_t *document, json_t **out);

/* Applies filters, written as in an expression ("trim|capitalize"), to *text (malloc). On failure *text is freed. */
int task_template_filter(const char *filters, char **text);

/* Renders a template and appends the text. Integers are written in decimal; a list or an object is LCKV_ERROR_FORMAT.
 */
int task_template_render(const char *source, const json_t *document, text_buffer *out);

#endif
