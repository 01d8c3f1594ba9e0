/* Questions: the documents of a task as pairs of a context and a continuation, with few-shot examples as in the harness
 * (lm_eval/api/task.py, fewshot_context). A context is the description, then for each example its text, the target
 * delimiter, the answer and the few-shot delimiter, then the document's own text.
 *
 * The examples are those that the harness 0.4.13 takes with the same seed: one random stream per task, advanced for
 * each document. They come from the task's few-shot file, or else from the other documents. */
#ifndef EVAL_QUESTIONS_H
#define EVAL_QUESTIONS_H

#include "eval/loglikelihood.h"
#include "eval/tasks/task_documents.h"

enum { EVAL_MAX_PARTS = 256 }; /* of a group */

/* Pair i is context i and continuation i. A single context (or a single continuation) belongs to all pairs. */
typedef struct eval_question {
    char **contexts, **continuations;
    int context_count, continuation_count;
    int count;            /* pairs */
    int *lengths;         /* [count] characters of each choice, for acc_norm; 0 for a log-likelihood */
    int gold;             /* the correct pair */
    eval_answer *answers; /* [count] set when the pairs were run */
} eval_question;

/* Questions of one task, or of one part of a group. */
typedef struct eval_questions {
    char *name;
    int64_t num_fewshot;
    int64_t documents; /* in the file; items are the first `count` of them */
    eval_question *items;
    int64_t count;
} eval_questions;

typedef struct question_options {
    const char *data_dir;
    int64_t num_fewshot; /* Number of examples; -1: the task's default. */
    double limit;        /* Maximum number of documents per task; below 1, a fraction, rounded up; 0: all. */
    uint32_t fewshot_seed;
} question_options;

/* *out [*count]: one, or one for each part of a group. LCKV_ERROR_FILE: the task has no file in data_dir. Release with
 * eval_questions_free(). */
int eval_questions_make(const eval_task *task, const question_options *options, eval_questions **out, int *count);
/* Of pair i. */
const char *eval_question_context(const eval_question *q, int i);
const char *eval_question_continuation(const eval_question *q, int i);

void eval_questions_free(eval_questions *questions, int count);

#endif
