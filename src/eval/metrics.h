/* What answers are worth: the harness's metrics with their standard errors (lm_eval/api/metrics.py). */
#ifndef EVAL_METRICS_H
#define EVAL_METRICS_H

#include "eval/questions.h"

enum { EVAL_MOST_METRICS = 3 };

typedef struct eval_metric {
    const char *name;
    double value, error; /* error: NAN where there is none */
    bool higher_is_better;
} eval_metric;

/* Whether the most probable continuation (by character: the most probable one a character) is the right one; of a
 * log-likelihood, whether greedy decoding says it. */
bool eval_question_right(const eval_task *task, const eval_question *q);
bool eval_question_right_by_character(const eval_question *q);

/* The metrics of one part of a task, in order of their names; *count of them. acc and acc_norm: the mean over the
 * questions, and its standard error s / sqrt(n) with Bessel's correction. perplexity: exp(-mean log-likelihood), and
 * the standard deviation of that over 100,000 bootstrap samples, those of the harness. */
int eval_metrics_of(const eval_task *task, const eval_questions *part, eval_metric *out, int *count);

/* Of a group: means over all documents, and the pooled standard error. */
void eval_metrics_of_group(const eval_metric (*metrics)[EVAL_MOST_METRICS], int metric_count,
                           const eval_questions *parts, int part_count, eval_metric *out);

#endif
