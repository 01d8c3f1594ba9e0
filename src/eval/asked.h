/* What a task asks of one document: its form's templates, filled in. */
#ifndef EVAL_ASKED_H
#define EVAL_ASKED_H

#include "eval/task.h"

/* texts [text_count]: one, or one a choice; choices [choice_count]; target NULL where the choices are what follows.
 * Of a log-likelihood: one text, no choices, a target, gold 0. */
typedef struct asked {
    char **texts, **choices, *target;
    int text_count, choice_count;
    int gold;
} asked;

/* Errors say what the form wants and the document lacks. */
int asked_of(const eval_task *task, const json_t *document, asked *out);
void asked_free(asked *a);

/* The text that asks (the right one of several), and its right answer. */
const char *asked_text(const asked *a);
const char *asked_answer(const asked *a);

#endif
