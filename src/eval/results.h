/* Results in the layout of the harness's results file: results, groups, group_subtasks, configs, versions, n-shot,
 * higher_is_better, n-samples, and each sample where that is asked for. */
#ifndef EVAL_RESULTS_H
#define EVAL_RESULTS_H

#include "eval/questions.h"

/* Adds a task, whose questions were answered, to *results: a JSON object, begun by the first. */
int eval_results_add(const eval_task *task, const eval_questions *parts, int count, bool samples, json_t *results);

#endif
