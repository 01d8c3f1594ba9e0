/* The prompt that a task makes of one document: the templates of its form, filled in. */
#ifndef EVAL_TASK_PROMPT_H
#define EVAL_TASK_PROMPT_H

#include "eval/tasks/task.h"

/* Multiple choice: texts [text_count] has one text, or one per choice; choices [choice_count]; `target` is the
 * continuation of each text, or NULL if the choices are the continuations. Log-likelihood: one text, a target, no
 * choices, gold 0. */
typedef struct task_prompt {
    char **texts, **choices, *target;
    int text_count, choice_count;
    int gold; /* index of the correct choice */
} task_prompt;

/* Errors name what the form expects and the document lacks. */
int task_prompt_make(const eval_task *task, const json_t *document, task_prompt *out);
void task_prompt_free(task_prompt *a);

/* The text before the answer (with several texts, the correct one), and the correct answer. */
const char *task_prompt_text(const task_prompt *a);
const char *task_prompt_answer(const task_prompt *a);

#endif
