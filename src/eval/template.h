/* Templates of task descriptions: text in which {{expression}} stands for a part of a document (a JSON object).
 *
 * An expression is a field, perhaps a part of it, perhaps sent through filters:
 *
 *     {{question}}   {{choices[0]}}   {{choices.text}}   {{subject|replace('_', ' ')}}   {{text|after_last(' ')|trim}}
 *
 * A filter of a list works on each of its items:
 *     trim, ltrim                  without white space around, before (Python's strip, lstrip)
 *     capitalize                   the first letter large, the others small
 *     replace('a', 'b')            every a becomes b
 *     without('[', ']')            without what stands between the two, on one line, and them
 *     before('x'), before_last('x') what stands before the first, the last x: nothing where there is none
 *     after('x'), after_last('x')  what stands after it: everything where there is none
 *
 * It is the part of Jinja that the harness's tasks need, and no more: no conditions, no loops. */
#ifndef EVAL_TEMPLATE_H
#define EVAL_TEMPLATE_H

#include "base/json.h"
#include "base/text_buffer.h"

/* What an expression (without the braces) means for `document`: a reference of the caller's. */
int template_value(const char *expression, const json_t *document, json_t **out);

/* Sends *text (from malloc) through filters as they stand in an expression: "trim|capitalize". On failure it is freed.
 */
int template_clean(const char *filters, char **text);

/* Appends the text of a template. A whole number is written as such; a list or an object is LCKV_ERROR_FORMAT. */
int template_text(const char *source, const json_t *document, text_buffer *out);

#endif
