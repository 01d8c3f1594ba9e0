/* Metrics of lm-evaluation-harness with their standard errors (lm_eval/api/metrics.py). */
#ifndef EVAL_TASK_METRICS_H
#define EVAL_TASK_METRICS_H

#include "eval/tasks/questions.h"

enum { EVAL_MAX_METRICS = 3 };

typedef struct eval_metric {
    const char *name;
    double value, error; /* error: standard error; NAN if undefined */
    bool higher_is_better;
} eval_metric;

/* Multiple choice: whether the most probable continuation is the correct one; by_character: the most probable one per
 * character. Log-likelihood: whether greedy decoding generates the continuation. */
bool eval_question_correct(const eval_task *task, const eval_question *q);
bool eval_question_correct_by_character(const eval_question *q);

/* Metrics of one part of a task, sorted by name: [*count]. acc and acc_norm: mean over the questions, with the standard
 * error s / sqrt(n), where s uses Bessel's correction. perplexity: exp(-mean log-likelihood), with its standard
 * deviation over the 100,000 bootstrap samples of the harness. */
int eval_metrics_of(const eval_task *task, const eval_questions *part, eval_metric *out, int *count);

/* Metrics of a group: means over all documents, with pooled standard errors. */
void eval_metrics_of_group(const eval_metric (*metrics)[EVAL_MAX_METRICS], int metric_count,
                           const eval_questions *parts, int part_count, eval_metric *out);

#endif
