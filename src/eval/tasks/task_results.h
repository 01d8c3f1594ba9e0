/* Results in the layout of the harness's results file: results, groups, group_subtasks, configs, versions, n-shot,
 * higher_is_better, n-samples, and optionally samples. */
#ifndef EVAL_TASK_RESULTS_H
#define EVAL_TASK_RESULTS_H

#include "eval/tasks/questions.h"

/* Adds a task, whose questions were run, to `results`, a JSON object. */
int eval_results_add(const eval_task *task, const eval_questions *parts, int count, bool samples, json_t *results);

#endif
